#!/usr/bin/env python3
"""Broken specs, data, models, tokenizers and benchmarks: each is refused at submit or in the CPU-only stage with its own message and
exit code, and leaves no job that ran, no rank, no published object (promise P8).

  broken.py [--only NAME]
"""
import gzip, json, os, pathlib, shutil, struct, sys, tempfile

from harness import check, run_cases, service, small_example, spec_of

CASES = {}


def case(name, code, *fragments):
    """Registers a function that breaks something; the refusal must exit with `code` and say every fragment."""
    def register(function):
        CASES[name] = (function, code, fragments)
        return function
    return register


def spec_case(case_name, code, fragments, **changes):
    CASES[case_name] = (lambda example: spec_of(example, **changes), code, fragments)


def text_case(name, text, *fragments):
    CASES[name] = (lambda example: text.replace("EXAMPLE", str(example)), 2, fragments)


def section(example, part, fields=None, **more):
    spec = spec_of(example)
    spec[part] = dict(spec.get(part, {}), **(fields or {}), **more)
    return spec


def field_case(name, part, fields, code, *fragments):
    CASES[name] = (lambda example: section(example, part, fields), code, fragments)


# ---- the spec's text
text_case("not YAML", "name: [unclosed\n  x: {", "spec.yaml:")
text_case("empty file", "", "spec.yaml")
text_case("a list instead of a spec", "- a\n- b\n", "spec.yaml:1")
text_case("unknown field", "name: x\nlearning_rate: 1\n", "spec.yaml:2:1", "learning_rate")
text_case("misspelt field", "name: x\ntrain: {epoch: 1}\n", "spec.yaml:2:", "epoch", "did you mean", "epochs")
text_case("wrong type", "name: x\ntrain:\n  epochs: many\n", "spec.yaml:3:", "epochs")
text_case("list for a number", "name: x\ntrain:\n  seed: [1]\n", "spec.yaml:3:", "seed")
text_case("fraction for a whole number", "name: x\nelastic: {min_ranks: 1.5}\n", "spec.yaml:2:", "min_ranks")
text_case("negative count", "name: x\nelastic: {min_ranks: -1}\n", "spec.yaml:2:", "min_ranks")
text_case("yes is not a truth value", "name: x\ntrain: {use_margin: yes}\n", "spec.yaml:2:", "use_margin")
text_case("unknown enumeration value", "name: x\ndata: {order: random}\n", "spec.yaml:2:", "shuffled", "as_given")
text_case("duplicate key", "name: x\nname: y\n", "spec.yaml:2:", "name")
text_case("anchors", "name: &a x\nproject: *a\n", "spec.yaml:")
text_case("two documents", "name: x\n---\nname: y\n", "spec.yaml:")
text_case("several errors at once", "nam: x\ntrain: {epoch: 1}\ndata: {order: q}\n", "spec.yaml:1:", "spec.yaml:2:", "spec.yaml:3:", "3 errors")
text_case("normalized scores", "name: x\ntrain: {normalize_rewards: true}\n", "normalize_rewards", "published raw")
text_case("a sigmoid", "name: x\npublish: {activation: sigmoid}\n", "published raw", "sigmoid")
text_case("reward scaling", "name: x\ntrain: {reward_scaling: 0.5}\n", "published raw")
text_case("NUL byte", "name: x\0y\n", "spec.yaml")

