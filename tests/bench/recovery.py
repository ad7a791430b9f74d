#!/usr/bin/env python3
"""kill -9 of a rank to the next committed optimizer step, as the service's events show it; with two ranks and the example's model."""
import json, os, pathlib, signal, tempfile, time

from bench import arguments, keep, make_example, service, show, spec_of

options = arguments(__doc__, repeats=5).parse_args()
example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-bench-"))
make_example(example, "--pairs", "3000")
seconds = {"trainer": [], "rank": []}
for _ in range(options.repeats):
    for target in seconds:
        with service() as one:
            job = one.submit(spec_of(example, ranks=2, min_ranks=1, interval="5"))
            one.wait_step(job, 12)
            supervisor = one.ranks(job)[0]
            trainer = one.trainer(supervisor)
            before = int(one.job(job)["progress"]["step"])
            killed = time.time()
            os.kill(trainer, signal.SIGKILL)
            if target == "rank":
                os.kill(supervisor, signal.SIGKILL)
            one.wait(job, timeout=60, until=lambda v: v["progress"]["generation"] > 1 and v["progress"]["step"] >= 1)
            events = [json.loads(l) for l in one.cli("watch", job, "--output", "json").stdout.splitlines()]
            after = [e for e in events if e.get("kind") == "STEP" and int(e["unix_ms"]) > killed * 1000
                     and e["progress"].get("generation", 0) > 1]
            seconds[target].append(int(after[0]["unix_ms"]) / 1000 - killed)
figures = {"trainer_killed": show("trainer killed to next step", seconds["trainer"], "s"),
           "rank_killed": show("supervisor and trainer killed to next step", seconds["rank"], "s")}
keep(options, "recovery", figures)
