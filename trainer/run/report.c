// What training finds wrong with the data, told with its source: what, where, likely, mend.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/run/trainer.h"

#define LINE_SIZE 512

void rmj_fail_not_finite(struct rmj_trainer *trainer, uint32_t step, uint32_t index)
{
    struct rmj_pack pack;
    char what[LINE_SIZE], where[LINE_SIZE];
    const char *first_path = "?", *last_path = "?";
    uint64_t first_row = 0, last_row = 0;
    rmj_plan_pack(trainer->plan, step, index, &pack);
    if (pack.item_count > 0) {
        rmj_plan_pair_source(trainer->plan, pack.items[0].id, &first_path, &first_row);
        rmj_plan_pair_source(trainer->plan, pack.items[pack.item_count - 1].id, &last_path, &last_row);
    }
    snprintf(what, sizeof what, "what   step %u: a score or gradient of pack %u is not a number or infinite", step,
             index);
    snprintf(where, sizeof where, "where  %u pairs of the pack, from %.150s row %llu to %.150s row %llu",
             pack.item_count, first_path, (unsigned long long)first_row, last_path, (unsigned long long)last_row);
    const char *lines[] = {
        what, where, "likely weights that overflow on these texts, or a learning rate that is too high",
        "mend   look at these rows; if they are sound, lower train.learning_rate and submit a new job"};
    char reason[LINE_SIZE];
    snprintf(reason, sizeof reason, "not a number in step %u, pack %u (%.200s row %llu and on)", step, index,
             first_path, (unsigned long long)first_row);
    rmj_link_fail_job(trainer->link, trainer->generation.number, RMJOB__V1__JOB_STATE__FAILED_DATA, reason, lines,
                      RMJ_COUNT(lines));
}

// A consumed pair at its place in the sources.
struct placed {
    const char *path;
    uint64_t row;
    float margin;
};

static int by_place(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order != 0 ? order : (x->row > y->row) - (x->row < y->row);
}

// The run of rows of one file whose negative margins weigh most (maximum subarray, Kadane).
static void worst_run(const struct placed *pairs, size_t count, size_t *first, size_t *end)
{
    double best = 0, sum = 0;
    size_t start = 0;
    *first = *end = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(pairs[i].path, pairs[i - 1].path) != 0) {
            sum = 0;
            start = i;
        }
        sum -= (double)pairs[i].margin;
        if (sum <= 0) {
            sum = 0;
            start = i + 1;
        } else if (sum > best) {
            best = sum;
            *first = start;
            *end = i + 1;
        }
    }
}

static void describe_run(struct rmj_trainer *trainer, char *where, size_t size)
{
    size_t count = trainer->state->pairs_consumed, first, end;
    struct placed *pairs = calloc(count == 0 ? 1 : count, sizeof *pairs);
    snprintf(where, size, "where  no single range of rows stands out");
    if (pairs == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        rmj_plan_pair_source(trainer->plan, i, &pairs[i].path, &pairs[i].row);
        pairs[i].margin = trainer->pair_margins[i];
    }
    qsort(pairs, count, sizeof *pairs, by_place);
    worst_run(pairs, count, &first, &end);
    if (end > first) {
        double sum = 0;
        for (size_t i = first; i < end; i++) {
            sum += (double)pairs[i].margin;
        }
        snprintf(where, size, "where  %.300s rows %llu-%llu: margin %.3f over %zu pairs", pairs[first].path,
                 (unsigned long long)pairs[first].row, (unsigned long long)pairs[end - 1].row,
                 sum / (double)(end - first), end - first);
    }
    free(pairs);
}

void rmj_fail_margin(struct rmj_trainer *trainer, uint32_t step)
{
    const struct rmj_watch *watch = &trainer->state->watch;
    char what[LINE_SIZE], where[LINE_SIZE], reason[LINE_SIZE];
    uint32_t over = watch->steps - watch->rise_at;
    snprintf(what, sizeof what, "what   margin fell from %.3f to %.3f over %u steps", watch->from, watch->recent, over);
    describe_run(trainer, where, sizeof where);
    snprintf(reason, sizeof reason, "margin fell from %.3f to %.3f by step %u: the data changed, not the training",
             watch->from, watch->recent, step);
    const char *lines[] = {what, where, "likely chosen and rejected swapped, or labels without meaning, in that range",
                           "mend   fix the rows and submit a new job; train.margin_watch: false goes on regardless"};
    rmj_link_fail_job(trainer->link, trainer->generation.number, RMJOB__V1__JOB_STATE__FAILED_DATA, reason, lines,
                      RMJ_COUNT(lines));
}
