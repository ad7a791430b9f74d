#!/usr/bin/env python3
"""A set of any size is prepared in bounded memory: two generated sets, one four times the other; the growth of the peak by pair,
carried on to ten million pairs, must stay under 512 MB beside what a small set needs (the tokenizer and the program).

  prepare_memory.py PROGRAM [PAIRS]      default 20,000 and four times that, two kilobytes a pair"""
import json, pathlib, random, subprocess, sys, tempfile, os

SOURCE = pathlib.Path(os.environ["RMJOB_SOURCE"])
PROGRAM, PAIRS = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20000
STUDY_BYTES = 128 << 20  # what the study of a set may take; here it is held to 1 MiB, so that it does not grow
WORDS = "the a of to and in is that it was for on with as his they be at one have this from or had by hot but some what there we can".split()


def write(path, pairs):
    coin = random.Random(9)
    with open(path, "w") as out:
        for n in range(pairs):
            words = lambda count: " ".join(coin.choices(WORDS, k=count))
            prompt = f"\n\nHuman: question {n} {words(60)}\n\nAssistant: "
            out.write(json.dumps({"chosen": prompt + words(170), "rejected": prompt + words(170)}) + "\n")


def cost(directory, pairs):
    rows = directory / "rows.jsonl"
    write(rows, pairs)
    spec = {"api_version": "rmjob/v1", "name": "large", "base_model": str(directory / "example/base-model"),
            "data": {"train": [{"path": str(rows)}], "max_length": 4096},
            "train": {"epochs": 1, "global_batch_pairs": 64, "learning_rate": 1e-3}}
    (directory / "spec.json").write_text(json.dumps(spec))
    run = subprocess.run([PROGRAM, directory / "spec.json", directory / f"work-{pairs}"], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"exit {run.returncode}: {run.stderr}")
    result = json.loads(run.stdout)
    print(f"{pairs:,} pairs, {rows.stat().st_size / 1e6:.0f} MB: {result['seconds']:.1f} s, peak {result['peak_bytes'] / 1e6:.1f} MB")
    return result, rows.stat().st_size


def main():
    with tempfile.TemporaryDirectory(prefix="rmjob-large-") as directory:
        directory = pathlib.Path(directory)
        subprocess.run([sys.executable, SOURCE / "scripts/example/make_example.py", directory / "example", "--pairs", "50",
                        "--heldout", "5", "--benchmark-rows", "1", "--hidden", "32", "--layers", "1", "--merges", "400"], check=True)
        config = directory / "example/base-model/config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 4096}))
        small, _ = cost(directory, PAIRS)
        large, size = cost(directory, 4 * PAIRS)
    by_pair = (large["peak_bytes"] - small["peak_bytes"]) / (3 * PAIRS)
    total = 10_000_000 * max(by_pair, 0) + STUDY_BYTES
    print(f"{by_pair:.1f} bytes a pair: {total / 1e6:.0f} MB more at ten million, the study's 128 MiB included; {size / large['seconds'] / 1e6:.1f} MB/s")
    if total > 512e6 or large["pairs"] != 4 * PAIRS:
        sys.exit("over 512 MB at ten million pairs, or pairs were lost")


if __name__ == "__main__":
    main()
