#!/usr/bin/env python3
"""`rmjob model verify` on the golden models: equal as they are, exit 6 with the tensor's name when one number is not, and every wrong
file said by what is wrong in it."""
import json, os, pathlib, shutil, struct, subprocess, sys, tempfile

from harness import BIN, SOURCE, check, run_cases

DATA = pathlib.Path(os.environ.get("RMJOB_DATA", SOURCE / "../shared/data")) / "golden"
FAMILIES = sorted(p.parent.name for p in DATA.glob("*/expected.safetensors"))
SMALL = "llama"  # the family of the tests that need only one


def verify(folder, *flags, batch=None, expected=None):
    return subprocess.run([BIN / "rmjob", "model", "verify", folder, "--batch", batch or folder / "batch.json", "--expected",
                           expected or folder / "expected.safetensors", *flags], capture_output=True, text=True)


def read_tensors(path):
    """Header entries in file order, and each one's bytes."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], raw[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
            for name, entry in header.items()}


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def scaled(tensor, factor):
    dtype, shape, raw = tensor
    count = len(raw) // 4
    check(dtype == "F32", "not F32")
    return dtype, shape, struct.pack(f"<{count}f", *(factor * x for x in struct.unpack(f"<{count}f", raw)))


class Copy:
    """A golden model of which single files can be changed."""

    def __init__(self, directory):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=directory))
        for file in (DATA / SMALL).iterdir():
            shutil.copyfile(file, self.folder / file.name)

    def batch(self, edit):
        batch = json.loads((self.folder / "batch.json").read_text())
        edit(batch)
        (self.folder / "batch.json").write_text(json.dumps(batch))
        return self

    def tensors(self, file, edit):
        tensors = read_tensors(self.folder / file)
        edit(tensors)
        write_tensors(self.folder / file, tensors)
        return self


def fails(folder, *messages, code=6, flags=()):
    run = verify(folder, *flags)
    check(run.returncode == code, f"exit {run.returncode}, not {code}: {run.stdout[-500:]}{run.stderr}")
    for message in messages:
        check(message in run.stdout + run.stderr, f"does not say '{message}': {run.stdout[-800:]}{run.stderr}")


def main():
    if not FAMILIES:
        print("SKIP: no golden models in $RMJOB_DATA nor beside the source")
        sys.exit(77)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-verify-"))

    def goldens_are_equal():
        for family in FAMILIES:
            run = verify(DATA / family, "--threads", "1")
            check(run.returncode == 0, f"{family}: exit {run.returncode}: {run.stdout}{run.stderr}")
            check("equal" in run.stdout.splitlines()[-1] and "note" not in run.stdout, run.stdout)

    def threads_change_nothing():
        runs = [verify(DATA / SMALL, "--threads", str(n), "--output", "json") for n in (1, 2, 3)]
        check(len({r.stdout for r in runs}) == 1, "the result depends on the threads")
        report = json.loads(runs[0].stdout)
        check(report["equal"] and report["over"] == 0 and report["problems"] == [], "not equal")
        names = {r["name"] for r in report["comparisons"]}
        check({"scores", "scores_after_3_steps", "loss of step 3", "grad.score.weight", "after3.score.weight"} <= names, str(names))

    def one_tensor_that_differs_is_named():
        for name, factor in (("grad.model.layers.1.mlp.up_proj.weight", 1.00002), ("after3.model.norm.weight", 1.0002)):
            wrong = Copy(directory).tensors("expected.safetensors", lambda t: t.update({name: scaled(t[name], factor)}))
            run = verify(wrong.folder)
            over = [line for line in run.stdout.splitlines() if "OVER" in line]
            check(run.returncode == 6 and len(over) == 1 and name in over[0], f"{run.returncode}: {run.stdout}")
            check(verify(wrong.folder, "--tolerance", "1e-3").returncode == 0, "a looser tolerance does not pass")

    def a_weight_that_differs_is_seen_everywhere():
        name = "model.layers.2.self_attn.o_proj.weight"
        wrong = Copy(directory).tensors("model.safetensors", lambda t: t.update({name: scaled(t[name], 1.01)}))
        run = verify(wrong.folder, "--output", "json")
        over = {r["name"] for r in json.loads(run.stdout)["comparisons"] if r["over"]}
        check(run.returncode == 6 and {"scores", "grad." + name, "after3." + name} <= over, str(over))

    def a_weight_that_differs_a_little_is_seen():
        for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.input_layernorm.weight", "score.weight"):
            wrong = Copy(directory).tensors("model.safetensors", lambda t: t.update({name: scaled(t[name], 1.0001)}))
            fails(wrong.folder, "OVER")

    def pads_behind_a_side_are_read_as_transformers_reads_them():
        pad = json.loads((DATA / SMALL / "config.json").read_text())["pad_token_id"]

        def add_pads(batch):
            for i, pair in enumerate(batch["pairs"]):
                pair["chosen_ids"] += [pad] * (i % 3)
                pair["rejected_ids"] += [pad] * (i % 2)
        run = verify(Copy(directory).batch(add_pads).folder)
        check(run.returncode == 0 and f"end in pad_token_id ({pad})" in run.stdout, run.stdout + run.stderr)

    def what_cannot_be_compared_is_a_failure_by_name():
        def rename(tensors):
            tensors["grad.model.layers.7.mlp.up_proj.weight"] = tensors.pop("grad.model.layers.1.mlp.up_proj.weight")
            tensors["surprise"] = tensors["grad.model.norm.weight"]
            tensors["after4.score.weight"] = tensors["after3.score.weight"]
            dtype, shape, raw = tensors["grad.model.layers.0.self_attn.q_proj.weight"]
            tensors["grad.model.layers.0.self_attn.q_proj.weight"] = dtype, [shape[0] * shape[1]], raw
        wrong = Copy(directory).tensors("expected.safetensors", rename)
        fails(wrong.folder, '"grad.model.layers.7.mlp.up_proj.weight": the model has no tensor of that name',
              '"surprise" is not known', '"after4.score.weight": the optimizer of the batch takes 3 steps',
              '"grad.model.layers.0.self_attn.q_proj.weight" has', "4 tensors cannot be compared",
              "note: the expected file has no grad.model.layers.1.mlp.up_proj.weight; it is not compared")
        fails(Copy(directory).tensors("expected.safetensors", lambda t: t.pop("scores")).folder, '"scores" is missing')

    def a_head_may_stand_apart():
        apart = Copy(directory)
        head = []
        apart.tensors("model.safetensors", lambda t: head.append(t.pop("score.weight")))
        fails(apart.folder, "has no score.weight, and")
        apart.tensors("expected.safetensors", lambda t: t.update({"score.weight": head[0]}))
        run = verify(apart.folder)
        check(run.returncode == 0 and "its head is taken from the expected file" in run.stdout, run.stdout + run.stderr)

    def without_an_optimizer_there_is_one_pass():
        def cut(batch):
            del batch["optimizer"], batch["losses"][1:], batch["grad_norms"][1:]

        def keep(tensors):
            for name in [n for n in tensors if n.startswith(("after3", "scores_after"))]:
                del tensors[name]
        run = verify(Copy(directory).batch(cut).tensors("expected.safetensors", keep).folder)
        check(run.returncode == 0 and "0 steps" in run.stdout, run.stdout + run.stderr)

    def wrong_batches_are_said():
        def pair(**changes):
            return lambda b: b["pairs"][3].update(changes)

        def optimizer(**changes):
            return lambda b: b["optimizer"].update(changes)
        cases = [
            (lambda b: b.pop("pairs"), '"pairs" is missing'),
            (lambda b: b.update(pairs={}), '"pairs" is no list'),
            (lambda b: b.update(pairs=[]), '"pairs" has 0'),
            (lambda b: b["pairs"].__setitem__(3, 5), "pairs[3] is no object"),
            (lambda b: b["pairs"][3].pop("rejected_ids"), 'pairs[3]: "rejected_ids" is missing'),
            (pair(chosen_ids="1 2 3"), 'pairs[3]: "chosen_ids" is no list'),
            (pair(chosen_ids=[]), '"chosen_ids" has 0 ids'),
            (pair(chosen_ids=["a", "b"]), '"chosen_ids"[0] is no whole number'),
            (pair(chosen_ids=[1, 2.0]), '"chosen_ids"[1] is no whole number'),
            (pair(chosen_ids=[1, True]), '"chosen_ids"[1] is no whole number'),
            (pair(chosen_ids=[1, 200]), '"chosen_ids"[1] is 200; ids are whole numbers from 0 to 199'),
            (pair(chosen_ids=[1, -1]), '"chosen_ids"[1] is -1'),
            (pair(chosen_ids=[1, 2 ** 62]), '"chosen_ids"[1] is 4611686018427387904'),
            (pair(chosen_ids=[1, 2 ** 70]), "not JSON"),
            (pair(chosen_ids=[1] * 140000), '"chosen_ids" has 140000 ids'),
            (pair(margin="wide"), '"margin" must be a number'),
            (pair(weight=2), 'pairs[3]: key "weight" is not known'),
            (lambda b: b.pop("losses"), '"losses" is missing'),
            (lambda b: b["losses"].pop(), '"losses" has another length; it must be a list of 3'),
            (lambda b: b["losses"].__setitem__(1, None), '"losses"[1] is no number'),
            (lambda b: b["grad_norms"].append(1), '"grad_norms" has another length'),
            (lambda b: b.update(optimizer=[]), "optimizer is no object"),
            (optimizer(name="SGD"), '"name" is "SGD"; only "AdamW" is computed'),
            (optimizer(decay_applies_to="matrices"), 'only "every parameter" is computed'),
            (optimizer(amsgrad=True), 'key "amsgrad" is not known'),
            (optimizer(lr="1e-3"), '"lr" must be a number'),
            (optimizer(beta2=1), '"beta2" must be a number from 0 to'),
            (optimizer(steps=2.5), '"steps" must be a whole number'),
            (lambda b: b["optimizer"].pop("eps"), 'key "eps" is missing'),
        ]
        for edit, message in cases:
            fails(Copy(directory).batch(edit).folder, "batch.json", message)
        said = Copy(directory).batch(lambda b: (b.update(seed=7), b.pop("grad_norms"), b.update(margin_note="hinge")))
        run = verify(said.folder)
        for message in ('key "seed" is not known and not used', "has no grad_norms", 'margin_note says "hinge"'):
            check(run.returncode == 0 and message in run.stdout, run.stdout + run.stderr)

    def wrong_files_are_said():
        wrong = Copy(directory)
        for text, message in ((b"", "not JSON"), (b"[1]", "not a JSON object"), (b'{"pairs": [], "pairs": []}', "not JSON"),
                              (b"\xff\xfe", "not JSON")):
            (wrong.folder / "batch.json").write_bytes(text)
            fails(wrong.folder, "batch.json", message)
        whole = (DATA / SMALL / "expected.safetensors").read_bytes()
        wrong = Copy(directory)
        for size in (0, 5, 100, 5000, len(whole) - 1):
            (wrong.folder / "expected.safetensors").write_bytes(whole[:size])
            fails(wrong.folder, "expected.safetensors")
        wrong.tensors("model.safetensors", lambda t: None)
        (wrong.folder / "expected.safetensors").unlink()
        fails(wrong.folder, "cannot open", "expected.safetensors")
        (wrong.folder / "expected.safetensors").mkdir()
        fails(wrong.folder, "expected.safetensors: not a regular file")
        fails(directory / "nowhere", "nowhere")

        def not_finite(tensors):
            dtype, shape, raw = tensors["scores"]
            tensors["scores"] = dtype, shape, raw[:8] + struct.pack("<d", float("nan")) + raw[16:]
        fails(Copy(directory).tensors("expected.safetensors", not_finite).folder, '"scores": element 1 is not finite')
        fails(Copy(directory).tensors("expected.safetensors", lambda t: t.update(scores=("I64", *t["scores"][1:]))).folder,
              '"scores": dtype must be F64, F32, BF16 or F16')

    def wrong_command_lines_exit_2():
        for flags in (("--tolerance", "0"), ("--tolerance", "nan"), ("--tolerance", "1e-5x"), ("--threads", "0"), ("--steps", "3")):
            fails(DATA / SMALL, flags[0], code=2, flags=flags)
        run = subprocess.run([BIN / "rmjob", "model", "verify", DATA / SMALL], capture_output=True, text=True)
        check(run.returncode == 2 and "--batch is missing" in run.stderr, run.stderr)

    try:
        run_cases([(f.__name__.replace("_", " "), f) for f in (
            goldens_are_equal, threads_change_nothing, one_tensor_that_differs_is_named, a_weight_that_differs_is_seen_everywhere,
            a_weight_that_differs_a_little_is_seen, pads_behind_a_side_are_read_as_transformers_reads_them,
            what_cannot_be_compared_is_a_failure_by_name, a_head_may_stand_apart, without_an_optimizer_there_is_one_pass,
            wrong_batches_are_said, wrong_files_are_said, wrong_command_lines_exit_2)])
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
