#!/usr/bin/env python3
"""A LoRA job: one digest under ranks, kills and a resume from a checkpoint, merged and as an adapter; what is frozen is the base
model's, pages hold what is trained alone, and a spec that cannot be done is refused at submit.

  lora.py [--only NAME]
"""
import json, pathlib, shutil, struct, subprocess, sys, tempfile

from harness import BIN, check, check_consumed, published, run_cases, service, small_example, spec_of
from schedules import kill

LORA = {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"]}
WEIGHTS = {"merged": "model.safetensors", "adapter": "adapter_model.safetensors"}


def lora_spec(example, ranks=1, form="merged", interval="2", lora=LORA, **changes):
    train = {"epochs": 1, "global_batch_pairs": 32, "learning_rate": 1e-2, "seed": 7, "lora": lora}
    return spec_of(example, ranks=ranks, interval=interval,
                   **({"train": train, "publish": {"name": "e2e-rm", "alias": "candidate", "form": form}} | changes))


def tensors(path):
    """Names, shapes and bytes of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {n: (t["shape"], data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]) for n, t in header.items()}


def with_spare_row(example):
    """The example with one more row of the embedding, which no token uses: the pad token of an adapter."""
    target = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-example-")) / "example"
    shutil.copytree(example, target)
    config = json.loads((target / "base-model" / "config.json").read_text())
    config["vocab_size"] += 1
    (target / "base-model" / "config.json").write_text(json.dumps(config))
    path, header, body = target / "base-model" / "model.safetensors", {}, b""
    for name, (shape, data) in tensors(path).items():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            data += data[:len(data) // shape[0]]
            shape = [shape[0] + 1, shape[1]]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return target


def run(example, ranks, form="merged", disturb=None, environment=None, look=None):
    pairs = sum(1 for _ in open(example / "train.jsonl"))
    with service(environment) as one:
        job = one.submit(lora_spec(example, ranks, form))
        if disturb is not None:
            disturb(one, job)
        view = one.wait(job)
        check(view["state"] == "SUCCEEDED", f"{view['state']}: {view['reason']}\n{one.log()[-3000:]}")
        check_consumed(one.report(job), pairs)
        if look is not None:
            look(one, job)
        return published(one, weights_name=WEIGHTS[form])[0]


def kill_at(step, which):
    """At `step`, kill -9 of supervisors and trainers: `which` indices; all of them leaves only the checkpoint."""
    def disturb(one, job):
        one.wait_step(job, step)
        processes = one.ranks(job)
        for index in which:
            supervisor = processes[index % len(processes)]
            kill(one.trainer(supervisor))
            kill(supervisor)
    return disturb


def pull(one, name="e2e-rm@candidate"):
    target = one.directory / "pulled"
    answer = one.cli("pull", name, target)
    check(answer.returncode == 0, f"pull failed: {answer.stderr}")
    answer = one.cli("verify", target)
    check(answer.returncode == 0, f"what was pulled does not verify: {answer.stderr}")
    return target


def look_merged(example):
    """Frozen tensors are the base model's bytes, targeted ones are not; pages hold adapters and head alone."""
    def look(one, job):
        pulled = pull(one)
        ours, base = tensors(pulled / "model.safetensors"), tensors(example / "base-model" / "model.safetensors")
        targets = tuple(LORA["target_modules"])
        for name, (shape, data) in base.items():
            if name in ("lm_head.weight", "score.weight"):
                continue
            changed = name.split(".")[-2] in targets
            # The embedding may have grown by the pad token's row.
            check(name in ours and ours[name][0][1:] == shape[1:], f"{name} is missing or has another shape")
            check((ours[name][1][:len(data)] != data) == changed, f"{name} is {'still' if changed else 'not'} the base model's")
        pages = int(one.report(job)["plan"]["pages"])
        check(pages == 3, f"{pages} pages for two layers' adapters and the head: something frozen is among them")
    return look


def look_adapter(example):
    def look(one, job):
        pulled = pull(one)
        config = json.loads((pulled / "adapter_config.json").read_text())
        check(config["peft_type"] == "LORA" and config["r"] == 4 and config["modules_to_save"] == ["score"], str(config))
        check(config["base_model_name_or_path"] == str(example / "base-model"), "the base model is not named as the spec did")
        names = tensors(pulled / "adapter_model.safetensors")
        check("base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight" in names, f"names are {sorted(names)[:3]} ...")
        check("base_model.model.score.weight" in names and len(names) == 1 + 2 * 2 * 4, f"{len(names)} tensors")
        check((pulled / "tokenizer.json").exists(), "no tokenizer in the adapter directory")
        texts = "".join(json.dumps({"text": t}) + "\n" for t in ("a b c", "first check it", "because"))
        scores = subprocess.run([BIN / "rmjob-rank", "score", pulled], input=texts, capture_output=True, text=True)
        check(scores.returncode == 0 and len(scores.stdout.split()) == 3, f"score failed: {scores.stderr}")
        weights = example / "base-model/model.safetensors"
        whole = weights.read_bytes()
        try:
            weights.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
            scores = subprocess.run([BIN / "rmjob-rank", "score", pulled], input=texts, capture_output=True, text=True)
            check(scores.returncode == 6 and "not the one that the adapter was trained on" in scores.stderr,
                  f"another base is scored with: exit {scores.returncode}: {scores.stderr}")
        finally:
            weights.write_bytes(whole)
    return look


def refused(example, words, **changes):
    with service() as one:
        path = one.directory / "spec.json"
        path.write_text(json.dumps(lora_spec(example, **changes)))
        answer = one.cli("submit", path)
        check(answer.returncode == 2, f"exit {answer.returncode}: {answer.stdout} {answer.stderr}")
        for word in words:
            check(word in answer.stderr, f"'{word}' is not in: {answer.stderr}")


def cases(example, spare):
    digests = {}

    def same(form, name, *arguments, fired=None, **options):
        def body():
            digest = run(spare if form == "adapter" else example, *arguments, form=form, **options)
            check(fired is None or fired.exists(), "the fault never fired: this tested nothing")
            first = digests.setdefault(form, digest)
            check(digest == first, f"other bits: {digest} instead of {first}")
        return f"{form}: {name}", body

    once = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-once-"))
    fault = {"RMJOB_FAULT": "update@6=kill", "RMJOB_FAULT_ONCE": str(once / "fired")}
    # Adapters train in a moment: steps are held up so that a kill at a step comes at that step.
    slow = {"RMJOB_FAULT": "vote@4+=stall:100"}
    yield same("merged", "one rank", 1, look=look_merged(example))
    yield same("merged", "two ranks", 2)
    yield same("merged", "three ranks", 3)
    yield same("merged", "all killed, resumed from a checkpoint", 2, disturb=kill_at(6, (0, 1)), environment=slow)
    yield same("merged", "a trainer killed, resumed from memory", 3, environment=fault, fired=once / "fired")
    yield same("adapter", "one rank", 1, look=look_adapter(spare))
    yield same("adapter", "three ranks, the only copies killed", 3, disturb=kill_at(5, (0, 1, 2)), environment=slow)
    wrong = LORA | {"target_modules": ["q_porj"]}
    yield "an unknown module is refused with those there are", lambda: refused(
        example, ["q_porj", "did you mean q_proj", "gate_proj"], lora=wrong)
    yield "a rank of none is refused", lambda: refused(example, ["train.lora.rank is 0"], lora=LORA | {"rank": 0})
    yield "an adapter cannot bring a pad token", lambda: refused(example, ["no spare row", "publish merged"], form="adapter")
    yield "an adapter without train.lora is refused", lambda: refused(
        example, ["publish.form is adapter"], form="adapter", train={"epochs": 1, "learning_rate": 1e-3})


def main():
    example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-example-"))
    small_example(example)
    chosen = list(cases(example, with_spare_row(example)))
    if len(sys.argv) == 3 and sys.argv[1] == "--only":
        chosen = [c for c in chosen if sys.argv[2] in c[0]]
    run_cases(chosen)


if __name__ == "__main__":
    main()
