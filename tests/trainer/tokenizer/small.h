// Small tokenizers for tests: tokenizer.json made from text in a folder of its own.
#ifndef RMJ_TESTS_TRAINER_TOKENIZER_SMALL_H
#define RMJ_TESTS_TRAINER_TOKENIZER_SMALL_H

#include <stddef.h>

#include "trainer/tokenizer/tokenizer.h"

// Writes `bytes` as a folder's file `name`; the folder is made on first use and removed at exit.
void small_write(const char *name, const char *bytes, size_t size);
void small_remove(const char *name);
const char *small_directory(void);
// Opens a tokenizer.json of `json`, which has to be good.
struct rmj_tokenizer *small_open(const char *json);
// Fails the test unless `text` has exactly these ids, given as "1 2 3".
void small_expect(const struct rmj_tokenizer *tokenizer, const char *text, const char *ids);

#endif
