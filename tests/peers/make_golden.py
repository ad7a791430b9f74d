#!/usr/bin/env python3
"""Tiny random models of every family with what transformers computes for them in float64: scores, gradients, AdamW steps.

usage: make_golden.py FOLDER [NAME ...]      makes FOLDER/NAME/{config.json,model.safetensors,batch.json,expected.safetensors}
       make_golden.py --list

The layout is that of shared/data/golden, which `rmjob model verify` reads. Weights are larger than a fresh model's and norms and
biases are random, so that none of them can be left out unseen; sides are longer than the windows and than the original lengths of
the scaled rotary positions. The same name gives the same numbers.
"""
import copy
import json
import os
import sys
import zlib

BASE = dict(vocab_size=200, hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=199, num_labels=1, use_cache=False, rms_norm_eps=1e-3)
OPTIMIZER = dict(name="AdamW", lr=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01, decay_applies_to="every parameter",
                 clip_global_norm=1.0, steps=3)


def rope(kind="default", theta=1e4, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **more))


def factors(first, step, count=6):
    return [first + step * i for i in range(count)]


def gemma3(full, **more):
    return dict(rope_parameters=dict(full_attention=full, sliding_attention=dict(rope_type="default", rope_theta=1e4)), **more)


def layers(kinds):
    return [{"f": "full_attention", "s": "sliding_attention"}[k] for k in kinds]


