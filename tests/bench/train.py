#!/usr/bin/env python3
"""Pairs a second of training, beside TRL on the same pairs, token limit and cores, alternately.

stories15M, real pairs, 256 tokens, 32 pairs a step, float32. TRL's figure is the time of trainer.train(); ours runs from the start of
the first step to the last commit, measured by the steps' own commit times (the first step's share is taken as the mean).
"""
import json, pathlib, subprocess, tempfile

from bench import SHARED, arguments, keep, real_spec, service, show, spread, step_times

options = arguments(__doc__)
options.add_argument("--peers", default=str(pathlib.Path.home() / ".cache/rmjob/peers"), help="environment with TRL (scripts/toolchains/peers)")
options.add_argument("--mode", default="tuned-f32")
options = options.parse_args()

directory = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-bench-"))
ours, theirs = [], []
baseline = SHARED / "tools/trl_baseline.py"
python = pathlib.Path(options.peers) / "bin/python"
for _ in range(options.repeats):
    if baseline.exists() and python.exists():
        run = subprocess.run([python, baseline, "--mode", options.mode, "--model", "stories15M", "--pairs", "600", "--max-length", "256"],
                             capture_output=True, text=True)
        theirs.append(json.loads(run.stdout.strip().splitlines()[-1])["pairs_per_s"])
    with service() as one:
        spec = real_spec(directory, ranks=1, interval="off", resources={"threads": 2})
        job = one.submit(spec)
        times = step_times(one, job)
        first, last = times[0], times[-1]
        seconds = (last[1] - first[1]) / 1000 * len(times) / (len(times) - 1)
        ours.append(last[2] / seconds)
figures = {"rmjob_pairs_per_s": show("rmjob, 1 rank, 2 threads, float32", ours, "pairs/s")}
if theirs:
    figures["trl_pairs_per_s"] = show(f"TRL {options.mode}", theirs, "pairs/s")
    ratios = [a / b for a, b in zip(ours, theirs)]
    figures["ratio"] = show("ratio", ratios, "x")
else:
    print("TRL is not here: no ratio")
keep(options, "train", figures)
