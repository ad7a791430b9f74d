#!/usr/bin/env python3
"""The arrows check finds a wrong include, and only that."""
import pathlib, subprocess, sys, tempfile

with tempfile.TemporaryDirectory() as name:
    tree = pathlib.Path(name)
    for folder in ("base", "proto", "storage", "kernels", "trainer/run", "service/api"):
        (tree / folder).mkdir(parents=True)
    (tree / "trainer/run/step.c").write_text('#include "base/status.h"\n#include "service/api/jobs.h"\n')
    (tree / "service/api/jobs.c").write_text('#include "storage/object/store.h"\n')
    run = subprocess.run([sys.executable, sys.argv[1], "arrows", str(tree)], capture_output=True, text=True)
    print(run.stdout)
    good = run.returncode == 1 and "trainer/run/step.c:2" in run.stdout and run.stdout.count("\n") == 1
    sys.exit(0 if good else 1)
