#!/usr/bin/env python3
"""From one rank with two threads to two ranks with one: the same cores, so the ratio is the price of being two processes."""
import pathlib, tempfile

from bench import arguments, keep, real_spec, service, show, step_times

options = arguments(__doc__).parse_args()
directory = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-bench-"))
rates = {1: [], 2: []}
for _ in range(options.repeats):
    for ranks in (1, 2):
        with service() as one:
            job = one.submit(real_spec(directory, batch=128, ranks=ranks, min_ranks=ranks, interval="off", resources={"threads": 2 // ranks}))
            times = step_times(one, job)
            first, last = times[0], times[-1]
            rates[ranks].append((last[2] - first[2]) / ((last[1] - first[1]) / 1000))
figures = {"one_rank_two_threads": show("1 rank x 2 threads", rates[1], "pairs/s"),
           "two_ranks_one_thread": show("2 ranks x 1 thread", rates[2], "pairs/s"),
           "ratio": show("ratio", [b / a for a, b in zip(rates[1], rates[2])], "x")}
keep(options, "scaling", figures)
