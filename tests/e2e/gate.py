#!/usr/bin/env python3
"""Publication is gated: a model under its thresholds publishes nothing and exits 3 with the table that says why; what is pulled is what
was evaluated; a changed byte, a foreign key and a found key are caught (promise P5)."""
import contextlib, json, pathlib, shutil, subprocess, tempfile, time

from harness import BIN, check, make_example, published, run_cases, service, small_example, spec_of

example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-gate-"))
small_example(example)
LOW = {c: 0.26 for c in ("factuality", "precise_if", "math", "safety", "focus")}


def main():
    with service() as one:
        state = {}

        def failed_gate():
            spec = spec_of(example, name="fails", gate={"rewardbench2": LOW | {"ties": 0.0}, "heldout_accuracy_min": 0.4, "score_std_min": 1000})
            path = one.directory / "fails.json"
            path.write_text(json.dumps(spec))
            run = one.cli("submit", path, "--wait")
            check(run.returncode == 3, f"exit {run.returncode}: {run.stderr}")
            check("GATE FAILED e2e-rm" in run.stderr and "score_std" in run.stderr and "FAIL" in run.stderr, run.stderr)
            check("nothing published" in run.stderr, run.stderr)
            models = one.state / "artifacts" / "models"
            check(not models.exists() or not any(models.rglob("*.json")), "something is visible under models/")
            check(one.cli("pull", "e2e-rm", one.directory / "x").returncode == 2, "a model that failed could be pulled")
            check(one.cli("watch", run.stdout.strip()).returncode == 3, "watch does not exit 3")

        def passed_gate():
            path = one.directory / "passes.json"
            path.write_text(json.dumps(spec_of(example)))
            run = one.cli("submit", path, "--wait")
            check(run.returncode == 0, f"exit {run.returncode}: {run.stderr}")
            check("GATE PASSED" in run.stderr, run.stderr)
            state["job"] = run.stdout.strip()
            check(run.stdout == state["job"] + "\n", "stdout is not the id alone")
            published(one)

        def pulled():
            target = one.directory / "pulled"
            run = one.cli("pull", "e2e-rm@candidate", target)
            check(run.returncode == 0, run.stderr)
            state["pulled"] = target
            check(one.cli("verify", target).returncode == 0, "the pulled model does not verify")
            check(one.cli("pull", "e2e-rm@1", target).returncode != 0, "a pull went over an existing directory")
            check(one.cli("pull", "e2e-rm@7", one.directory / "y").returncode == 2, "a version that is not there was pulled")
            check(not (one.directory / "y").exists(), "a failed pull left its directory")

        def tampered():
            for name in ("model.safetensors", "rmjob.json", "README.md", "config.json", "rmjob-pairs.bin"):
                file = state["pulled"] / name
                good = file.read_bytes()
                file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
                run = one.cli("verify", state["pulled"])
                check(run.returncode == 6 and name in run.stderr, f"{name}: {run.returncode} {run.stderr}")
                file.write_bytes(good)
            extra = state["pulled"] / "extra.bin"
            extra.write_bytes(b"x")
            check(one.cli("verify", state["pulled"]).returncode == 6, "an unlisted file went unnoticed")
            extra.unlink()
            check(one.cli("verify", state["pulled"]).returncode == 0, "the restored model does not verify")

        def foreign_key():
            key, public = one.directory / "k.pem", state["pulled"] / "key.pub"
            subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True, capture_output=True)
            subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", one.directory / "k.pub"], check=True, capture_output=True)
            check(one.cli("verify", state["pulled"], "--key", one.directory / "k.pub").returncode == 5, "another key was taken")
            public.write_bytes((one.directory / "k.pub").read_bytes())
            check(one.cli("verify", state["pulled"]).returncode == 6, "a key found in the directory changed the answer")
            public.unlink()

        def store_tampered():
            _, record = published(one)
            file = one.state / "artifacts" / record["prefix"] / "model.safetensors"
            good = file.read_bytes()
            file.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
            run = one.cli("pull", "e2e-rm@candidate", one.directory / "z")
            check(run.returncode == 6 and "model.safetensors" in run.stderr, f"{run.returncode} {run.stderr}")
            check(not (one.directory / "z").exists(), "a corrupt pull left its directory")
            file.write_bytes(good)

        def second_version_and_regression():
            spec = spec_of(example, gate={"rewardbench2": LOW | {"ties": 0.0}, "max_regression": 0.5})
            job = one.submit(spec, "again.json")
            view = one.wait(job)
            check(view["state"] == "SUCCEEDED", view["reason"])
            check(view["published_version"] == 2, f"version {view['published_version']}")
            check(published(one, version=1)[0] == published(one, version=2)[0], "the same job gave other weights")
            models = json.loads(one.cli("models", "--output", "json").stdout)
            aliases = {a["alias"]: a["version"] for a in models["models"][0]["aliases"]}
            check(aliases == {"candidate": 2}, f"aliases {aliases}")

        def reports_feed_the_gate_again():
            report = one.directory / "report.json"
            report.write_text(one.cli("report", state["job"], "--output", "json").stdout)
            good, bad = one.directory / "good.yaml", one.directory / "bad.yaml"
            good.write_text("floors:\n  rewardbench2: {math: 0.26}\n")
            bad.write_text("floors:\n  score_std_min: 1000\n")
            check(one.cli("gate", report, "--policy", good).returncode == 0, "the gate did not pass")
            check(one.cli("gate", report, "--policy", bad).returncode == 3, "the gate passed")
            run = one.cli("report", state["job"], "--failures", "ties")
            check(run.returncode == 0 and "rows of ties" in run.stdout, run.stdout + run.stderr)

        def idempotent_submit():
            path = one.directory / "twice.json"
            path.write_text(json.dumps(spec_of(example, name="twice")))
            first = one.cli("submit", path, "--request-id", "same")
            second = one.cli("submit", path, "--request-id", "same")
            check(first.returncode == second.returncode == 0 and first.stdout == second.stdout, first.stdout + second.stdout)
            run = one.cli("cancel", first.stdout.strip(), "--reason", "test")
            check(run.returncode == 0, run.stderr)
            view = one.wait(first.stdout.strip())
            check(view["state"] in ("CANCELLED", "SUCCEEDED"), view["state"])

        def retention():
            spec = spec_of(example, name="retention", ranks=2, interval="1")
            spec["checkpoint"]["keep"] = 2
            job = one.submit(spec, "retention.json")
            check(one.wait(job)["state"] == "SUCCEEDED", "the job did not end well")
            prefix = one.state / "checkpoints" / "jobs" / job
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                manifests = sorted(prefix.glob("manifest/*.json"))
                named = set()
                for manifest in manifests:
                    with contextlib.suppress(FileNotFoundError):  # collected since it was listed
                        named |= {p["sha256"] for p in json.loads(manifest.read_text())["pages"]}
                pages = {p.name for p in prefix.glob("page/*")}
                if len(manifests) == 2 and pages == named:
                    break
                time.sleep(0.1)
            check(len(manifests) == 2, f"{len(manifests)} manifests are kept instead of 2")
            check(named <= pages, "a kept manifest names a page that is gone")
            check(pages == named, f"{len(pages - named)} pages are left that no kept manifest names")
            staged = [p for p in (one.state / "artifacts" / "staged" / job).rglob("*") if p.is_file()]
            check(not staged, f"staged files of a published job are left: {staged[:3]}")

        def second_daemon():
            run = subprocess.run([BIN / "rmjobd", "--state", one.state], capture_output=True, text=True, timeout=20)
            check(run.returncode != 0 and str(one.process.pid) in run.stderr, f"{run.returncode}: {run.stderr}")

        def second_epoch():
            rows = (example / "train.jsonl").read_text().splitlines(keepends=True)
            other = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-gate-"))
            make_example(other, "--pairs", "900", "--heldout", "1", "--benchmark-rows", "5", "--hidden", "32", "--layers", "1",
                         "--merges", "10", "--seed", "8")
            fresh = sorted(set((other / "train.jsonl").read_text().splitlines(keepends=True)) - set(rows))
            shutil.rmtree(other)
            check(len(fresh) > 400, f"only {len(fresh)} pairs of the other example are new")

            def spec_on(base, name, rows):
                (one.directory / f"{name}.jsonl").write_text("".join(rows))
                spec = spec_of(example, name=name, base_model=str(base), publish={"name": name, "alias": "candidate"})
                spec["data"]["train"][0]["path"] = str(one.directory / f"{name}.jsonl")
                (one.directory / f"{name}.json").write_text(json.dumps(spec))
                return one.cli("submit", one.directory / f"{name}.json", "--wait")

            def refused(base, name, rows, *texts):
                run = spec_on(base, name, rows)
                check(run.returncode == 6 and "in the lineage of the base model" in run.stderr, f"exit {run.returncode}: {run.stderr}")
                for text in texts:
                    check(text in run.stderr, f"no '{text}' in {run.stderr}")

            refused(state["pulled"], "all-again", rows, "of 200 sampled pairs", "all-again.jsonl:1;")
            # The first rows, which a submit samples, are new: the whole-set stage has to find the others.
            half = rows[: len(rows) // 2]
            refused(state["pulled"], "half-again", fresh[:300] + half, f"{len(set(half))} of {300 + len(set(half))} pairs",
                    "half-again.jsonl:301;")
            run = spec_on(state["pulled"], "child", fresh[:300])
            check(run.returncode == 0, f"new pairs were not taken: exit {run.returncode}: {run.stderr}")
            child = one.directory / "child"
            check(one.cli("pull", "child@candidate", child).returncode == 0, "the child cannot be pulled")
            refused(child, "grandchild-parent", fresh[299:], "1 of ", "grandchild-parent.jsonl:1;")
            refused(child, "grandchild", fresh[300:] + rows[-1:], f"1 of {len(fresh) - 299} ", f"grandchild.jsonl:{len(fresh) - 299};")
            pairs = child / "rmjob-pairs.bin"
            good = pairs.read_bytes()
            pairs.write_bytes(good[:-8])
            run = spec_on(child, "damaged", fresh[300:])
            check(run.returncode == 6 and "rmjob-pairs.bin is damaged" in run.stderr, f"exit {run.returncode}: {run.stderr}")
            pairs.write_bytes(good)

        run_cases([(f.__name__.replace("_", " "), f) for f in (
            failed_gate, passed_gate, pulled, tampered, foreign_key, store_tampered, second_version_and_regression,
            reports_feed_the_gate_again, idempotent_submit, retention, second_daemon, second_epoch)])


if __name__ == "__main__":
    main()