# ---- values
field_case("three epochs", "train", {"epochs": 3}, 2, "train.epochs is 3", "exactly one epoch")
field_case("no batch", "train", {"global_batch_pairs": 0}, 2, "train.global_batch_pairs")
field_case("negative learning rate", "train", {"learning_rate": -1e-5}, 2, "train.learning_rate")
field_case("beta of one", "train", {"beta1": 1.0}, 2, "train.beta1")
field_case("bf16 comes later", "train", {"precision": "bf16"}, 2, "train.precision", "float32")
field_case("cuda comes later", "resources", {"device": "cuda"}, 2, "resources.device")
field_case("more least than most ranks", "elastic", {"min_ranks": 3, "max_ranks": 2}, 2, "elastic.min_ranks")
field_case("no ranks", "elastic", {"max_ranks": 0}, 2, "elastic.max_ranks")
field_case("memory in words", "resources", {"memory": "lots"}, 2, "resources.memory")
field_case("too little memory", "resources", {"memory": "1Mi"}, 2, "resources.memory")
field_case("interval in words", "checkpoint", {"interval": "often"}, 2, "checkpoint.interval", "auto")
field_case("deadline in words", "budget", {"deadline": "tomorrow"}, 2, "budget.deadline")
field_case("negative budget", "budget", {"rank_hours": -1}, 2, "budget.rank_hours")
field_case("threshold over one", "gate", {"rewardbench2": {"factuality": 60, "precise_if": 0.3, "math": 0.3, "safety": 0.3, "focus": 0.3, "ties": 0}},
           2, "gate.rewardbench2.factuality is 60")
field_case("threshold at chance", "gate", {"rewardbench2": {"factuality": 0.25, "precise_if": 0.3, "math": 0.3, "safety": 0.3, "focus": 0.3, "ties": 0}},
           2, "gate.rewardbench2.factuality", "chance")
field_case("bad publish name", "publish", {"name": "../evil"}, 2, "publish.name")
field_case("bad alias", "publish", {"alias": "a b"}, 2, "publish.alias")
spec_case("bad job name", 2, ("name",), name="has space")
spec_case("another format version", 2, ("api_version", "rmjob/v1"), api_version="rmjob/v9")
spec_case("no training data", 2, ("data.train",), data={"max_length": 128})
spec_case("policy of another family", 2, ("policy_model", "family"), policy_model={"family": "qwen2", "parameters": 100000000})
spec_case("larger than its policy", 2, ("policy_model", "larger"), policy_model={"family": "llama", "parameters": 1000})


@case("threshold under the policy's floor", 2, "gate.rewardbench2.math", "floor")
def under_floor(example):
    return section(example, "gate", rewardbench2={"factuality": 0.3, "precise_if": 0.3, "math": 0.26, "safety": 0.3, "focus": 0.3, "ties": 0.1}) | \
        {"project": "strict"}


@case("length over the model's positions", 2, "data.max_length")
def too_long(example):
    return section(example, "data", max_length=100000)


# ---- stores
@case("store in a file", 2, "checkpoint.store")
def store_in_file(example):
    (example / "file").write_text("x")
    return section(example, "checkpoint", store=str(example / "file" / "below"))


@case("store of an unknown kind", 2, "checkpoint.store", "ftp")
def store_scheme(example):
    return section(example, "checkpoint", store="ftp://host/x")


# ---- the model
def broken_model(name, code, *fragments):
    def register(function):
        def body(example):
            model = example / "broken-model"
            shutil.rmtree(model, ignore_errors=True)
            shutil.copytree(example / "base-model", model)
            function(model)
            return spec_of(example, base_model=str(model))
        CASES[name] = (body, code, fragments)
        return function
    return register


def edit_config(model, **changes):
    config = json.loads((model / "config.json").read_text())
    for key, value in changes.items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    (model / "config.json").write_text(json.dumps(config))


def edit_header(model, function, cut=None):
    data = (model / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    function(header)
    text = json.dumps(header).encode()
    body = data[8 + size:]
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body[:cut])


@broken_model("no model directory", 2, "base_model")
def _(model):
    shutil.rmtree(model)


@broken_model("no config.json", 2, "config.json")
def _(model):
    (model / "config.json").unlink()


@broken_model("config.json cut short", 6, "config.json")
def _(model):
    (model / "config.json").write_text('{"architectures": [')


@broken_model("unknown architecture", 6, "BertModel")
def _(model):
    edit_config(model, architectures=["BertModel"])


@broken_model("another activation", 6, "hidden_act")
def _(model):
    edit_config(model, hidden_act="gelu")


@broken_model("heads that do not divide", 6, "num_key_value_heads")
def _(model):
    edit_config(model, num_key_value_heads=3)


@broken_model("quantized weights", 6, "quantization_config")
def _(model):
    edit_config(model, quantization_config={"bits": 4})


