// Sorts more records than fit in memory: sorted runs in one unlinked file, merged when they are read.
#ifndef RMJ_TRAINER_DATA_STUDY_SORT_H
#define RMJ_TRAINER_DATA_STUDY_SORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

// Records of a fixed number of words, in the order of their words.
struct rmj_sort;
#define RMJ_SORT_WORDS_MAX 4u

// word_count: of a record, 1 to RMJ_SORT_WORDS_MAX. directory: for the file, NULL for anonymous memory.
RMJ_MUST_USE enum rmj_status rmj_sort_create(struct rmj_sort **sort, size_t word_count, const char *directory,
                                             size_t memory_bytes, struct rmj_error *err);
void rmj_sort_destroy(struct rmj_sort *sort);
RMJ_MUST_USE enum rmj_status rmj_sort_add(struct rmj_sort *sort, const uint64_t *record, struct rmj_error *err);
// Every record in order, after the last was added; *record is NULL at the end and valid until the next call.
RMJ_MUST_USE enum rmj_status rmj_sort_next(struct rmj_sort *sort, const uint64_t **record, struct rmj_error *err);
// Empty again, for other records.
void rmj_sort_clear(struct rmj_sort *sort);

// An unlinked file in the directory, or anonymous memory for NULL.
RMJ_MUST_USE enum rmj_status rmj_study_temporary(int *fd, const char *directory, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_study_write(int fd, const void *bytes, size_t size, uint64_t offset,
                                             struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_study_read(int fd, void *bytes, size_t size, uint64_t offset, struct rmj_error *err);

#endif