# name: (family, config over BASE, how it is written).
# "old": rope_theta and rope_scaling at the top and no layer_types, as most public configs still have them; "plain": without
# layer_types; "causal": as a language model without a head, which the expected file then holds; "fresh": as a new model begins, small
# weights, norms of one and biases of zero, which AdamW's steps are then all there is of.
CASES = {
    "llama_plain": ("Llama", rope(), "old"),
    "llama_biases": ("Llama", dict(attention_bias=True, mlp_bias=True, **rope()), ""),
    "llama_linear": ("Llama", dict(head_dim=20, **rope("linear", factor=2.5)), "old"),
    "llama_dynamic": ("Llama", rope("dynamic", factor=1.7), "old"),
    "llama_yarn": ("Llama", rope("yarn", factor=4.0, original_max_position_embeddings=64), "old"),
    "llama_yarn_all": ("Llama", dict(head_dim=32, **rope("yarn", 5e5, factor=40, original_max_position_embeddings=32, beta_fast=16,
                                                         beta_slow=2, mscale=1.2, mscale_all_dim=0.7, truncate=False)), ""),
    "llama_yarn_factor": ("Llama", dict(head_dim=32, **rope("yarn", 5e5, factor=8, original_max_position_embeddings=32,
                                                            attention_factor=1.3)), ""),
    "llama_llama3": ("Llama", rope("llama3", 5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                   original_max_position_embeddings=64), "old"),
    "llama_longrope": ("Llama", rope("longrope", factor=4.0, original_max_position_embeddings=128, short_factor=factors(1.0, 0.1),
                                     long_factor=factors(2.0, 0.5)), ""),
    "llama_tied": ("Llama", dict(tie_word_embeddings=True, num_key_value_heads=1), ""),
    "llama_causal": ("Llama", dict(num_key_value_heads=4), "causal"),
    "llama_causal_tied": ("Llama", dict(tie_word_embeddings=True), "causal"),
    "llama_fresh": ("Llama", dict(attention_bias=True, mlp_bias=True), "fresh"),
    "mistral_plain": ("Mistral", dict(sliding_window=None, head_dim=16), ""),
    "mistral_window": ("Mistral", dict(sliding_window=9), "old"),
    "qwen2_windows": ("Qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1), "plain"),
    "qwen2_all_windows": ("Qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=0, tie_word_embeddings=True), "plain"),
    "qwen2_unused_window": ("Qwen2", dict(use_sliding_window=False, sliding_window=8, max_window_layers=1), "old"),
    "qwen2_yarn": ("Qwen2", rope("yarn", 1e6, factor=4.0, original_max_position_embeddings=64), "old"),
    "qwen2_fresh": ("Qwen2", dict(num_hidden_layers=5), "fresh"),
    "qwen3_biases": ("Qwen3", dict(attention_bias=True, head_dim=20, use_sliding_window=True, sliding_window=8, layer_types=layers("fsf")), ""),
    "qwen3_windows": ("Qwen3", dict(head_dim=16, use_sliding_window=True, sliding_window=7, max_window_layers=2), "plain"),
    "gemma2_scalar": ("Gemma2", dict(head_dim=20, query_pre_attn_scalar=37, sliding_window=7), "old"),
    "gemma2_window_of_one": ("Gemma2", dict(head_dim=16, sliding_window=1), ""),
    "gemma2_fresh": ("Gemma2", dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=7), "fresh"),
    "gemma2_no_cap": ("Gemma2", dict(head_dim=16, attn_logit_softcapping=None, attention_bias=True, query_pre_attn_scalar=30,
                                     sliding_window=11), "plain"),
    "gemma2_low_cap": ("Gemma2", dict(head_dim=16, attn_logit_softcapping=2.5, query_pre_attn_scalar=4, sliding_window=11), ""),
    "gemma3_linear": ("Gemma3Text", dict(head_dim=20, num_hidden_layers=7, query_pre_attn_scalar=24, sliding_window=9,
                                         **gemma3(dict(rope_type="linear", factor=8.0, rope_theta=1e6))), "gemma_old"),
    "gemma3_pattern": ("Gemma3Text", dict(head_dim=16, num_hidden_layers=7, attention_bias=True, sliding_window=9), "plain"),
    "gemma3_types": ("Gemma3Text", dict(head_dim=16, num_hidden_layers=4, sliding_window=6, query_pre_attn_scalar=9,
                                        layer_types=layers("fssf")), ""),
    "olmo2_groups": ("Olmo2", dict(num_key_value_heads=1), ""),
    "olmo2_biases": ("Olmo2", dict(attention_bias=True, num_key_value_heads=4), "old"),
    "phi3_window": ("Phi3", dict(sliding_window=11), "old"),
    "phi3_longrope": ("Phi3", dict(original_max_position_embeddings=128, max_position_embeddings=512, num_key_value_heads=4,
                                   **rope("longrope", short_factor=factors(1.0, 0.1), long_factor=factors(2.0, 0.5))), "old"),
    "phi4_mini": ("Phi3", dict(hidden_size=64, partial_rotary_factor=0.75, original_max_position_embeddings=128,
                               max_position_embeddings=512, tie_word_embeddings=True, sliding_window=None,
                               **rope("longrope", partial_rotary_factor=0.75, short_factor=factors(1.0, 0.1),
                                      long_factor=factors(2.0, 0.5))), ""),
    "phi4": ("Phi3", dict(num_key_value_heads=1, sliding_window=None, **rope(theta=250000.0)), "old"),
    "smollm3": ("SmolLM3", dict(num_hidden_layers=5, **rope(theta=5e6)), "old"),
    "smollm3_windows": ("SmolLM3", dict(attention_bias=True, mlp_bias=True, use_sliding_window=True, sliding_window=6,
                                        no_rope_layer_interval=2), "plain"),
    "smollm3_list": ("SmolLM3", dict(no_rope_layers=[0, 1, 0], layer_types=layers("ssf"), use_sliding_window=True, sliding_window=6), ""),
}


def make_pairs(random):
    """Shared prefixes of all lengths, none, sides of one token, a side that begins the other, branches of one token, two equal
    sides, and the pad token inside and behind."""
    def ids(low, high):
        return [random.randrange(3, 199) for _ in range(random.randrange(low, high))]

    pairs = []
    for _ in range(4):
        prefix = [1] + ids(2, 50)
        pairs.append((prefix + ids(1, 60) + [2], prefix + ids(1, 60) + [2]))
    pairs.append(([1] + ids(20, 60) + [2], [3] + ids(20, 60) + [2]))  # nothing shared
    prefix = [1] + ids(10, 30)
    pairs.append((prefix + [17], prefix + [23]))  # branches of one token
    pairs.append((prefix, prefix + ids(5, 40)))  # one side begins the other
    pairs.append(([5], [1] + ids(60, 100)))  # one token alone
    prefix = [1] + ids(10, 30)
    pairs.append((prefix, prefix))
    pairs.append((prefix + [199] + ids(3, 9) + [199, 199], prefix + ids(3, 9) + [199]))
    return [dict(chosen_ids=a, rejected_ids=b, margin=0.0 if i % 2 else round(random.random(), 3)) for i, (a, b) in enumerate(pairs)]


def randomise(model, gemma):
    import torch
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.normal_(0 if gemma else 1, 0.2)
            elif name.endswith("bias"):
                p.normal_(0, 0.2)
            else:
                p.normal_(0, 0.5 if "embed" in name else 0.15)
            p.copy_(p.float().double())


def rewrite(config, style):
    """The same config in the words of older releases."""
    if style == "old":
        parameters = config.pop("rope_parameters")
        config["rope_theta"] = parameters.pop("rope_theta")
        kind = parameters.pop("rope_type")
        config["rope_scaling"] = None if kind == "default" else dict(type=kind, **parameters)
        config.pop("layer_types", None)
    elif style == "gemma_old":
        parameters = config.pop("rope_parameters")
        full = parameters["full_attention"]
        config["rope_theta"] = full.pop("rope_theta")
        config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        config["rope_scaling"] = None if full["rope_type"] == "default" else full
        config["sliding_window_pattern"] = config.pop("_sliding_window_pattern")
        config.pop("layer_types")
    elif style == "plain":
        config.pop("layer_types")


def scores_of(model, sides):
    import torch
    return torch.stack([model(input_ids=torch.tensor([s]), attention_mask=torch.ones(1, len(s), dtype=torch.long)).logits[0, 0]
                        for s in sides])


def write_model(folder, family, model, style):
    import transformers
    single = copy.deepcopy(model).float()
    if style == "causal":
        causal = getattr(transformers, family + "ForCausalLM")(copy.deepcopy(model.config)).float()
        causal.model.load_state_dict(single.model.state_dict())
        single = causal
    single.save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    rewrite(config, style)
    with open(path, "w") as file:
        json.dump(config, file, indent=2)
    if style == "causal":
        return model
    # Whatever words the config is written in, it must mean the same to transformers.
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").double().eval()


def compute(model, again, pairs):
    import torch
    o = OPTIMIZER
    sides = [p["chosen_ids"] for p in pairs] + [p["rejected_ids"] for p in pairs]
    margins = torch.tensor([p["margin"] for p in pairs], dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["eps"],
                                  weight_decay=o["weight_decay"])
    losses, norms, tensors = [], [], {}
    for step in range(o["steps"]):
        optimizer.zero_grad()
        scores = scores_of(model, sides)
        loss = -torch.nn.functional.logsigmoid(scores[:len(pairs)] - scores[len(pairs):] - margins).mean()
        loss.backward()
        if step == 0:
            with torch.no_grad():
                assert torch.equal(scores_of(again, sides), scores), "the config as written means another model"
            tensors["scores"] = scores.detach().clone()
            for name, p in model.named_parameters():
                tensors["grad." + name] = p.grad.float().clone()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip_global_norm"])))
        losses.append(loss.item())
        optimizer.step()
    for name, p in model.named_parameters():
        tensors["after3." + name] = p.detach().float().clone()
    with torch.no_grad():
        tensors["scores_after_3_steps"] = scores_of(model, sides)
    return losses, norms, tensors


def make(name, folder):
    import random
    import torch
    import transformers
    from safetensors.torch import save_file
    family, over, style = CASES[name]
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    config = getattr(transformers, family + "Config")(**copy.deepcopy({**BASE, **over}))
    config._attn_implementation = "eager"
    model = getattr(transformers, family + "ForSequenceClassification")(config).double().eval()
    if style != "fresh":
        randomise(model, "Gemma" in family)
    os.makedirs(folder, exist_ok=True)
    head = model.score.weight.detach().float().clone()
    again = write_model(folder, family, model, style)
    pairs = make_pairs(random.Random(seed))
    losses, norms, tensors = compute(model, again, pairs)
    if style == "causal":
        tensors["score.weight"] = head
    save_file(tensors, os.path.join(folder, "expected.safetensors"))
    made_by = f"transformers {transformers.__version__}, torch {torch.__version__}, float64 throughout, eager attention"
    with open(os.path.join(folder, "batch.json"), "w") as file:
        json.dump(dict(pairs=pairs, losses=losses, grad_norms=norms, optimizer=OPTIMIZER, made_by=made_by), file)


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return
    for name in sys.argv[2:] or CASES:
        make(name, os.path.join(sys.argv[1], name))


if __name__ == "__main__":
    main()
