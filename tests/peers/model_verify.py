#!/usr/bin/env python3
"""`rmjob model verify` on a tiny random model of each family and option, made by transformers (make_golden.py): all equal at 1e-5.

usage: model_verify.py [FOLDER [NAME ...]]     FOLDER keeps what was made; without it, it goes to a temporary one
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch, transformers  # noqa: F401
except ImportError as missing:
    print(f"SKIP: {missing}")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import make_golden

RMJOB = pathlib.Path(os.environ.get("RMJOB_BIN", "build/dev/bin")) / "rmjob"


def worst(report, group):
    rows = [r["distance"] for r in report["comparisons"] if r["group"] == group and r["judged"]]
    return "inf" if None in rows else f"{max(rows):.1e}" if rows else "-"


def verify(folder):
    run = subprocess.run([RMJOB, "model", "verify", folder, "--batch", folder / "batch.json", "--expected",
                          folder / "expected.safetensors", "--output", "json"], capture_output=True, text=True)
    return run.returncode, json.loads(run.stdout) if run.stdout else None, run.stderr.strip()


def main():
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        failed = 0
        groups = ("scores", "loss", "gradient_norm", "gradient", "parameter")
        print(f"{'model':<22}" + "".join(f"{g:>15}" for g in groups))
        for name in sys.argv[2:] or make_golden.CASES:
            if not (folder / name / "batch.json").exists():
                make_golden.make(name, str(folder / name))
            code, report, message = verify(folder / name)
            failed += code != 0
            if report is None:
                print(f"{name:<22} FAILED: exit {code}: {message}")
                continue
            print(f"{name:<22}" + "".join(f"{worst(report, g):>15}" for g in groups) + ("" if code == 0 else "  FAILED"), flush=True)
            over = [f"{r['name']} {r['distance']}" for r in report["comparisons"] if r["over"]]
            for line in report["problems"] + report["notes"] + over[:8]:
                print(f"    {line}")
        if failed:
            print(f"{failed} failed")
        sys.exit(failed > 0)


if __name__ == "__main__":
    main()
