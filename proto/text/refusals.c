#include "proto/text/refusals.h"

#include <stddef.h>
#include <string.h>

#include "base/status.h"

static const char raw_scores[] =
    "scores are published raw: nothing stands between the scalar head and whoever reads it, no "
    "normalization, scaling, clipping or sigmoid; mean and spread are in the report";
static const char one_epoch[] =
    "reward models are trained for exactly one epoch, so there is nothing to set beside train.epochs: 1";

// A word anywhere in the name or the value, small letters.
static const struct {
    const char *word;
    const char *reason;
} refusals[] = {
    {"normali", raw_scores},         {"standardi", raw_scores},   {"whiten", raw_scores},
    {"sigmoid", raw_scores},         {"reward_scal", raw_scores}, {"score_scal", raw_scores},
    {"scale_reward", raw_scores},    {"scale_score", raw_scores}, {"rescal", raw_scores},
    {"center_", raw_scores},         {"centre_", raw_scores},     {"reward_clip", raw_scores},
    {"clip_reward", raw_scores},     {"score_clip", raw_scores},  {"clip_score", raw_scores},
    {"reward_mean", raw_scores},     {"reward_std", raw_scores},  {"use_activation", raw_scores},
    {"num_train_epochs", one_epoch}, {"max_epochs", one_epoch},   {"num_epochs", one_epoch},
};

// Small letters, and camelCase as snake_case.
static void fold(char *out, size_t size, const char *text)
{
    size_t used = 0;
    for (; *text != '\0' && used + 3 < size; text++) {
        if (*text >= 'A' && *text <= 'Z') {
            if (used > 0) {
                out[used++] = '_';
            }
            out[used++] = (char)(*text - 'A' + 'a');
        } else {
            out[used++] = *text == '-' ? '_' : *text;
        }
    }
    out[used] = '\0';
}

const char *rmj_text_refusal(const char *name, const char *value)
{
    char folded_name[128], folded_value[64] = "";
    fold(folded_name, sizeof folded_name, name);
    if (value != NULL) {
        fold(folded_value, sizeof folded_value, value);
    }
    for (size_t i = 0; i < RMJ_COUNT(refusals); i++) {
        if (strstr(folded_name, refusals[i].word) != NULL || strstr(folded_value, refusals[i].word) != NULL) {
            return refusals[i].reason;
        }
    }
    return NULL;
}
