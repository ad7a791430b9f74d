// What a preparation costs, with a study held to 1 MiB: prints rows, pairs, seconds and the peak of resident memory as
// JSON. usage: rmjob-prepare-cost SPEC.json DIRECTORY (for the spool and the store)
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "proto/text/text_format.h"
#include "trainer/data/prepare.h"

static enum rmj_status prepare(const Rmjob__V1__JobSpec *spec, const char *directory,
                               Rmjob__V1__PreparedRequest **result, struct rmj_error *err)
{
    struct rmj_store *store;
    char *path = rmj_fs_join(directory, "store"), *work = rmj_fs_join(directory, "work");
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_fs_make_directories(work, 0700, err));
    RMJ_GO(rmj_store_open(&store, path, 1, NULL, err));
    status = rmj_prepare(spec, store, "job",
                         &(struct rmj_prepare_options){.directory = work, .study_bytes_max = 1 << 20}, result, err);
    rmj_store_close(store);
out:
    free(path);
    free(work);
    return status;
}

int main(int argc, char **argv)
{
    struct rmj_error err = {0};
    struct rmj_buf text;
    struct rusage usage;
    ProtobufCMessage *spec = NULL;
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_text_result *parsed = rmj_text_result_create();
    double began = rmj_clock_mono_seconds();
    rmj_buf_init(&text, 1 << 20);
    if (argc != 3 || rmj_fs_read(argv[1], &text, &err) != RMJ_OK ||
        rmj_json_parse(&rmjob__v1__job_spec__descriptor, argv[1], text.bytes, text.size, &spec, parsed, &err) !=
            RMJ_OK ||
        prepare((const Rmjob__V1__JobSpec *)spec, argv[2], &result, &err) != RMJ_OK) {
        fprintf(stderr, "usage: rmjob-prepare-cost SPEC.json DIRECTORY; %s\n", err.message);
        return 2;
    }
    for (size_t i = 0; i < result->n_findings; i++) {
        fprintf(stderr, "%s\n", result->findings[i]->message);
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"rows\": %llu, \"pairs\": %llu, \"seconds\": %.3f, \"peak_bytes\": %ld, \"plan\": \"%s\"}\n",
           (unsigned long long)result->data->rows, (unsigned long long)result->data->pairs,
           rmj_clock_mono_seconds() - began, usage.ru_maxrss * 1024, result->plan == NULL ? "" : result->plan->digest);
    int good = result->plan != NULL;
    protobuf_c_message_free_unpacked(&result->base, NULL);
    protobuf_c_message_free_unpacked(spec, NULL);
    rmj_text_result_destroy(parsed);
    rmj_buf_deinit(&text);
    return good ? 0 : 6;
}
