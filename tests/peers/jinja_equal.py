#!/usr/bin/env python3
"""Our chat templates equal the public engine's: transformers' own environment of Jinja renders the same text, or fails too.

usage: jinja_equal.py PROGRAM [--seed N] [--count N] [--only packages|cases|fuzz] [--show N]

PROGRAM is jinja_render_lines. Compared are (packages) the templates of nine public tokenizers and those inside trl, on many
conversations; (cases) hand-written templates for each construct, jinja_cases.py; (fuzz) random small templates,
jinja_grammar.py. A template that ours refuses because it says "not supported", and an integer beyond 64 bits, count apart.
"""
import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys
import warnings

import jinja_cases
import jinja_conversations
import jinja_grammar

SKIP = 77
DATE = (2024, 7, 26)
# What ours does not do, and says so.
BOUNDS = re.compile(r"not supported|out of range|steps$|nested more than|cannot be (printed|iterated)|bytes of memory")


def skip(why):
    print("SKIP:", why)
    sys.exit(SKIP)


class Failed(Exception):
    """raised: the text of raise_exception, if it was that."""

    def __init__(self, error, raised=None):
        super().__init__("%s: %s" % (type(error).__name__, error))
        self.raised = raised


def reference(template, variables):
    """Text and spans of generation blocks, as transformers renders them."""
    from jinja2.exceptions import TemplateError
    from transformers.utils import chat_template_utils as public

    try:
        compiled = public._compile_jinja_template(template)
        given = json.loads(json.dumps(variables))  # a filter of the public engine may change them
        given["strftime_now"] = lambda form: datetime.datetime(*DATE).strftime(form)
        blocks, spans = [], []
        with compiled.environment.activate_tracker(blocks, spans):
            for block in compiled.generate(**given):
                blocks.append(block)
        return "".join(blocks), spans
    except Exception as error:  # whatever a template can raise
        raise Failed(error, str(error) if type(error) is TemplateError else None) from None


def run_ours(program, cases):
    lines = "".join(json.dumps({"template": t, "variables": v, "date": DATE}) + "\n" for _, t, v in cases)
    done = subprocess.run([program], input=lines, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError("the program ended with %d: %s" % (done.returncode, done.stderr.strip()[-2000:]))
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def byte_spans(text, spans):
    """Clipped. Code points to bytes; transformers counts what was yielded so far, which is the whole text for blocks at the top."""
    return [[len(text[:a].encode()), len(text[:b].encode())] for a, b in spans]


def judge(template, variables, ours):
    """"same", "both failed", "bound" or a description of the difference."""
    error = ours.get("refused") or ours.get("failed")
    try:
        text, spans = reference(template, variables)
    except Failed as failed:
        if error is None:
            return "public failed (%s), ours gives %r" % (failed, ours["text"][:300])
        if ours.get("refused") and BOUNDS.search(error):
            return "both failed"  # refused before it could raise
        if failed.raised is not None and not error.endswith(": " + failed.raised) and len(failed.raised) < 900:
            return "public raises %r, ours %r" % (failed.raised, error)
        return "both failed"
    if error is not None:
        return "bound" if BOUNDS.search(error) else "public gives %r, ours fails: %s" % (text[:300], error)
    if ours["text"] != text:
        return "public %r\n    ours   %r" % (text[:600], ours["text"][:600])
    # A recursive loop is one piece to the public engine, which places all blocks in it at its start.
    if ours["spans"] != byte_spans(text, spans) and "recursive" not in template:
        return "spans: public %r, ours %r" % (byte_spans(text, spans), ours["spans"])
    return "same"


def compare(program, title, cases, show):
    counts = {"same": 0, "both failed": 0, "bound": 0, "different": 0}
    differences = []
    for start in range(0, len(cases), 500):
        part = cases[start:start + 500]
        for (name, template, variables), ours in zip(part, run_ours(program, part)):
            verdict = judge(template, variables, ours)
            if verdict in counts:
                counts[verdict] += 1
            else:
                counts["different"] += 1
                differences.append((name, template, variables, verdict))
    print("%s: %s of %d" % (title, ", ".join("%s %d" % item for item in counts.items()), len(cases)))
    for name, template, variables, verdict in differences[:show]:
        print("  %s: %r\n    with %s\n    %s" % (name, template if len(template) < 400 else template[:100] + "...",
                                              json.dumps(variables)[:300], verdict))
    return counts["different"]


def package_templates():
    """Names and texts of the chat templates that can be had here."""
    import tokenizer_packages
    import trl

    found = []
    for folder in tokenizer_packages.folders() or []:
        config = json.loads((pathlib.Path(folder) / "tokenizer_config.json").read_text())
        template = config.get("chat_template")
        for i, one in enumerate(template if isinstance(template, list) else [template]):
            if one:
                text = one["template"] if isinstance(one, dict) else one
                found.append(("%s.%d" % (pathlib.Path(folder).name, i), text))
    for path in sorted((pathlib.Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        found.append(("trl/" + path.stem, path.read_text()))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--only", choices=("packages", "cases", "fuzz"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        import transformers.utils.chat_template_utils  # noqa: F401
    except ImportError as error:
        skip("no transformers here: %s" % error)
    bad = 0
    if args.only in (None, "cases"):
        bad += compare(args.program, "constructs", list(jinja_cases.cases()), args.show)
    if args.only in (None, "packages"):
        templates = package_templates()
        cases = [("%s/%s" % (name, title), template, variables) for name, template in templates
                 for title, variables in jinja_conversations.inputs()]
        print("%d public templates" % len(templates))
        bad += compare(args.program, "templates on conversations", cases, args.show)
    if args.only in (None, "fuzz"):
        print("seed %d" % args.seed)
        bad += compare(args.program, "random templates", list(jinja_grammar.cases(args.seed, args.count)), args.show)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
