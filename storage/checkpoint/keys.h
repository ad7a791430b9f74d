// Keys of a checkpoint's objects. Inside storage/checkpoint only.
#ifndef RMJ_STORAGE_CHECKPOINT_KEYS_H
#define RMJ_STORAGE_CHECKPOINT_KEYS_H

#include "base/status.h"

#define CHECKPOINT_KEY_SIZE 1024
#define MANIFEST_SIZE_BYTES_MAX (64u << 20)

// key[CHECKPOINT_KEY_SIZE] = prefix/folder/name; prefix may be empty.
enum rmj_status checkpoint_key(char *key, const char *prefix, const char *folder, const char *name,
                               struct rmj_error *err);

#endif
