#!/usr/bin/env python3
"""`rmjob submit` to the first committed optimizer step on the quickstart model, and the memory of rmjobd meanwhile."""
import json, pathlib, tempfile, time

from bench import arguments, keep, make_example, service, show, spec_of

options = arguments(__doc__, repeats=5).parse_args()
example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-bench-"))
make_example(example)
seconds, memory = [], []
for _ in range(options.repeats):
    with service() as one:
        begin = time.time()
        spec = spec_of(example, ranks=2, min_ranks=1)
        spec["train"]["global_batch_pairs"] = 64
        job = one.submit(spec)
        one.wait(job)
        events = [json.loads(l) for l in one.cli("watch", job, "--output", "json").stdout.splitlines()]
        first = next(e for e in events if e.get("kind") == "STEP")
        seconds.append(int(first["unix_ms"]) / 1000 - begin)
        status = pathlib.Path(f"/proc/{one.process.pid}/status").read_text()
        memory.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
keep(options, "submit", {"submit_to_first_step_s": show("submit to first step", seconds, "s"),
                         "rmjobd_peak_mib": show("rmjobd peak memory", memory, "MiB")})
