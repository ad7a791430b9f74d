#!/usr/bin/env python3
"""Our ids and decoded texts equal those of the public `tokenizers` library.

usage: tokenizer_equal.py [--program ENCODE_TEXTS] [--strings N] [--seed N] [--full] [--bench] [DIRECTORY ...]

ENCODE_TEXTS is the test program tokenizer_encode_texts (from $RMJOB_BIN unless named). Each DIRECTORY holds a
tokenizer.json; without any: small tokenizers made here for every part of the format, Unigram ones trained here, the given
stories15M and the nine packages of tokenizer_packages.py. The texts for a DIRECTORY: the given data ($RMJOB_DATA, else
../shared/data), N random Unicode strings, and its added tokens at seams. --full (or RMJOB_TOKENIZERS_FULL=1) takes
100,000 strings and every added token at every seam, which is five minutes more. --bench measures the speed of both on the
given data and on code and Chinese instead. Exit code 77 where `tokenizers` is not installed.
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

try:
    import tokenizers
except ImportError:
    print("SKIP: python has no `tokenizers`; pip install tokenizers to compare with it")
    sys.exit(77)

from tokenizer_packages import folders
from tokenizer_small import small_tokenizers
from tokenizer_texts import CODE, DATA, all_seams, given_texts, random_seams, random_text
from tokenizer_unigram import unigram_tokenizers

CHUNK = 4096


def read_ids(out, at):
    (count,) = struct.unpack_from("<I", out, at)
    return list(struct.unpack_from("<%di" % count, out, at + 4)), at + 4 + 4 * count


class Ours:
    """The program's answers to texts: marks first, then ids and decoded text for each."""

    def __init__(self, program, directory, texts):
        encoded = [text.encode("utf-8") for text in texts]
        blob = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
        self.out = subprocess.run([program, directory], input=blob, stdout=subprocess.PIPE, check=True).stdout
        self.before, at = read_ids(self.out, 0)
        self.after, self.at = read_ids(self.out, at)

    def __iter__(self):
        at = self.at
        while at < len(self.out):
            ids, at = read_ids(self.out, at)
            (size,) = struct.unpack_from("<I", self.out, at)
            yield ids, self.out[at + 4 : at + 4 + size]
            at += 4 + size


class Theirs:
    def __init__(self, directory):
        self.library = tokenizers.Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
        self.library.no_truncation()
        self.library.no_padding()

    def answers(self, texts):
        for start in range(0, len(texts), CHUNK):
            ids = [encoding.ids for encoding in self.library.encode_batch_fast(texts[start : start + CHUNK], add_special_tokens=False)]
            # Ours is a C string: it ends at the first NUL.
            for one, text in zip(ids, self.library.decode_batch(ids, skip_special_tokens=False)):
                yield one, text.encode("utf-8").split(b"\0")[0]


def compare(program, directory, theirs, texts, what, quiet=False):
    ours = Ours(program, directory, texts)
    wrong, compared, token_count = 0, 0, 0
    for text, ours_one, theirs_one in zip(texts, ours, theirs.answers(texts)):
        compared += 1
        token_count += len(theirs_one[0])
        if ours_one != theirs_one:
            wrong += 1
            if wrong <= 5:
                print("  DIFFERS: %r\n    ours   %r\n    theirs %r" % (text[:200], (ours_one[0][:60], ours_one[1][:100]), (theirs_one[0][:60], theirs_one[1][:100])))
    if compared != len(texts):
        print("  DIFFERS: %d texts, %d answers" % (len(texts), compared))
        wrong += 1
    if texts:
        with_marks = theirs.library.encode(texts[0], add_special_tokens=True).ids
        plain = theirs.library.encode(texts[0], add_special_tokens=False).ids
        if with_marks != ours.before + plain + ours.after:
            print("  DIFFERS: marks %r ... %r, theirs %r" % (ours.before, ours.after, with_marks))
            wrong += 1
    if wrong or not quiet:
        print("%-14s %-20s %7d texts, %9d tokens, %d different" % (os.path.basename(directory), what, len(texts), token_count, wrong), flush=True)
    return wrong


