// Reading a base model's safetensors into the flat parameter space, and writing the trained one as a Hugging Face
// directory.
#ifndef RMJ_TRAINER_MODEL_CHECKPOINT_IO_H
#define RMJ_TRAINER_MODEL_CHECKPOINT_IO_H

#include <stdint.h>

#include "base/status.h"
#include "storage/digest.h"
#include "trainer/model/config.h"
#include "trainer/model/layout.h"

enum rmj_head_init {
    RMJ_HEAD_NORMAL,
    RMJ_HEAD_ZEROS,
    RMJ_HEAD_BASE,
    RMJ_HEAD_LATER, // zero, for the caller to fill
};

// Checks headers only: every tensor there, its dtype, shape, offsets inside the file, none overlapping; one file or
// many (model.safetensors.index.json). No weights are read. RMJ_DATA names file, tensor and the mend.
RMJ_MUST_USE enum rmj_status rmj_model_files_check(const char *directory, const struct rmj_model_config *config,
                                                   struct rmj_error *err);
// RMJ_DATA when the files hold no score.weight, which RMJ_HEAD_BASE needs. Headers only.
RMJ_MUST_USE enum rmj_status rmj_model_head_check(const char *directory, struct rmj_error *err);
enum rmj_model_part {
    RMJ_MODEL_WHOLE,      // config.json, the tokenizer's, the lineage's and the weight files
    RMJ_MODEL_COMPANIONS, // all but the weights: quick, whatever the model's size
};
// SHA-256 over the names and digests of the files, in name order.
RMJ_MUST_USE enum rmj_status rmj_model_files_digest(const char *directory, enum rmj_model_part part,
                                                    struct rmj_digest *digest, struct rmj_error *err);
struct rmj_weights_options {
    const char *directory;
    const struct rmj_model_config *config;
    const struct rmj_layout *layout;
    enum rmj_head_init head_init;
    uint64_t seed;
};
// Fills weights [layout->weight_count] float32 (F32, BF16 and F16 files); adapters of the layout get their start
// values. A pad row added by the plan is the mean of the embedding's rows. RMJ_DATA as above; not-a-number or infinity
// in a weight is refused with its tensor and index. Of an adapter directory (adapter.h): its base model's with the
// adapters merged, and the adapter's head; head_init is not used.
RMJ_MUST_USE enum rmj_status rmj_weights_load(const struct rmj_weights_options *options, float *weights,
                                              struct rmj_error *err);

struct rmj_export_options {
    const char *base_directory;      // config.json is taken over from here
    const char *tokenizer_directory; // and the tokenizer's files from here; NULL: from the base directory
    const char *directory;           // made; must not exist
    const struct rmj_model_config *config;
    const struct rmj_layout *layout;
    const float *weights;
    int32_t bos_token, eos_token; // of the tokenizer, -1 for none; read where tokenizer_directory is another one
    int32_t pad_token;
    const char *pad_text;          // of a pad token that the tokenizer does not have; NULL: a free name
    int vocabulary_grows;          // the pad token is a row after the base model's vocabulary: the layout's last
    const char *chat_template;     // template text to write, NULL to keep the base model's own
    uint64_t shard_size_bytes_max; // 0: 5 GB
    const char *adapter_base;      // not NULL: a PEFT adapter directory for the base model of this name
};
// Adapters of the layout are merged into their matrices (rmj_lora_merge), or, with adapter_base, written alone with the
// head. Writes *ForSequenceClassification, num_labels 1, float32 safetensors, tokenizer files, chat template. The bytes
// are a function of the arguments alone. A pad token that the base model's tokenizer does not have (a new row, or a
// spare one of the embedding) is added to tokenizer.json and its configs.
RMJ_MUST_USE enum rmj_status rmj_model_export(const struct rmj_export_options *options, struct rmj_error *err);

#endif
