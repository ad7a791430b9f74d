"""Our export, loaded by transformers: ||ours - theirs|| / ||theirs|| of the scores is under 1e-5, alone and padded.

transformers_scores.py EXPORT_SCORES BASE. For BASE, and for a small random model of every family with BASE's tokenizer,
as a causal language model, which is what a base model mostly is. Exit code 77 (a visible skip) without transformers or
the base model.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
except ImportError as missing:
    print(f"SKIP: {missing}; pip install torch transformers")
    sys.exit(77)

SHAPE = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=None)
FACTORS = [1 + 0.2 * i for i in range(6)]
# Family, what makes it special, class of the causal model and of the exported one.
FAMILIES = [
    ("Llama", dict(attention_bias=True, mlp_bias=True, head_dim=24), "ForCausalLM", "ForSequenceClassification"),
    ("Llama", dict(rope_parameters=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, rope_theta=1e4)),
     "ForCausalLM", "ForSequenceClassification"),
    ("Mistral", dict(sliding_window=16), "ForCausalLM", "ForSequenceClassification"),
    ("Qwen2", dict(use_sliding_window=True, sliding_window=16, max_window_layers=2), "ForCausalLM", "ForSequenceClassification"),
    ("Qwen3", dict(head_dim=24), "ForCausalLM", "ForSequenceClassification"),
    ("Gemma2", dict(head_dim=24, query_pre_attn_scalar=20, sliding_window=16), "ForCausalLM", "ForSequenceClassification"),
    ("Gemma3Text", dict(head_dim=24, query_pre_attn_scalar=20, sliding_window=16, layer_types=["sliding_attention", "full_attention"] * 2),
     "Gemma3ForCausalLM", "ForSequenceClassification"),
    ("Olmo2", {}, "ForCausalLM", "ForSequenceClassification"),
    ("Phi3", dict(original_max_position_embeddings=128, partial_rotary_factor=0.75,
                  rope_parameters=dict(rope_type="longrope", rope_theta=1e4, partial_rotary_factor=0.75, short_factor=FACTORS, long_factor=FACTORS)),
     "ForCausalLM", "ForSequenceClassification"),
    ("SmolLM3", {}, "ForCausalLM", "ForSequenceClassification"),
]


def make_model(directory, base, family, special, causal):
    vocabulary = json.load(open(os.path.join(base, "config.json")))["vocab_size"]
    config = getattr(transformers, family + "Config")(**{**SHAPE, "vocab_size": vocabulary, **special})
    torch.manual_seed(7)
    model = getattr(transformers, causal if causal.startswith("Gemma3For") else family + causal)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1 if "norm" in name and "Gemma" not in family else 0
            parameter.normal_(around, 0.4 if "embed" in name else 0.12)
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
        if os.path.exists(os.path.join(base, name)):
            shutil.copy(os.path.join(base, name), directory)


def distance(ours, others):
    return (sum((a - b) ** 2 for a, b in zip(ours, others)) / sum(b * b for b in others)) ** 0.5


def compare(tool, base, out, architecture):
    rows = json.loads(subprocess.run([tool, base, out], check=True, stdout=subprocess.PIPE, text=True).stdout)
    model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"], loading
    model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert type(model).__name__ == architecture, type(model)
    assert model.config.num_labels == 1 and model.config.problem_type == "regression"
    assert tokenizer.pad_token_id == model.config.pad_token_id == model.config.vocab_size - 1, tokenizer
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<s>x"
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    for i, row in enumerate(rows):
        ids[i, : len(row["ids"])] = torch.tensor(row["ids"])
    with torch.no_grad():
        batch = model(ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits[:, 0].tolist()
        alone = [model(torch.tensor([row["ids"]])).logits[0, 0].item() for row in rows]
        exact = model.double()
        exact = [exact(torch.tensor([row["ids"]])).logits[0, 0].item() for row in rows]
    ours = [row["score"] for row in rows]
    worst = max(distance(ours, batch), distance(ours, alone))
    spread = max(ours) - min(ours)
    print(f"{architecture}: {len(rows)} scores, spread {spread:.3f}, worst difference {worst:.2e}; from float64 ours "
          f"{distance(ours, exact):.2e}, theirs in float32 {distance(alone, exact):.2e}", flush=True)
    assert worst < 1e-5 and spread > 0.01


def main():
    tool, base = sys.argv[1:3]
    if not os.path.isdir(base):
        print(f"SKIP: {base} is not there")
        return 77
    with tempfile.TemporaryDirectory() as scratch:
        compare(tool, base, os.path.join(scratch, "base"), "LlamaForSequenceClassification")
        for i, (family, special, causal, classifier) in enumerate(FAMILIES):
            directory = os.path.join(scratch, f"{family}{i}")
            make_model(directory, base, family, special, causal)
            compare(tool, directory, directory + "-out", family + classifier)
    return 0


sys.exit(main())
