#!/usr/bin/env python3
"""The data watch on real text: stories15M on the hh pairs, as they are labelled and, since that model is right on few of those (0.58), with
the longer answer as the chosen one. Each set is spoilt in the ways that vendors spoil sets; printed is what the watch says and when.

  real_pairs.py PROGRAM ../shared/data        rmjob-epoch-watch; about twelve minutes on two cores; not part of CI"""
import concurrent.futures, gzip, json, os, pathlib, random, subprocess, sys, tempfile

PROGRAM, DATA = sys.argv[1], pathlib.Path(sys.argv[2])


def swapped(row):
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def by_length(row):
    return row if len(row["chosen"]) >= len(row["rejected"]) else swapped(row)


def spoilt(rows):
    """name -> (files, order)"""
    coin, late = random.Random(3), 1200
    return {
        "clean": ([rows], "shuffled"),
        "clean, given order": ([rows], "as_given"),
        "swapped from row 1,200 on": ([[swapped(r) if n >= late else r for n, r in enumerate(rows)]], "shuffled"),
        "the same, given order": ([[swapped(r) if n >= late else r for n, r in enumerate(rows)]], "as_given"),
        "the second of two files swapped": ([rows[:1400], [swapped(r) for r in rows[1400:]]], "shuffled"),
        "shuffled labels": ([[swapped(r) if coin.random() < 0.5 else r for r in rows]], "shuffled"),
        "every row twice, with a space": ([rows[:1100] + [{k: v + " " for k, v in r.items()} for r in rows[:1100]]], "shuffled"),
    }


def run(directory, name, files, order, seed):
    paths = []
    for n, rows in enumerate(files):
        path = directory / f"{name}-{n}.jsonl".replace(" ", "-")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(path)
    spec = directory / f"{name}.json".replace(" ", "-")
    spec.write_text(json.dumps({
        "api_version": "rmjob/v1", "name": "real", "base_model": str(DATA / "models/stories15M"),
        "data": {"train": [{"path": str(path)} for path in paths], "max_length": 256, "order": order},
        "train": {"epochs": 1, "global_batch_pairs": 32, "learning_rate": 5e-5, "seed": seed}}))
    return subprocess.run([PROGRAM, spec, str(spec) + "-work"], capture_output=True, text=True, check=True).stdout.strip()


def main():
    with gzip.open(DATA / "preferences/harmless-base-test.jsonl.gz", "rt") as lines:
        real = [{side: row[side] for side in ("chosen", "rejected")} for row in map(json.loads, lines)]
    with tempfile.TemporaryDirectory(prefix="rmjob-real-") as directory, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {(labels, name): pool.submit(run, pathlib.Path(directory), f"{labels} {name}", files, order, 1)
                for labels, rows in (("longer", [by_length(row) for row in real]), ("given", real))
                for name, (files, order) in spoilt(rows).items()}
        for (labels, name), job in jobs.items():
            print(f"{labels:7} {name:34} {job.result()}", flush=True)


if __name__ == "__main__":
    main()