@broken_model("no weights", 6, "safetensors")
def _(model):
    (model / "model.safetensors").unlink()


@broken_model("weights cut short", 6, "model.safetensors")
def _(model):
    edit_header(model, lambda header: None, cut=-1000)


@broken_model("offsets past the end", 6, "model.safetensors", "model.norm.weight")
def _(model):
    edit_header(model, lambda h: h["model.norm.weight"].update(data_offsets=[10**9, 10**9 + 128]))


@broken_model("overlapping tensors", 6, "model.safetensors")
def _(model):
    edit_header(model, lambda h: h["model.norm.weight"].update(data_offsets=h["model.layers.0.input_layernorm.weight"]["data_offsets"]))


@broken_model("wrong dtype", 6, "dtype", "model.norm.weight")
def _(model):
    edit_header(model, lambda h: h["model.norm.weight"].update(dtype="I32"))


@broken_model("shape not of the config", 6, "model.norm.weight")
def _(model):
    edit_header(model, lambda h: h["model.norm.weight"].update(shape=[16]))


@broken_model("a tensor missing", 6, "model.layers.1.mlp.up_proj.weight", "missing")
def _(model):
    edit_header(model, lambda h: h.update({"model.stranger": h.pop("model.layers.1.mlp.up_proj.weight")}))


@broken_model("a hole between tensors", 6, "model.safetensors", "hole")
def _(model):
    edit_header(model, lambda h: h.pop("model.layers.1.mlp.up_proj.weight"))


@broken_model("header of a petabyte", 6, "model.safetensors")
def _(model):
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 50) + b"{}")


@broken_model("weights file empty", 6, "model.safetensors")
def _(model):
    (model / "model.safetensors").write_bytes(b"")


# ---- the tokenizer
@broken_model("no tokenizer", 6, "tokenizer.json")
def _(model):
    (model / "tokenizer.json").unlink()


@broken_model("tokenizer is not JSON", 6, "tokenizer.json")
def _(model):
    (model / "tokenizer.json").write_text("{")


@broken_model("tokenizer of another kind", 6, "tokenizer.json", "WordPiece")
def _(model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["type"] = "WordPiece"
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))


@broken_model("no end of sequence", 6, "end of a sequence")
def _(model):
    (model / "tokenizer_config.json").unlink()
    edit_config(model, eos_token_id=None)


@broken_model("tokenizer larger than the model", 6, "100000")
def _(model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zzz"] = 100000
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))


# ---- the chat template
def own_template(model, text):
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = text
    (model / "tokenizer_config.json").write_text(json.dumps(config))


def broken_template(name, text, *fragments):
    broken_model(name, 6, *fragments)(lambda model: own_template(model, text))


broken_template("template does not parse", "{{ bos_token }}\n{% for m in messages %}\n{{ m. }}{% endfor %}", "chat_template.jinja:3")
broken_template("template with an unknown filter", "{{ bos_token }}\n{{ messages | frobnicate }}", "chat_template.jinja:2", "frobnicate")
broken_template("template with an unknown tag", "{% include 'x' %}", "chat_template.jinja:1", "include")
broken_template("template never closed", "{% if messages %}{{ bos_token }}", "chat_template.jinja:1")
broken_template("template that prints the day", "{{ bos_token }}\n\n{{ strftime_now('%d %b %Y') }}", "data.template_date",
                "chat_template.jinja:3")
