"""Our export, loaded by transformers: ||ours - theirs|| / ||theirs|| of the scores is under 1e-5, alone and padded.

transformers_scores.py EXPORT_SCORES BASE. Exit code 77 (a visible skip) without transformers or the base model.
"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
except ImportError as missing:
    print(f"SKIP: {missing}; pip install torch transformers")
    sys.exit(77)

tool, base = sys.argv[1:3]
if not os.path.isdir(base):
    print(f"SKIP: {base} is not there")
    sys.exit(77)

with tempfile.TemporaryDirectory() as scratch:
    out = os.path.join(scratch, "model")
    rows = json.loads(subprocess.run([tool, base, out], check=True, capture_output=True, text=True).stdout)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert type(model).__name__ == "LlamaForSequenceClassification", type(model)
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

    def distance(ours, others):
        return (sum((a - b) ** 2 for a, b in zip(ours, others)) / sum(b * b for b in others)) ** 0.5

    ours = [row["score"] for row in rows]
    worst = max(distance(ours, batch), distance(ours, alone))
    print(f"from float64: ours {distance(ours, exact):.2e}, transformers in float32 {distance(alone, exact):.2e}")
    spread = max(row["score"] for row in rows) - min(row["score"] for row in rows)
    print(f"{len(rows)} scores, spread {spread:.3f}, worst difference {worst:.2e}")
    assert worst < 1e-5 and spread > 0.01
