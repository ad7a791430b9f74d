#!/usr/bin/env python3
"""kill -9 at store requests and database writes in turn: after a restart the job still ends well with the same weights, and whatever is
visible on the way is whole (promises P4, P7).

RMJOB_EVERY=N takes every Nth request only.
"""
import hashlib, json, os, pathlib, sys, tempfile, time

from harness import FINAL, Failure, check, check_consumed, make_example, published, run_cases, service, spec_of

EVERY = int(os.environ.get("RMJOB_EVERY", "1"))
POINTS = ("store.put", "store.put.before_visible", "store.get", "store.head", "store.list", "db.write")


def visible_is_whole(one):
    """Every committed manifest's pages are there and every published version's files match."""
    for manifest in (one.state / "checkpoints").rglob("manifest/*.json"):
        try:
            names = {p["sha256"] for p in json.loads(manifest.read_text())["pages"]}
        except FileNotFoundError:
            continue  # collected since it was listed
        pages = manifest.parent.parent / "page"
        missing = [n for n in names if not (pages / n).exists()]
        # Collection takes the manifest first, then its pages.
        check(not missing or not manifest.exists(), f"{manifest.name} names {len(missing)} pages that are not there")
    for record in (one.state / "artifacts" / "models").rglob("[0-9]*.json"):
        version = json.loads(record.read_text())
        for file in version["files"]:
            data = (one.state / "artifacts" / version["prefix"] / file["path"]).read_bytes()
            check(hashlib.sha256(data).hexdigest() == file["sha256"], f"{file['path']} of a visible version is not whole")


def run(example, point=None, at=0):
    """One job with one death. Returns (digest, whether the fault fired)."""
    once = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-once-")) / "fired"
    environment = {"RMJOB_FAULT": f"{point}@{at}=kill", "RMJOB_FAULT_ONCE": str(once)} if point else {}
    with service() as one:
        one.kill()
        spec_path = one.directory / "spec.json"
        spec_path.write_text(json.dumps(spec_of(example, ranks=2)))
        one.environment.update(environment)
        with_patience(one.start)
        job = None
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if one.process.poll() is not None:
                visible_is_whole(one)
                with_patience(one.start)
            if job is None:
                answer = one.cli("submit", spec_path, "--request-id", "the-one")
                job = answer.stdout.strip() or None
                continue
            answer = one.cli("get", job, "--output", "json")
            if answer.returncode == 0 and json.loads(answer.stdout)["state"] in FINAL:
                break
            time.sleep(0.05)
        # The death may also come after the job's end, in the clean-up.
        view = through_a_death(one, lambda: one.job(job))
        check(view["state"] == "SUCCEEDED", f"{view['state']}: {view['reason']}\n{one.log()[-3000:]}")
        visible_is_whole(one)
        check_consumed(through_a_death(one, lambda: one.report(job)), sum(1 for _ in open(example / "train.jsonl")))
        versions = list((one.state / "artifacts/models/e2e-rm").glob("[0-9]*.json"))
        check(len(versions) == 1, f"{len(versions)} versions of one job")
        return published(one)[0], once.exists()


def through_a_death(one, function):
    try:
        return function()
    except Failure:
        if one.process.poll() is None:
            raise
        visible_is_whole(one)
        with_patience(one.start)
        return function()


def with_patience(function):
    """A service that dies at its first write may need a second start."""
    for _ in range(3):
        try:
            return function()
        except Failure:
            time.sleep(0.1)
    return function()


def main():
    example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-requests-"))
    make_example(example, "--pairs", "120", "--heldout", "10", "--benchmark-rows", "2", "--hidden", "16", "--layers", "1", "--merges", "60")
    expected, _ = run(example)

    def point_case(point):
        def body():
            at, fired_count = 1, 0
            while True:
                digest, fired = run(example, point, at)
                check(digest == expected, f"{point}@{at}: other bits")
                if not fired:
                    check(fired_count > 0, f"{point} never fired")
                    print(f"     {point}: {fired_count} deaths", flush=True)
                    return
                fired_count += 1
                at += EVERY
        return body

    run_cases([(f"kill -9 at {p}", point_case(p)) for p in POINTS])


if __name__ == "__main__":
    main()
