#!/usr/bin/env python3
"""`rmjob data show`: the verb finds the program beside it, passes a spec with relative paths on, and leaves nothing behind."""
import json, os, pathlib, shutil, subprocess, tempfile

from harness import BIN, check, run_cases, small_example


def main():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-show-"))
    small_example(directory)
    temporary = directory / "temporary"
    temporary.mkdir()
    spec = directory / "spec.json"
    spec.write_text(json.dumps({
        "api_version": "rmjob/v1", "name": "show", "base_model": "base-model",
        "data": {"train": [{"path": "train.jsonl"}], "heldout": [{"path": "heldout.jsonl"}], "max_length": 128}}))

    def show(*arguments):
        return subprocess.run([BIN / "rmjob", "data", "show", *arguments], capture_output=True, text=True, cwd="/",
                              env=dict(os.environ, TMPDIR=str(temporary)))

    def a_row_is_shown_as_tokens():
        run = show(spec, "--rows", "17")
        check(run.returncode == 0, run.stderr)
        for text in ("train.jsonl:17", "shared prefix", "chosen", "rejected", "scored", "«<bos>»"):
            check(text in run.stdout, f"no '{text}': {run.stdout}")
        check("\033" not in run.stdout, "colours in a pipe")

    def the_tokens_are_the_texts_of_the_row():
        run = show(spec, "--rows", "3,heldout.jsonl:2", "--output", "json")
        check(run.returncode == 0, run.stderr)
        shown = json.loads(run.stdout)["pairs"]
        for pair, (file, row) in zip(shown, (("train.jsonl", 3), ("heldout.jsonl", 2)), strict=True):
            line = json.loads((directory / file).read_text().splitlines()[row - 1])
            prefix = "".join(t["text"] for t in pair["prefix"] if not t.get("special"))
            check(pathlib.Path(pair["file"]).name == file and pair["row"] == row, str(pair["file"]))
            check(prefix.strip() and line["chosen"].startswith(prefix) and line["rejected"].startswith(prefix), prefix)

    def wrong_requests_exit_2_and_say_why():
        for arguments, message in (((spec,), "--rows is missing"), ((spec, "--rows", "999999"), "has no row 999999"),
                                   ((spec, "--rows", "other.jsonl:1"), "other.jsonl"), ((spec, "--rows", "many"), "many"),
                                   ((directory / "none.yaml", "--rows", "1"), "none.yaml")):
            run = show(*arguments)
            check(run.returncode == 2 and message in run.stderr, f"exit {run.returncode}: {run.stderr}")

    def nothing_is_left_behind():
        check(not list(temporary.iterdir()), str(list(temporary.iterdir())))

    try:
        run_cases([(f.__name__.replace("_", " "), f) for f in (
            a_row_is_shown_as_tokens, the_tokens_are_the_texts_of_the_row, wrong_requests_exit_2_and_say_why, nothing_is_left_behind)])
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
