#!/usr/bin/env python3
"""Splits your own preference pairs for a first run: every tenth row is held out, and the held-out rows become a benchmark.

  split_pairs.py PAIRS.jsonl[.gz|.zst] TRAIN HELDOUT BENCHMARK

The benchmark has RewardBench 2's row format, and its six categories are a sixth of the held-out rows each, in turn: the chosen answer
against its own rejected one and the rejected ones of two other rows. A Ties row takes the chosen answer twice, once with a line break after
it. It shows how the gate works on your data; it does not replace RewardBench 2 (scripts/quickstart --benchmark FILE).
"""
import gzip, json, subprocess, sys

CATEGORIES = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant:"


def lines(path):
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dc", path], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines(True)
    return open(path, encoding="utf-8")


def text_of(messages):
    return "".join((HUMAN if m["role"] in ("user", "human") else ASSISTANT + " ") + m["content"] for m in messages)


def parts(row):
    """(prompt, chosen answer, rejected answer) of a row whose sides share all but the last turn, else None."""
    try:
        sides = [text_of(s) if isinstance(s, list) else s for s in (row["chosen"], row["rejected"])]
        prompt = row.get("prompt")
        if prompt:
            return (text_of(prompt) if isinstance(prompt, list) else prompt).removeprefix(HUMAN), sides[0], sides[1]
        ends = [s.rindex(ASSISTANT) for s in sides]
        if sides[0][:ends[0]] != sides[1][:ends[1]]:
            return None
        answers = [s[e + len(ASSISTANT):].strip() for s, e in zip(sides, ends)]
        return (sides[0][:ends[0]].removeprefix(HUMAN), *answers) if all(answers) else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # rmjob itself says what is wrong with a row


def benchmark(rows):
    found = [p for p in map(parts, rows) if p is not None]
    for i, (prompt, chosen, rejected) in enumerate(found):
        wrong = [rejected, found[(i + 1) % len(found)][2], found[(i + 2) % len(found)][2]]
        subset = CATEGORIES[i % len(CATEGORIES)]
        if subset == "Ties":
            yield entry(f"tied:{i}", prompt, subset, [chosen, chosen + "\n"], wrong)
            yield entry(f"ref:{i}", prompt, subset, [chosen], wrong)
        else:
            yield entry(str(i), prompt, subset, [chosen], wrong)


def entry(identifier, prompt, subset, chosen, rejected):
    return {"id": identifier, "prompt": prompt, "chosen": chosen, "rejected": rejected, "num_correct": len(chosen),
            "num_incorrect": len(rejected), "total_completions": len(chosen) + len(rejected), "models": ["own"] * (len(chosen) + len(rejected)),
            "subset": subset}


def main():
    source, train, heldout, target = sys.argv[1:5]
    kept = []
    with open(train, "w", encoding="utf-8") as to_train, open(heldout, "w", encoding="utf-8") as to_heldout:
        for number, line in enumerate(lines(source)):
            if number % 10 == 9:
                to_heldout.write(line)
                try:
                    kept.append(json.loads(line))
                except ValueError:
                    pass  # rmjob names the row
            else:
                to_train.write(line)
    with open(target, "w", encoding="utf-8") as out:
        for row in benchmark(kept):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
