#!/usr/bin/env python3
"""What a checkpoint at every step of 128 pairs costs: share of step time in which training waited, and bytes stored against raw."""
import pathlib, tempfile

from bench import arguments, check, keep, real_spec, service, show

options = arguments(__doc__).parse_args()
directory = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-bench-"))
stalls, stored = [], []
for _ in range(options.repeats):
    with service() as one:
        job = one.submit(real_spec(directory, batch=128, ranks=1, interval="1", resources={"threads": 2}))
        view = one.wait(job, timeout=600, until=lambda v: v.get("progress", {}).get("step", 0) >= v.get("progress", {}).get("steps", 1) > 0)
        stalls.append(100 * view["progress"].get("stall_share", 0))
        one.wait(job, timeout=600)
        pages = [p for p in (one.state / "checkpoints").rglob("page/*")]
        check(pages, "no page was stored")
        manifests = sorted((one.state / "checkpoints").rglob("manifest/*.json"))
        import json
        named = json.loads(manifests[-1].read_text())["pages"]
        raw = sum(p["size"] for p in named)
        names = {p["sha256"] if isinstance(p, dict) else p[0] for p in named}
        stored.append(sum(p.stat().st_size for p in pages if p.name in names) / raw)
figures = {"stall_percent": show("training waited", stalls, "% of step time"), "stored_over_raw": show("stored / raw bytes", stored, "")}
keep(options, "checkpoint", figures)
