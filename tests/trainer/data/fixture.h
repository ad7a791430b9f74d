// A tiny Llama model with a byte-level-complete tokenizer, files of rows, and specs over them, for tests of
// trainer/data and trainer/eval.
#ifndef RMJ_TESTS_TRAINER_DATA_FIXTURE_H
#define RMJ_TESTS_TRAINER_DATA_FIXTURE_H

#include <stddef.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"

#define FIXTURE_VOCABULARY 286u // as many as the tokenizer has
#define FIXTURE_POSITIONS 512u

// Makes a new directory below $TMPDIR; remove it with fixture_remove.
char *fixture_directory(void);
void fixture_remove(char *directory);
// directory/name; free it.
char *fixture_write(const char *directory, const char *name, const void *bytes, size_t size);
char *fixture_write_text(const char *directory, const char *name, const char *text);
// A model directory below `directory`; free the path. seed: of its weights. with_score: a score.weight and
// *ForSequenceClassification.
char *fixture_model(const char *directory, const char *name, unsigned seed, int with_score);
// The same with more embedding rows than the tokenizer has tokens.
char *fixture_model_with_rows(const char *directory, const char *name, unsigned seed, int with_score,
                              unsigned row_count);

// A spec over one training file. Everything in it is heap memory; change fields at will.
Rmjob__V1__JobSpec *fixture_spec(const char *model, const char *train_path);
void fixture_spec_free(Rmjob__V1__JobSpec *spec);
void fixture_set_heldout(Rmjob__V1__JobSpec *spec, const char *path);
void fixture_set_benchmark(Rmjob__V1__JobSpec *spec, const char *path);
// 1 when some finding has `text` in its message; prints all of them when none has.
int fixture_has_finding(Rmjob__V1__Finding *const *findings, size_t count, const char *text);
size_t fixture_error_count(Rmjob__V1__Finding *const *findings, size_t count);
// Folder of real models and data, or NULL after printing SKIP.
char *fixture_data(void);

#endif
