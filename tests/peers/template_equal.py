#!/usr/bin/env python3
"""The exported chat template equals our own rendering: its text under Jinja, its ids under transformers.

usage: template_equal.py RENDER_PROGRAM. Without jinja2 or the real model it says SKIP; without transformers it compares
the text only, and says so.
"""
import json
import os
import pathlib
import subprocess
import sys

SKIP = 77
CONVERSATIONS = [
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
    [{"role": "human", "content": "hi"}, {"role": "gpt", "content": "hello"}],
    [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
    [{"role": "user", "content": "  leading and trailing \n"}, {"role": "assistant", "content": "\n\n"}],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
     {"role": "assistant", "content": "d"}],
    [{"role": "user", "content": "naïve café 日本語 🙂 {{ braces }} {% tag %} 'quotes' \"double\" \\n"},
     {"role": "assistant", "content": "<b>&amp;</b> \t tab"}],
    [{"role": "user", "content": "\n\nHuman: nested\n\nAssistant: marks"}, {"role": "assistant", "content": "ok </s> ok"}],
    [{"role": "user", "content": "x" * 5000}, {"role": "assistant", "content": "y z " * 700}],
    [{"role": "assistant", "content": "assistant first"}],
]
BAD = [
    [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}],
    [{"role": "tool", "content": "a"}],
]


def skip(why):
    print("SKIP:", why)
    sys.exit(SKIP)


def environment():
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message):
        raise ValueError(message)

    # As transformers compiles chat templates.
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.globals["raise_exception"] = raise_exception
    return env


def encode(program, model, conversations):
    lines = "".join(json.dumps(c) + "\n" for c in conversations)
    done = subprocess.run([program, "encode", model], input=lines, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        if "error" in line:
            raise RuntimeError(line["error"])
    return lines


def compare_ids(model, template, ours):
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        print("note: transformers is absent: ids are not compared")
        return
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    for conversation, mine in zip(CONVERSATIONS, ours):
        theirs = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
        assert theirs == mine["ids"], f"ids differ for {conversation!r:.200}\n  {theirs}\n  {mine['ids']}"
    print(f"{len(ours)} conversations: ids equal under transformers")


def main():
    program = sys.argv[1]
    try:
        env = environment()
    except ImportError:
        skip("jinja2 is absent")
    source = pathlib.Path(os.environ.get("RMJOB_SOURCE", "."))
    model = pathlib.Path(os.environ.get("RMJOB_DATA", source / "../shared/data")) / "models/stories15M"
    if not model.is_dir():
        skip(f"no model at {model} (set RMJOB_DATA)")
    template = subprocess.run([program, "template"], capture_output=True, text=True, check=True).stdout
    compiled = env.from_string(template)
    ours = encode(program, str(model), CONVERSATIONS)
    for conversation, mine in zip(CONVERSATIONS, ours):
        theirs = compiled.render(messages=conversation, bos_token="<s>", eos_token="</s>", add_generation_prompt=False)
        assert theirs == mine["text"], f"text differs for {conversation!r:.200}\n  {theirs!r:.300}\n  {mine['text']!r:.300}"
    prompt = compiled.render(messages=CONVERSATIONS[0][:1], bos_token="<s>", eos_token="</s>", add_generation_prompt=True)
    assert prompt == "<s>\n\nHuman: hi\n\nAssistant:", prompt
    for conversation in BAD:
        for refuse in (lambda: compiled.render(messages=conversation), lambda: encode(program, str(model), [conversation])):
            try:
                refuse()
            except (ValueError, RuntimeError):
                continue
            raise AssertionError(f"not refused: {conversation}")
    print(f"{len(ours)} conversations: text equal under jinja2; {len(BAD)} refused by both")
    compare_ids(model, template, ours)


main()
