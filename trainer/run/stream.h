// The training stream as a held-out set (promise P6): every pair is scored before it is learnt, so accuracy and margin
// by source and by window of the epoch are unbiased estimates, with confidence. From them: which source falls.
//
// An epoch is cut into RMJ_STREAM_WINDOWS windows of steps. A cell holds the counts of one source in one window. The
// cells are part of the replicated training state: equal on every rank, rolled back with the weights.
#ifndef RMJ_TRAINER_RUN_STREAM_H
#define RMJ_TRAINER_RUN_STREAM_H

#include <stddef.h>
#include <stdint.h>

#define RMJ_STREAM_WINDOWS 16u
#define RMJ_STREAM_SOURCES_MAX 64u // more files than that share cells, consecutive ones together

struct rmj_stream_cell {
    uint64_t pairs;
    uint64_t right_twice; // twice the pairs whose chosen side scored higher; equal scores count once
    double margin, square;
};
// Accuracy and mean margin of some cells, with the 95 % interval (Wilson 1927) and the margin's standard error.
struct rmj_stream_estimate {
    uint64_t pairs;
    double accuracy, low, high;
    double margin, margin_error;
};

uint32_t rmj_stream_source_count(uint32_t file_count);
uint32_t rmj_stream_source(uint32_t file_count, uint32_t file);
// Bytes of the cells, [source_count][RMJ_STREAM_WINDOWS]; they begin as zeros.
size_t rmj_stream_bytes(uint32_t file_count);
// Window of a 1-based step, and its first and last step.
uint32_t rmj_stream_window(uint32_t step, uint32_t step_count);
void rmj_stream_window_steps(uint32_t window, uint32_t step_count, uint32_t *first, uint32_t *last);
void rmj_stream_take(struct rmj_stream_cell *cell, float margin);
// Over windows [first, end) of one source.
struct rmj_stream_estimate rmj_stream_estimate(const struct rmj_stream_cell *cells, uint32_t source, uint32_t first,
                                               uint32_t end);

struct rmj_stream_fall {
    uint32_t source;
    uint32_t split; // the fall is between windows [from, split) and [split, end)
    uint32_t from, end;
    int others_hold; // 1: the other sources did not fall over the same split; 0: there are none, or they fell too
    double errors;   // how many standard errors
    double size;     // of the fall, as a share of pairs
};
// After the last step of window end - 1: 1 when a source's accuracy has fallen by five standard errors, and by five
// points at least. The most significant fall is given. The first window is left out: a model learns its direction
// there. Nothing is lost by counting signs alone: margins shrink and grow with the learning rate, signs do not.
int rmj_stream_falls(const struct rmj_stream_cell *cells, uint32_t source_count, uint32_t end,
                     struct rmj_stream_fall *fall);

// The same pairs by place: each source's rows in RMJ_STREAM_BLOCKS ranges of equal length.
#define RMJ_STREAM_BLOCKS 16u
struct rmj_stream_block {
    uint64_t pairs, right_twice;
};
size_t rmj_stream_blocks_bytes(uint32_t file_count); // [source_count][RMJ_STREAM_BLOCKS], zeros at first
uint32_t rmj_stream_block(uint64_t row, uint64_t row_count);

struct rmj_stream_range {
    uint32_t source, first, end; // blocks
    double errors;               // standard errors under a half
    uint64_t pairs, other_pairs;
    double accuracy, other_accuracy;
};
// 1 when some run of blocks is right less often than chance by five standard errors while all other rows are right more
// often, by three: swapped sides. Labels that are right cannot be that wrong, whatever their noise; a model that has
// learnt nothing, or leans one way everywhere, has no others that contradict. The most significant run is given.
int rmj_stream_range(const struct rmj_stream_block *blocks, uint32_t source_count, struct rmj_stream_range *range);
// What is counted of a run that was found, by now; an accuracy over no pairs is 0.
struct rmj_stream_range rmj_stream_range_of(const struct rmj_stream_block *blocks, uint32_t source_count,
                                            uint32_t source, uint32_t first, uint32_t end);

#endif
