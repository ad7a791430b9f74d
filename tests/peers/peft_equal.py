#!/usr/bin/env python3
"""LoRA against PEFT: the published adapter loads in peft and scores as we do, the merged form scores the same in transformers, and one
step's gradients of A, B and head are torch's (relative 1e-5).

Runs the small LoRA job of the end-to-end tests twice, merged and as an adapter. The gradients are those of the first step of a
rank-4 adapter, as rmjob-test-lora-gradients writes them.
"""
import json, pathlib, subprocess, sys, tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
try:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
except ImportError as missing:
    print(f"SKIP: {missing}")
    sys.exit(77)

from harness import BIN, check, run_cases, service, small_example
from lora import lora_spec, pull, tensors, with_spare_row

GRADIENTS = sys.argv[1] if len(sys.argv) > 1 else None


def relative(ours, theirs):
    ours, theirs = torch.as_tensor(ours, dtype=torch.float64).flatten(), torch.as_tensor(theirs, dtype=torch.float64).flatten()
    return ((ours - theirs).norm() / theirs.norm()).item()


def publish(example, form, look):
    with service() as one:
        view = one.wait(one.submit(lora_spec(example, 2, form)))
        check(view["state"] == "SUCCEEDED", f"{view['state']}: {view['reason']}\n{one.log()[-2000:]}")
        return look(pull(one))


def ours(directory, lines):
    run = subprocess.run([BIN / "rmjob-rank", "score", directory], input="".join(json.dumps(l) + "\n" for l in lines),
                         capture_output=True, text=True)
    check(run.returncode == 0, run.stderr)
    return [float(x) for x in run.stdout.split()]


def theirs(model, tokenizer, lines):
    out = []
    for line in lines:
        ids = [tokenizer.bos_token_id] + tokenizer(line["text"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            out.append(model(torch.tensor([ids])).logits[0, 0].item())
    return out


def main():
    whole = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-peer-"))
    small_example(whole)
    example = with_spare_row(whole)
    lines = [{"text": r[side]} for r in map(json.loads, open(example / "heldout.jsonl")) for side in ("chosen", "rejected")]

    def compare(name, model, tokenizer, directory):
        distance = relative(ours(directory, lines), theirs(model.eval(), tokenizer, lines))
        print(f"     {len(lines)} texts, {name}: relative distance {distance:.1e}")
        check(distance <= 1e-5, f"relative distance {distance}")

    def adapter():
        def look(directory):
            base = AutoModelForSequenceClassification.from_pretrained(example / "base-model", num_labels=1)
            before = base.score.weight.detach().clone()
            model = PeftModel.from_pretrained(base, directory)
            check(not torch.equal(model.base_model.model.score.weight, before), "peft did not take the head")
            compare("peft", model, AutoTokenizer.from_pretrained(directory), directory)
            compare("peft, merged there", model.merge_and_unload(), AutoTokenizer.from_pretrained(directory), directory)
        publish(example, "adapter", look)

    def merged():
        def look(directory):
            model = AutoModelForSequenceClassification.from_pretrained(directory)
            compare("transformers", model, AutoTokenizer.from_pretrained(directory), directory)
        publish(example, "merged", look)

    def gradients():
        """Ours: all tensors and their gradients, as the test program left them, for fixed pairs of token ids."""
        target = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-peer-")) / "gradients.safetensors"
        pairs = [[[1, 5, 9, 11, 2], [1, 5, 9, 3, 4, 2]], [[1, 7, 8, 2], [1, 20, 21, 22, 23, 2]]]
        words = [str(t) for pair in pairs for side in pair for t in (len(side), *side)]
        run = subprocess.run([GRADIENTS, example / "base-model", target, *words], capture_output=True, text=True)
        check(run.returncode == 0, run.stderr)
        values = {n: torch.frombuffer(bytearray(d), dtype=torch.float32).reshape(s) for n, (s, d) in tensors(target).items()}
        base = AutoModelForSequenceClassification.from_pretrained(example / "base-model", num_labels=1)
        model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, task_type="SEQ_CLS", modules_to_save=["score"],
                                                target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                                                                "down_proj"]))
        parameters = {n.replace(".default", "").replace(".modules_to_save", "").removeprefix("base_model.model."): p
                      for n, p in model.named_parameters() if p.requires_grad}
        check(len(parameters) == len(values) // 2, f"peft trains {len(parameters)} tensors, we {len(values) // 2}")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(values[name])
        loss = 0
        for chosen, rejected in pairs:
            score = [model(torch.tensor([side])).logits[0, 0] for side in (chosen, rejected)]
            loss = loss - torch.nn.functional.logsigmoid(score[0] - score[1])
        loss.backward()
        worst = max((relative(values[name + ".gradient"], p.grad), name) for name, p in parameters.items())
        print(f"     {len(parameters)} gradients, the farthest {worst[1]}: {worst[0]:.1e}")
        check(worst[0] <= 1e-5, f"{worst[1]} is off by {worst[0]}")

    cases = [("the adapter in peft", adapter), ("the merged model in transformers", merged)]
    if GRADIENTS is not None:
        cases.append(("gradients of A, B and head", gradients))
    run_cases(cases)


if __name__ == "__main__":
    main()
