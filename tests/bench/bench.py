"""What the benchmarks share: repeats with min, median and max, and results kept with commit, machine and command."""
import argparse, contextlib, gzip, json, os, pathlib, platform, shutil, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from harness import BIN, FINAL, SOURCE, Service, check, make_example, service, spec_of  # noqa: E402,F401

SHARED = pathlib.Path(os.environ.get("RMJOB_SHARED", SOURCE.parent / "shared"))
DATA = pathlib.Path(os.environ.get("RMJOB_DATA", SHARED / "data"))


def arguments(description, repeats=3):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--keep", action="store_true", help="write the result to tests/bench/results")
    return parser


def processor():
    with contextlib.suppress(OSError):
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values), "repeats": len(values)}


def show(name, values, unit):
    s = spread(values)
    print(f"{name:44} median {s['median']:10.3f} {unit}  (min {s['min']:.3f}, max {s['max']:.3f}, {s['repeats']} runs)", flush=True)
    return s


def keep(options, name, figures):
    commit = subprocess.run(["git", "-C", SOURCE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    dirty = bool(subprocess.run(["git", "-C", SOURCE, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True).stdout)
    result = {"benchmark": name, "commit": commit + ("+changes" if dirty else ""), "cpu": processor(), "cores": os.cpu_count(),
              "command": " ".join([f"tests/bench/{pathlib.Path(sys.argv[0]).name}", *sys.argv[1:]]), "figures": figures}
    if options.keep:
        (HERE / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def hh_rows(path, count):
    """The first rows of the real preference file, as plain jsonl."""
    source = DATA / "preferences/harmless-base-test.jsonl.gz"
    if not source.exists():
        print(f"SKIP: {source} is not there")
        sys.exit(77)
    with gzip.open(source, "rt") as rows, open(path, "w") as out:
        for _, line in zip(range(count), rows):
            out.write(line)


def real_spec(directory, rows=600, batch=32, max_length=256, **changes):
    """stories15M on real pairs: the comparison's model and data. The benchmark rows come from the example."""
    example = directory / "example"
    if not example.exists():
        make_example(example, "--pairs", "50", "--heldout", "10", "--benchmark-rows", "2")
        hh_rows(directory / "hh.jsonl", rows)
    spec = spec_of(example, **changes)
    spec["base_model"] = str(DATA / "models/stories15M")
    spec["data"] = {"train": [{"path": str(directory / "hh.jsonl")}], "max_length": max_length, "order": "as_given"}
    spec["train"] = {"epochs": 1, "global_batch_pairs": batch, "learning_rate": 5e-5, "seed": 7, "margin_watch": "off"}
    return spec


def step_times(one, job):
    """[(step, unix_ms, pairs consumed)] of a job that has trained, from its events."""
    run = one.cli("watch", job, "--output", "json", timeout=1800)
    seen = {}
    for line in run.stdout.splitlines():
        event = json.loads(line)
        if event.get("kind") == "STEP" and "progress" in event:
            p = event["progress"]
            seen[p["step"]] = (p["step"], int(event["unix_ms"]), int(p.get("pairs_consumed", 0)))
    return [seen[s] for s in sorted(seen)]
