// Every method of the service and who may call it.
#include <string.h>

#include "base/text.h"
#include "service/api/internal.h"

#define METHOD(service_name, name, request_type, response_type, is_stream, function)                                   \
    {                                                                                                                  \
        .service = "rmjob.v1." service_name, .method = name, .request = &rmjob__v1__##request_type##__descriptor,      \
        .response = &rmjob__v1__##response_type##__descriptor, .server_streaming = is_stream, .handler = function      \
    }

// `context` is filled in when the service starts.
const struct rmj_rpc_method service_methods[] = {
    METHOD("Jobs", "Submit", submit_request, submit_response, 0, on_submit),
    METHOD("Jobs", "Validate", validate_request, validate_response, 0, on_validate),
    METHOD("Jobs", "Get", get_job_request, job, 0, on_get),
    METHOD("Jobs", "List", list_jobs_request, list_jobs_response, 0, on_list),
    METHOD("Jobs", "Watch", watch_request, event, 1, on_watch),
    METHOD("Jobs", "Logs", logs_request, log_chunk, 1, on_logs),
    METHOD("Jobs", "Cancel", cancel_request, job, 0, on_cancel),
    METHOD("Jobs", "Resize", resize_request, job, 0, on_resize),
    METHOD("Jobs", "GetReport", get_report_request, get_report_response, 0, on_get_report),
    METHOD("Jobs", "GetPolicy", get_policy_request, policy, 0, on_get_policy),
    METHOD("Jobs", "SetPolicy", set_policy_request, policy, 0, on_set_policy),
    METHOD("Jobs", "GetServerInfo", server_info_request, server_info, 0, on_server_info),
    METHOD("Registry", "ListModels", list_models_request, list_models_response, 0, on_list_models),
    METHOD("Registry", "Resolve", resolve_request, model_version, 0, on_resolve),
    METHOD("Ranks", "GetTask", task_request, task_spec, 0, on_get_task),
    METHOD("Ranks", "Preparing", preparing_request, ack, 0, on_preparing),
    METHOD("Ranks", "Prepared", prepared_request, ack, 0, on_prepared),
    METHOD("Ranks", "Attach", attach_request, directive, 1, on_attach),
    METHOD("Ranks", "Ready", ready_request, ack, 0, on_ready),
    METHOD("Ranks", "Heartbeat", heartbeat_request, ack, 0, on_heartbeat),
    METHOD("Ranks", "StepCommitted", step_request, ack, 0, on_step),
    METHOD("Ranks", "ManifestCommitted", manifest_request, ack, 0, on_manifest),
    METHOD("Ranks", "Evaluated", evaluated_request, ack, 0, on_evaluated),
    METHOD("Ranks", "FailJob", fail_job_request, ack, 0, on_fail_job),
    METHOD("Ranks", "WarnJob", warn_job_request, ack, 0, on_warn_job),
};
const size_t service_method_count = RMJ_COUNT(service_methods);

// The socket's directory is its owner's alone (0700), so whoever comes by it is the owner. On the network the token
// decides. Ranks have a token of their own job, which their handlers check against the job they speak of.
enum rmj_status service_authorize(void *context, const char *full_method, const char *bearer, const char *peer,
                                  struct rmj_error *err)
{
    const struct rmj_service *service = context;
    if (peer != NULL && strncmp(peer, "unix:", 5) == 0) {
        return RMJ_OK;
    }
    if (strncmp(full_method, "/rmjob.v1.Ranks/", 16) == 0) {
        return bearer != NULL ? RMJ_OK : rmj_fail(err, RMJ_DENIED, "a rank's token is missing");
    }
    if (bearer == NULL) {
        return rmj_fail(err, RMJ_DENIED, "a token is needed on a network address; set RMJOB_TOKEN");
    }
    if (service->token == NULL || !rmj_text_equal_secret(bearer, service->token)) {
        return rmj_fail(err, RMJ_DENIED, "the token is not the one of this service");
    }
    return RMJ_OK;
}