broken_template("template that raises", "{{ raise_exception('not today') }}", "train.jsonl:1", "not today")
broken_template("template that begins twice", "{{ bos_token }}{{ bos_token }}{{ messages[0]['content'] }}", "begins twice", "train.jsonl:1")
broken_template("template that renders nothing", "{% if false %}x{% endif %}", "no tokens")
broken_template("template that never ends", "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                "chat_template.jinja:1", "does not end")


def broken_template_file(name, content, code, *fragments):
    def body(example):
        path = example / "template.jinja"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return section(example, "data", chat_template=str(path))
    CASES[name] = (body, code, fragments)


broken_template_file("another template does not parse", "{{ bos_token }}\n{% if %}", 6, "template.jinja:2")
broken_template_file("another template is empty", "", 6, "template.jinja", "empty")
broken_template_file("another template is not UTF-8", b"{{ '\xff' }}", 6, "template.jinja", "UTF-8")
field_case("another template is not there", "data", {"chat_template": "/nowhere/template.jinja"}, 2, "/nowhere/template.jinja")
field_case("another tokenizer is not there", "data", {"tokenizer": "/nowhere/tokenizer"}, 2, "/nowhere/tokenizer")
field_case("no day", "data", {"template_date": "yesterday"}, 2, "data.template_date", "YYYY-MM-DD")
field_case("a day that is none", "data", {"template_date": "2023-02-29"}, 2, "data.template_date", "YYYY-MM-DD")


def tokenizer_of_another(example):
    tokenizer = json.loads((example / "base-model/tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zzz"] = 90000
    folder = example / "other-tokenizer"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    shutil.copy(example / "base-model/tokenizer_config.json", folder)
    return section(example, "data", tokenizer=str(folder))


CASES["a tokenizer that does not fit the model"] = (tokenizer_of_another, 6, ("90000", "embedding"))


# ---- the data
def broken_data(name, content, code, *fragments, file="broken.jsonl", **data):
    def body(example):
        path = example / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return section(example, "data", train=[{"path": str(path)}], **data)
    CASES[name] = (body, code, fragments)


GOOD_ROW = json.dumps({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}) + "\n"
CASES["no such file"] = (lambda example: section(example, "data", train=[{"path": str(example / "nowhere.jsonl")}]), 2, ("nowhere.jsonl",))
broken_data("empty file", "", 6, "broken.jsonl")
broken_data("row is not JSON", GOOD_ROW + "{oops\n", 6, "broken.jsonl:2")
broken_data("row half written", GOOD_ROW + '{"chosen": "x", "rej', 6, "broken.jsonl:2")
broken_data("row is a list", GOOD_ROW + "[1]\n", 6, "broken.jsonl:2")
broken_data("column missing", GOOD_ROW + '{"chosen": "x"}\n', 6, "broken.jsonl:2", "rejected")
broken_data("wrong column type", GOOD_ROW + '{"chosen": 1, "rejected": "x"}\n', 6, "broken.jsonl:2", "chosen")
broken_data("not UTF-8", GOOD_ROW.encode() + b'{"chosen": "\xff\xfe", "rejected": "x"}\n', 6, "broken.jsonl:2")
broken_data("a line of 10 MB", GOOD_ROW + json.dumps({"chosen": "x" * 10_000_000, "rejected": "y"}) + "\n", 6, "broken.jsonl:2")
broken_data("a table of another kind", b"a,b", 2, "rows are read from .jsonl", file="broken.csv")
broken_data("not really gzip", GOOD_ROW, 6, "broken.jsonl.gz", file="broken.jsonl.gz")
broken_data("gzip cut short", gzip.compress(GOOD_ROW.encode() * 50)[:-12], 6, "broken2.jsonl.gz", file="broken2.jsonl.gz")
broken_data("over length is an error", json.dumps({"chosen": "word " * 400, "rejected": "x"}) + "\n", 6, "broken.jsonl:1",
            over_length="error")
broken_data("margin is not a number", json.dumps({"chosen": "a", "rejected": "b", "margin": "big"}) + "\n", 6, "broken.jsonl:1", "margin")
broken_data("a margin that nobody asked for", GOOD_ROW + json.dumps({"chosen": "a", "rejected": "b", "margin": 0.5}) + "\n", 6, "margin",
            "train.use_margin: true")


def with_rows(example, rows, **data):
    path = example / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return section(example, "data", train=[{"path": str(path)}], **data)


# ---- late in a set, behind the sample that submit looks at: the CPU-only stage says it
LATE = {}


def late_data(name, row, *fragments):
    def body(example):
        path = example / "late.jsonl"
        rows = [json.dumps({"chosen": f"\n\nHuman: {i}\n\nAssistant: b", "rejected": f"\n\nHuman: {i}\n\nAssistant: c"}) for i in range(600)]
        path.write_text("\n".join(rows) + "\n" + row)
        return section(example, "data", train=[{"path": str(path)}])
    LATE[name] = (body, fragments)


late_data("late row is not JSON", "{oops\n", "late.jsonl:601")
late_data("late row half written", '{"chosen": "x", "rej', "late.jsonl:601")
LATE["only equal sides"] = (lambda example: with_rows(example, [{"chosen": "a", "rejected": "a"}]), ("pair",))
LATE["everything over length"] = (lambda example: with_rows(example, [{"chosen": "a " * 50, "rejected": "b " * 50}], max_length=8), ("pair",))
late_data("late column missing", '{"chosen": "x"}\n', "late.jsonl:601", "rejected")


# ---- the benchmark and the held-out set
def broken_benchmark(name, function, *fragments):
    def body(example):
        rows = [json.loads(line) for line in open(example / "benchmark.jsonl")]
        rows = function(rows)
        path = example / "broken-benchmark.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return section(example, "evaluate", rewardbench2=str(path))
    CASES[name] = (body, 6, fragments)


broken_benchmark("a subset missing", lambda rows: [r for r in rows if r["subset"] != "Math"], "Math")
broken_benchmark("benchmark without chosen", lambda rows: [{k: v for k, v in rows[0].items() if k != "chosen"}] + rows[1:],
                 "broken-benchmark.jsonl:1", "chosen")
broken_benchmark("ties prompt unpaired", lambda rows: [r for r in rows if r["id"] != "ref:2"], "tied:2")
CASES["no benchmark file"] = (lambda example: section(example, "evaluate", rewardbench2=str(example / "nothing.jsonl")), 2, ("nothing.jsonl",))
CASES["no held-out file"] = (lambda example: section(example, "data", heldout=[{"path": str(example / "nothing.jsonl")}]), 2, ("nothing.jsonl",))


def is_quiet(one):
    """Nothing was published, no rank was ever started."""
    models = one.state / "artifacts" / "models"
    check(not models.exists() or not any(models.rglob("*")), "something was published")
    check("event=launched" not in one.log(), "a rank was started")


def main():
    example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-broken-"))
    small_example(example)
    only = sys.argv[2] if len(sys.argv) == 3 and sys.argv[1] == "--only" else None
    with service() as one:
        policy = example / "policy.yaml"
        policy.write_text("floors:\n  rewardbench2: {factuality: 0.3, precise_if: 0.3, math: 0.3, safety: 0.3, focus: 0.3, ties: 0.1}\n")
        answer = one.cli("policy", "set", "strict", policy)
        check(answer.returncode == 0, answer.stderr)

        def refused(function, code, fragments):
            def body():
                spec = function(example)
                path = one.directory / "spec.yaml"
                path.write_text(spec if isinstance(spec, str) else json.dumps(spec, indent=1))
                run = one.cli("submit", path)
                if os.environ.get("RMJOB_SHOW"):
                    print(run.returncode, run.stderr, end="")
                check(run.stdout == "", f"it was accepted: {run.stdout}")
                check(run.returncode == code, f"exit {run.returncode} instead of {code}: {run.stderr}")
                for fragment in fragments:
                    check(fragment in run.stderr, f"'{fragment}' is not said: {run.stderr}")
                check(json.loads(one.cli("list", "--output", "json").stdout or "{}").get("jobs", []) == [], "a job was left")
            return body

        def refused_late(function, fragments):
            def body():
                job = one.submit(function(example), "late.json")
                view = one.wait(job)
                check(view["state"] == "FAILED_DATA", f"{view['state']}: {view['reason']}")
                said = view["reason"] + "\n".join(view.get("explanation", []))
                for fragment in fragments:
                    check(fragment in said, f"'{fragment}' is not said: {said}")
                check(one.cli("watch", job).returncode == 6, "watch does not exit 6")
            return body

        cases = [(n, refused(*c)) for n, c in CASES.items()] + [(n, refused_late(*c)) for n, c in LATE.items()]
        cases.append(("nothing ran and nothing is left", lambda: is_quiet(one)))
        run_cases([c for c in cases if only is None or c[0] == only])


if __name__ == "__main__":
    main()
