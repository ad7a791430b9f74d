#!/usr/bin/env python3
"""Makes clean_margins.bin: margins of twenty clean epochs of stories15M on the 2,312 hh pairs (data.max_length 256, 32 pairs a step,
learning rate 5e-5, seeds 1 to 20), as rmjob-epoch-watch writes them. Run once, about half an hour on two cores:

  keep_margins.py build/dev/tests/trainer/run/rmjob-epoch-watch ../shared/data tests/trainer/run/clean_margins.bin

Little-endian: uint32 epochs; for each, uint32 seed, uint32 pairs, uint32 pairs a step, then for each pair in the order of training
uint16 row, int16 margin in steps of 1/1024."""
import json, pathlib, struct, subprocess, sys, tempfile

PROGRAM, DATA, OUT = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
BATCH, SEEDS = 32, range(1, 21)


def spec_of(seed):
    return {"api_version": "rmjob/v1", "name": "clean", "base_model": str(DATA / "models/stories15M"),
            "data": {"train": [{"path": str(DATA / "preferences/harmless-base-test.jsonl.gz")}], "max_length": 256},
            "train": {"epochs": 1, "global_batch_pairs": BATCH, "learning_rate": 5e-5, "seed": seed}}


def pack(seed, bytes_):
    records = list(struct.iter_unpack("<QIf", bytes_))
    pairs = [struct.pack("<Hh", row, max(-32768, min(32767, round(margin * 1024)))) for row, _, margin in records]
    return struct.pack("<III", seed, len(records), BATCH) + b"".join(pairs)


def main():
    epochs = []
    with tempfile.TemporaryDirectory(prefix="rmjob-margins-") as directory:
        directory = pathlib.Path(directory)
        for seed in SEEDS:
            (directory / "spec.json").write_text(json.dumps(spec_of(seed)))
            subprocess.run([PROGRAM, directory / "spec.json", directory / "store", directory / "margins"], check=True)
            epochs.append(pack(seed, (directory / "margins").read_bytes()))
    OUT.write_bytes(struct.pack("<I", len(epochs)) + b"".join(epochs))


if __name__ == "__main__":
    main()
