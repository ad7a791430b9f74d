#!/usr/bin/env python3
"""House rules that a machine can hold: who includes whom, headers that stand alone, format, a page for every folder.

  lint.py arrows|headers|format|pages|words|symbols [SOURCE [BUILD]]
"""
import os, pathlib, re, shutil, subprocess, sys

SOURCE = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("RMJOB_SOURCE", ".")).resolve()
BUILD = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else SOURCE / "build/dev"
CODE = ("base", "proto", "storage", "kernels", "trainer", "service")

# Who may include whom (README "the house"): folder -> prefixes of what its files may include. The longest matching folder counts.
ARROWS = {
    "base": ["base/"],
    "proto": ["base/", "proto/"],
    "storage": ["base/", "storage/"],
    "kernels": ["base/", "kernels/"],
    "trainer": ["base/", "proto/", "storage/", "kernels/", "trainer/"],
    "trainer/tokenizer": ["base/", "storage/", "trainer/tokenizer/"],
    "trainer/jinja": ["base/", "trainer/jinja/"],
    "trainer/model": ["base/", "storage/", "kernels/", "trainer/model/", "trainer/data/pack.h"],
    "trainer/optim": ["base/", "kernels/", "trainer/model/", "trainer/optim/"],
    "trainer/comm": ["base/", "trainer/comm/"],
    "trainer/data": ["base/", "proto/", "storage/", "trainer/data/", "trainer/tokenizer/", "trainer/jinja/", "trainer/model/",
                     "trainer/optim/"],
    "trainer/eval": ["base/", "proto/", "storage/", "trainer/eval/", "trainer/data/", "trainer/tokenizer/", "trainer/model/"],
    "service": ["base/", "proto/", "storage/", "service/"],
    "service/scheduler": ["base/", "proto/rmjob/", "service/scheduler/"],
    "service/gate": ["base/", "proto/", "service/gate/"],
    "service/cli": ["base/", "proto/", "storage/", "service/cli/", "service/gate/"],
}


def files(*suffixes, folders=CODE):
    for folder in folders:
        for path in sorted((SOURCE / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def arrows():
    faults = []
    for path in files(".c", ".h"):
        name = path.relative_to(SOURCE).as_posix()
        folder = max((f for f in ARROWS if name.startswith(f + "/")), key=len)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if match is None:
                continue
            target = match.group(1)
            if not target.startswith(tuple(f + "/" for f in CODE)):
                faults.append(f"{name}:{number}: \"{target}\" is not written from the root of the tree")
            elif not target.startswith(tuple(ARROWS[folder])):
                faults.append(f"{name}:{number}: {folder} may not include {target}")
    return faults


def headers():
    command = ["cc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{SOURCE}", f"-I{BUILD}",
               f"-I{BUILD}/proto", "-x", "c"]
    faults = []
    for path in files(".h"):
        run = subprocess.run(command + [str(path)], capture_output=True, text=True)
        if run.returncode != 0:
            faults.append(f"{path.relative_to(SOURCE)} does not stand alone:\n{run.stderr.strip()}")
    return faults


def format_check():
    tool = shutil.which("clang-format")
    if tool is None:
        print("SKIP: clang-format is not installed")
        sys.exit(77)
    names = [str(p) for p in files(".c", ".h", folders=CODE + ("tests", "scripts"))]
    run = subprocess.run([tool, "--dry-run", "-Werror", *names], capture_output=True, text=True, cwd=SOURCE)
    return [] if run.returncode == 0 else [line for line in run.stderr.splitlines() if "error:" in line][:40]


def pages():
    faults = []
    for top in CODE + ("tests", "scripts"):
        for folder in [SOURCE / top, *sorted((SOURCE / top).rglob("*"))]:
            if not folder.is_dir() or folder.name == "__pycache__":
                continue
            holds_code = any(f.suffix in (".c", ".h") for f in folder.iterdir())
            if (holds_code or folder.parent == SOURCE) and top in CODE and not (folder / "README.md").exists():
                faults.append(f"{folder.relative_to(SOURCE)} has no README.md")
    for page in SOURCE.rglob("README.md"):
        if "build" in page.relative_to(SOURCE).parts:
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                faults.append(f"{page.relative_to(SOURCE)} links to {target}, which is not there")
    return faults


def words():
    faults = []
    pattern = re.compile(r"\b(TO" + "DO|FIX" + "ME|X" + "XX)\\b")
    for path in files(".c", ".h", ".py", ".sh", folders=CODE + ("tests", "scripts")):
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                faults.append(f"{path.relative_to(SOURCE)}:{number}: unfinished: {line.strip()[:80]}")
        if path.suffix in (".c", ".h") and len(text.splitlines()) > 800:
            faults.append(f"{path.relative_to(SOURCE)} is longer than 800 lines: one subject a file")
    return faults


def symbols():
    """No two libraries define one name: a static link would take either without a word."""
    seen, faults = {}, []
    for folder in CODE:
        for archive in sorted((BUILD / folder).rglob("*.a")):
            run = subprocess.run(["nm", "--defined-only", "--extern-only", str(archive)], capture_output=True, text=True)
            for name in set(re.findall(r"^[0-9a-f]+ [TDBR] (\w+)$", run.stdout, re.M)):
                if name in seen:
                    faults.append(f"{name} is defined in {seen[name]} and in {archive.name}")
                seen[name] = archive.name
    if not seen:
        faults.append(f"no library was found below {BUILD}")
    return faults


CHECKS = {"arrows": arrows, "headers": headers, "format": format_check, "pages": pages, "words": words, "symbols": symbols}

if __name__ == "__main__":
    found = CHECKS[sys.argv[1]]()
    for fault in found:
        print(fault)
    sys.exit(1 if found else 0)
