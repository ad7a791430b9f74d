// What Qwen2 and Qwen3 have in common. Private to trainer/model/families.
#ifndef RMJ_TRAINER_MODEL_FAMILIES_QWEN_H
#define RMJ_TRAINER_MODEL_FAMILIES_QWEN_H

#include "trainer/model/families/families_list.h"

// The keys that rmj_qwen_read_windows reads.
#define RMJ_QWEN_WINDOW_KEYS "use_sliding_window", "sliding_window", "max_window_layers", "layer_types"

// Windows in the layers that layer_types names, or in those from max_window_layers on; none without
// use_sliding_window.
RMJ_MUST_USE enum rmj_status rmj_qwen_read_windows(const struct rmj_config_reader *r, struct rmj_model_config *config);

#endif
