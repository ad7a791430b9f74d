"""Texts to compare tokenizers on: what is given, random Unicode, and added tokens at every seam."""

import gzip
import json
import os

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
SPACES = " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\ufeff"
MARKS = "\u0300\u0301\u0308\u0323\u0327\u0338\u034f\u0345\u0591\u05b0\u064b\u0651\u0670\u093c\u094d\u0e31\u0f71\u1ab0\u20d0\u20dd\u3099\ufe20"
WORDS = ["the", " the", "'s", "'S", "'ll", "I'm", " 123", "12345", "\r\n", "\n\n", "   ", " \n ", "\t\t", "...", "été", "中文字", "naïve",
         "👨‍👩‍👧", "\n\nHuman:", "\n\nAssistant:", "don’t", "<s>", "</s>", "<unk>", "<0x41>", "▁the", " ▁", "aaaa", "नमस्ते",
         "👩🏽‍💻", "🇩🇪🇫🇷", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "ﬁ", "Straße", "İstanbul", "ǆ", "한국어", "ประเทศไทย", "مرحبا", "שלום", "日本語テキスト", "Ωμέγα", "привет"]
CODE = ["def f(x):\n    return x + 1\n", "for (int i = 0; i < n; i++) {", "\t\tif (a != NULL && b->c)", "#include <stdio.h>\n", "</div>\n",
        "a[i]=b[j]*0x1F;", "SELECT * FROM t WHERE id=42;", "std::vector<int>", "    \"key\": [1, 2.5e-3, null],\n", "$HOME/.cache", "x_y__z",
        "camelCaseName", "// comment ===== \n", "\\u00e9\\n", "`ls -la | grep foo`", "1_000_000", "=>", "!==", "::", "<!-- -->"]
# Blocks whose characters stand together in real texts.
BLOCKS = [(0xA1, 0x250), (0x250, 0x300), (0x370, 0x400), (0x400, 0x530), (0x530, 0x590), (0x590, 0x600), (0x600, 0x780), (0x900, 0xDFF),
          (0xE00, 0x1000), (0x1000, 0x1200), (0x1200, 0x13A0), (0x1780, 0x1800), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2C00),
          (0x3000, 0x3100), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xF900, 0xFB00), (0xFB00, 0xFE00), (0xFE20, 0x10000),
          (0x10000, 0x10400), (0x11000, 0x11800), (0x1D400, 0x1D800), (0x1F000, 0x1FB00), (0x20000, 0x20800), (0xE0000, 0xE01F0)]


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


def one_block(rng):
    first, last = rng.choice(BLOCKS)
    return "".join(chr(rng.randrange(first, last)) for _ in range(rng.randrange(1, 20)))


def random_text(rng):
    parts = []
    for _ in range(rng.randrange(1, 24)):
        kind = rng.random()
        if kind < 0.25:
            parts.append(rng.choice(WORDS))
        elif kind < 0.3:
            parts.append(any_character(rng) * rng.randrange(2, 80))
        elif kind < 0.38:
            parts.append(rng.choice(CODE))
        elif kind < 0.45:
            parts.append("".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 6))))
        elif kind < 0.5:
            parts.append(any_character(rng) + "".join(rng.choice(MARKS) for _ in range(rng.randrange(1, 4))))
        elif kind < 0.57:
            parts.append(one_block(rng))
        elif kind < 0.62:
            parts.append(str(rng.randrange(10 ** rng.randrange(1, 18))))
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


def given_texts():
    """Every text of the given preferences and benchmark rows; none, said aloud, where they are not."""
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


def seams_of(content, other):
    """One added token in every neighbourhood: at the ends, doubled, inside words, in white space, cut, in another case."""
    middle = len(content) // 2
    return [content, content * 2, content * 3, content + " " + content, content + "\n" + content, " " + content, content + " ", "  " + content + "  ",
            "\n" + content + "\n", "\r\n\t" + content + "\t\r\n", "\u00a0" + content + "\u3000", "\u2003 " + content + " \u2003", "a" + content,
            content + "a", "wo" + content + "rd", "word " + content + " word", "é" + content + "中", "中" + content + "文", "_" + content + "_",
            "7" + content + "7", ".,!" + content + "?;", "<" + content + ">", "e" + content + "\u0301", "\u0301" + content + "e", "▁" + content + "▁",
            "Ġ" + content + "Ċ", "👩\u200d" + content + "\u200d👩", "\u200b" + content + "\ufeff", content[:-1], content[1:], content[:-1] + " " + content,
            content[:middle] + content + content[middle:], content.upper(), content.lower(), other + content, content + other,
            content + " " + other, other + "x" + content + other, content + other[: len(other) // 2], "\0" + content + "\0"]


def all_seams(rng, contents):
    for content in contents:
        yield from seams_of(content, rng.choice(contents))


def random_seams(rng, contents, count):
    around = ["", " ", "  ", "\n", "a", "é", "中", "\u0301", "<", ">", "|", "\u00a0", "_", "7", "s>"]
    for _ in range(count if contents else 0):
        text = ""
        for _ in range(rng.randrange(1, 5)):
            content = rng.choice(contents)
            if rng.random() < 0.2:
                content = content[: rng.randrange(len(content) + 1)]
            text += rng.choice(around) + content + rng.choice(around)
        yield text