def compare_made(program, documents, seed, kind):
    rng = random.Random(seed)
    parts = ["a", "b", "c", "ab", "abc", "aa", "A", "é", "e\u0301", "É", " ", "  ", "▁", "1", "12", ".", "..", "_", "-", "\n", "\r\n", "z", "zz",
             "中", "文", "中文", "\u00a0", "\u180e", "😀", "<unk>", "<x>", "<y>", "<z>", "<xx>", "<x>y", " b ", "<0x61>", "²", "\u0345", "Ⓐ"]
    wrong, count = 0, 0
    for name, document in documents:
        texts = ["".join(rng.choice(parts) for _ in range(rng.randrange(0, 20))) for _ in range(300)]
        texts += [random_text(rng) for _ in range(100)]
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "tokenizer.json"), "w", encoding="utf-8") as file:
                json.dump(document, file)
            wrong += compare(program, directory, Theirs(directory), texts, name, quiet=True)
            count += 1
    print("%d %s tokenizers, 400 texts each, %d different" % (count, kind, wrong), flush=True)
    return wrong


def compare_directory(program, directory, given, strings, options):
    theirs = Theirs(directory)
    wrong = compare(program, directory, theirs, given, "given data")
    wrong += compare(program, directory, theirs, strings, "random strings")
    with open(os.path.join(directory, "tokenizer.json"), encoding="utf-8") as file:
        contents = [token["content"] for token in json.load(file)["added_tokens"]]
    rng = random.Random(options.seed)
    chosen = contents if options.full else rng.sample(contents, min(len(contents), 60))
    wrong += compare(program, directory, theirs, list(all_seams(rng, chosen)), "%d of %d added, seams" % (len(chosen), len(contents)))
    return wrong + compare(program, directory, theirs, list(random_seams(rng, contents, 20000 if options.full else 1000)), "random seams")


def bench(program, directory, texts, what):
    encoded = [text.encode("utf-8") for text in texts]
    blob = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    done = subprocess.run([program, directory, "3"], input=blob, stdout=subprocess.PIPE, check=True)
    print("%s %s, ours: %s" % (os.path.basename(directory), what, done.stdout.decode().splitlines()[-1]))
    library = tokenizers.Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    start = time.process_time()
    for text in texts:
        library.encode(text, add_special_tokens=False)
    print("    public library: %.1f MB/s" % (len(blob) / (time.process_time() - start) * 1e-6), flush=True)


def code_and_chinese(seed):
    rng = random.Random(seed)
    code = ["".join(rng.choice(CODE) + rng.choice(["", " ", "\n", "\n    "]) for _ in range(200)) for _ in range(300)]
    chinese = ["".join(rng.choice("，。的一是不了人我在有他这中大来上国") if rng.random() < 0.4 else chr(rng.randrange(0x4E00, 0x6000)) for _ in range(500))
               for _ in range(500)]
    return code, chinese


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=os.path.join(os.environ.get("RMJOB_BIN", ""), "tokenizer_encode_texts"))
    parser.add_argument("directories", nargs="*")
    parser.add_argument("--strings", type=int)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--full", action="store_true", default=os.environ.get("RMJOB_TOKENIZERS_FULL") == "1")
    parser.add_argument("--bench", action="store_true")
    options = parser.parse_args()
    if not os.path.exists(options.program):
        print("SKIP: no %s; build it or name it with --program" % options.program)
        return 77
    print("tokenizers %s, seed %d" % (tokenizers.__version__, options.seed), flush=True)
    given = list(given_texts())
    wrong, missing = 0, False
    if not options.directories:
        stories = os.path.join(DATA, "models", "stories15M")
        options.directories = [stories] if os.path.isdir(stories) else []
        packages = folders()
        missing = packages is None
        options.directories += packages or []
        if not options.bench:
            wrong += compare_made(options.program, small_tokenizers(), options.seed, "small BPE")
            wrong += compare_made(options.program, unigram_tokenizers(list(given)), options.seed, "Unigram")
    if options.bench:
        code, chinese = code_and_chinese(options.seed)
        for directory in options.directories:
            for texts, what in ((given, "given"), (code, "code"), (chinese, "Chinese")):
                bench(options.program, directory, texts, what)
        return 0
    rng = random.Random(options.seed)
    count = options.strings or (100000 if options.full else 4000)
    strings = [random_text(rng) for _ in range(count)]
    for directory in options.directories:
        wrong += compare_directory(options.program, directory, given, strings, options)
    print("%d different" % wrong)
    if missing:
        print("SKIP: the packages of the field's models are not here and cannot be fetched; all else was compared")
    return 1 if wrong else 77 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
