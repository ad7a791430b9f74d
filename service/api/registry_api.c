// rmjob.v1.Registry: what was published. The index in the database is complete: a version is in it before its job is
// SUCCEEDED, and a version object that rmjobd was killed over is found again when the job is published once more.
#include <string.h>

#include "service/api/internal.h"
#include "service/registry/publish.h"

void on_list_models(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    Rmjob__V1__ListModelsResponse *models = NULL;
    struct rmj_error err = {0};
    if (rmj_db_models(service->db, ((const Rmjob__V1__ListModelsRequest *)request)->name, &models, &err) != RMJ_OK) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    rmj_call_reply(call, &models->base);
    rmjob__v1__list_models_response__free_unpacked(models, NULL);
}

void on_resolve(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    struct rmj_model_reference reference;
    Rmjob__V1__ModelVersion *version = NULL;
    struct rmj_error err = {0};
    enum rmj_status status =
        rmj_model_reference_parse(((const Rmjob__V1__ResolveRequest *)request)->reference, &reference, &err);
    if (status == RMJ_OK && reference.alias[0] != '\0') {
        status = rmj_db_alias(service->db, reference.name, reference.alias, &reference.version, &err);
    }
    if (status == RMJ_OK) {
        status = rmj_db_version(service->db, reference.name, reference.version, &version, &err);
    }
    if (status != RMJ_OK || version == NULL) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    rmj_call_reply(call, &version->base);
    rmjob__v1__model_version__free_unpacked(version, NULL);
}
