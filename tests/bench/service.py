#!/usr/bin/env python3
"""Status reads a second through one connection, and submissions a second by eight clients at once (each a whole check of its inputs)."""
import json, pathlib, shutil, subprocess, tempfile, threading, time

from bench import BIN, SOURCE, arguments, keep, make_example, service, show, spec_of

options = arguments(__doc__).parse_args()
example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-bench-"))
make_example(example, "--pairs", "200", "--heldout", "10", "--benchmark-rows", "2", "--hidden", "16", "--layers", "1", "--merges", "60")
reader = BIN / "rmjob-bench-reads"
reads, submits = [], []
for _ in range(options.repeats):
    with service(arguments=["--slots", "1"]) as one:
        job = one.submit(spec_of(example))
        one.wait(job)
        run = subprocess.run([reader, f"unix:{one.state}/rmjobd.sock", job, "2000"], capture_output=True, text=True, check=True)
        reads.append(float(run.stdout))
        path = one.directory / "spec.json"
        path.write_text(json.dumps(spec_of(example)))
        begin = time.monotonic()

        def client():
            for _ in range(4):
                one.cli("submit", path)

        clients = [threading.Thread(target=client) for _ in range(8)]
        for c in clients:
            c.start()
        for c in clients:
            c.join()
        submits.append(32 / (time.monotonic() - begin))
keep(options, "service", {"status_reads_per_s": show("status reads", reads, "/s"), "submits_per_s": show("submissions", submits, "/s")})
