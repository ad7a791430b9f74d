#!/usr/bin/env python3
"""The published model, loaded by transformers, scores held-out pairs as we did (promises P2, P5): largest difference at most 1e-5.

Runs the small job of the end-to-end tests, pulls the result and reads our raw scores from the store.
"""
import hashlib, json, os, pathlib, subprocess, sys, tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
try:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
except ImportError as missing:
    print(f"SKIP: {missing}")
    sys.exit(77)

from harness import BIN, check, run_cases, service, small_example, spec_of


def score(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, 0].item()


def main():
    example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-peer-"))
    small_example(example)
    with service() as one:
        job = one.submit(spec_of(example, ranks=2))
        view = one.wait(job)
        check(view["state"] == "SUCCEEDED", view["reason"])
        pulled = one.directory / "pulled"
        check(one.cli("pull", "e2e-rm@candidate", pulled).returncode == 0, "pull failed")
        model = AutoModelForSequenceClassification.from_pretrained(pulled).eval()
        tokenizer = AutoTokenizer.from_pretrained(pulled)
        rows = [json.loads(line) for line in open(example / "heldout.jsonl")]

        def ours(lines):
            run = subprocess.run([BIN / "rmjob-rank", "score", pulled], input="".join(json.dumps(l) + "\n" for l in lines),
                                 capture_output=True, text=True)
            check(run.returncode == 0, run.stderr)
            return [float(x) for x in run.stdout.split()]

        def one_head():
            check(model.config.num_labels == 1, f"{model.config.num_labels} labels")
            check(model.score.weight.shape[0] == 1, "the head is not one row")

        def texts():
            lines = [{"text": r[side]} for r in rows for side in ("chosen", "rejected")]
            theirs = [score(model, [tokenizer.bos_token_id] + tokenizer(l["text"], add_special_tokens=False)["input_ids"] +
                            [tokenizer.eos_token_id]) for l in lines]
            worst = max(abs(a - b) for a, b in zip(ours(lines), theirs))
            print(f"     {len(lines)} texts, largest difference {worst:.2e}")
            check(worst <= 1e-5, f"largest difference {worst}")

        def conversations():
            lines = [{"messages": [{"role": "user", "content": f"question {i}?"}, {"role": "assistant", "content": "first check it, because."}]}
                     for i in range(10)]
            theirs = [score(model, tokenizer.apply_chat_template(l["messages"], tokenize=True, return_dict=True)["input_ids"]) for l in lines]
            worst = max(abs(a - b) for a, b in zip(ours(lines), theirs))
            print(f"     {len(lines)} conversations through the chat template, largest difference {worst:.2e}")
            check(worst <= 1e-5, f"largest difference {worst}")

        def batches_with_padding():
            tokenizer.padding_side = "right"
            texts_ = [r["chosen"] for r in rows[:8]]
            ids = [[tokenizer.bos_token_id] + tokenizer(t, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for t in texts_]
            longest = max(map(len, ids))
            check(tokenizer.pad_token_id not in (tokenizer.eos_token_id, None), "the pad token can end a sequence")
            padded = torch.tensor([i + [tokenizer.pad_token_id] * (longest - len(i)) for i in ids])
            with torch.no_grad():
                theirs = model(padded, attention_mask=(padded != tokenizer.pad_token_id).long()).logits[:, 0].tolist()
            worst = max(abs(a - b) for a, b in zip(ours([{"text": t} for t in texts_]), theirs))
            check(worst <= 1e-5, f"largest difference {worst}")

        run_cases([(f.__name__.replace("_", " "), f) for f in (one_head, texts, conversations, batches_with_padding)])


if __name__ == "__main__":
    main()
