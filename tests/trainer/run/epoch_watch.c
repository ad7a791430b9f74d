// One epoch under the data watch, in this process: prints "alarm NAME step STEP pairs N accuracy A" and, when a file is
// named, writes the margins: a record a pair in the order of training (row uint64, file uint32, margin float32).
// usage: rmjob-epoch-watch SPEC.json DIRECTORY [MARGINS]
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/fs.h"
#include "proto/text/text_format.h"
#include "tests/trainer/run/epoch.h"
#include "trainer/run/monitor.h"

struct record {
    uint64_t row;
    uint32_t file;
    float margin;
};

struct watched {
    struct rmj_monitor monitor;
    struct rmj_monitor_state *state;
    FILE *margins; // NULL when not wanted
    uint64_t pairs, right;
};

static void begin(struct watched *watched, const struct rmj_plan *plan)
{
    struct rmj_error err = {0};
    if (rmj_monitor_of_plan(&watched->monitor, plan, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    watched->state = calloc(1, rmj_monitor_state_bytes(&watched->monitor));
    RMJ_ASSERT(watched->state != NULL);
}

static int watch_step(void *context, const struct epoch_step *epoch)
{
    struct watched *watched = context;
    const struct rmj_plan_step *step = &epoch->step;
    double sum = 0, square = 0;
    if (watched->state == NULL) {
        begin(watched, epoch->plan);
    }
    for (uint64_t i = step->first_pair; i < step->first_pair + step->pair_count; i++) {
        double margin = (double)epoch->margins[i];
        const char *path;
        struct record record = {.file = rmj_plan_pair_file(epoch->plan, i), .margin = epoch->margins[i]};
        rmj_plan_pair_source(epoch->plan, i, &path, &record.row);
        sum += margin;
        square += margin * margin;
        watched->right += margin > 0;
        if (watched->margins != NULL && fwrite(&record, sizeof record, 1, watched->margins) != 1) {
            perror("margins");
            exit(1);
        }
    }
    watched->pairs += step->pair_count;
    double mean = sum / step->pair_count, variance = square / step->pair_count - mean * mean;
    rmj_monitor_step(&watched->monitor, watched->state,
                     &(struct rmj_monitor_step){.step = epoch->number,
                                                .first_pair = step->first_pair,
                                                .pair_count = step->pair_count,
                                                .margin = mean,
                                                .variance = variance > 0 ? variance : 0,
                                                .margins = epoch->margins});
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"none", "fall", "disagreement", "source", "no-signal", "range"};
    struct rmj_error err = {0};
    struct rmj_buf text;
    ProtobufCMessage *spec = NULL;
    struct rmj_text_result *result = rmj_text_result_create();
    struct watched watched = {0};
    rmj_buf_init(&text, 1 << 20);
    if (argc < 3 || result == NULL || rmj_fs_read(argv[1], &text, &err) != RMJ_OK ||
        rmj_json_parse(&rmjob__v1__job_spec__descriptor, argv[1], text.bytes, text.size, &spec, result, &err) !=
            RMJ_OK) {
        fprintf(stderr, "usage: rmjob-epoch-watch SPEC.json DIRECTORY [MARGINS]; %s\n", err.message);
        return 2;
    }
    if (argc > 3 && (watched.margins = fopen(argv[3], "wb")) == NULL) {
        perror(argv[3]);
        return 1;
    }
    epoch_run((const Rmjob__V1__JobSpec *)spec, argv[2], 1, watch_step, &watched);
    printf("alarm %s step %u pairs %llu accuracy %.4f\n", names[watched.state->alarm], watched.state->alarm_step,
           (unsigned long long)watched.pairs, (double)watched.right / (double)watched.pairs);
    int failed = watched.margins != NULL && fclose(watched.margins) != 0;
    rmj_monitor_destroy(&watched.monitor);
    free(watched.state);
    protobuf_c_message_free_unpacked(spec, NULL);
    rmj_text_result_destroy(result);
    rmj_buf_deinit(&text);
    return failed;
}
