#!/usr/bin/env python3
"""No false stop: fifty clean epochs of the quickstart's model and data, by seed, under the data watch, and fifty with swapped labels,
each of which must be stopped."""
import concurrent.futures, json, os, pathlib, subprocess, sys, tempfile

SOURCE = pathlib.Path(os.environ["RMJOB_SOURCE"])
PROGRAM, SEEDS = sys.argv[1], range(1, 51)


def main():
    with tempfile.TemporaryDirectory(prefix="rmjob-seeds-") as directory:
        directory = pathlib.Path(directory)
        subprocess.run([sys.executable, SOURCE / "scripts/example/make_example.py", directory / "example"], check=True)
        rows = [json.loads(line) for line in open(directory / "example/train.jsonl")]
        swapped = directory / "swapped.jsonl"
        swapped.write_text("".join(json.dumps(row if n < 2000 else row | {"chosen": row["rejected"], "rejected": row["chosen"]}) + "\n"
                                   for n, row in enumerate(rows)))

        def epoch(path, seed, name):
            spec = directory / f"{name}-{seed}.json"
            spec.write_text(json.dumps({
                "api_version": "rmjob/v1", "name": "seeds", "base_model": str(directory / "example/base-model"),
                "data": {"train": [{"path": str(path)}], "max_length": 128},
                "train": {"epochs": 1, "global_batch_pairs": 64, "learning_rate": 1e-3, "seed": seed}}))
            run = subprocess.run([PROGRAM, spec, directory / f"{name}-{seed}"], capture_output=True, text=True, check=True)
            return run.stdout.split()

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            clean = list(pool.map(lambda seed: epoch(directory / "example/train.jsonl", seed, "clean"), SEEDS))
            bad = list(pool.map(lambda seed: epoch(swapped, seed, "swapped"), SEEDS[:4]))
    stopped = [(seed, words) for seed, words in zip(SEEDS, clean) if words[1] != "none"]
    missed = [(seed, words) for seed, words in zip(SEEDS, bad) if words[1] != "disagreement"]
    print(f"{len(clean)} clean epochs, {len(stopped)} stopped; accuracy {min(w[7] for w in clean)}-{max(w[7] for w in clean)}")
    print(f"{len(bad)} epochs with a third of the labels swapped, {len(missed)} missed; seen by step "
          f"{min(int(w[3]) for w in bad)}-{max(int(w[3]) for w in bad)}")
    if stopped or missed:
        sys.exit(f"stopped {stopped}, missed {missed}")


if __name__ == "__main__":
    main()
