#!/usr/bin/env python3
"""Prints the tables of trainer/tokenizer/unicode.c: where PCRE2 and utf8proc know another version of Unicode than the
public `tokenizers` library, measured on every character. Run it again when either side moves to a newer Unicode."""

import ctypes
import os
import tempfile

from tokenizers import Regex, normalizers
from tokenizers.pre_tokenizers import Punctuation, Split
from tokenizer_unigram import sentencepiece

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()
CHARACTERS = [code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]


def theirs_matching(pattern):
    text = "".join(map(chr, CHARACTERS))
    pieces = Split(Regex("(?:%s)+" % pattern), "removed", invert=True).pre_tokenize_str(text)
    return {ord(character) for piece, _ in pieces for character in piece}


def ours_matching(pattern):
    pcre = ctypes.CDLL("libpcre2-32.so.0")
    pcre.pcre2_compile_32.restype = pcre.pcre2_match_data_create_32.restype = ctypes.c_void_p
    encoded = (ctypes.c_uint32 * len(pattern))(*map(ord, pattern))
    error, offset = ctypes.c_int(), ctypes.c_size_t()
    utf_ucp = 0x00080000 | 0x00020000
    code = ctypes.c_void_p(
        pcre.pcre2_compile_32(encoded, ctypes.c_size_t(len(pattern)), utf_ucp, ctypes.byref(error), ctypes.byref(offset), None)
    )
    match = ctypes.c_void_p(pcre.pcre2_match_data_create_32(1, None))
    one = ctypes.c_size_t(1)
    found = set()
    for character in CHARACTERS:
        subject = ctypes.c_uint32(character)
        if pcre.pcre2_match_32(code, ctypes.byref(subject), one, ctypes.c_size_t(0), 0, match, None) >= 0:
            found.add(character)
    return found


def ranges(characters):
    rows = []
    for code in sorted(characters):
        if rows and rows[-1][1] == code - 1:
            rows[-1][1] = code
        else:
            rows.append([code, code])
    return rows


def opaque_characters():
    """Those that the public normalization leaves alone and utf8proc does not."""
    proc = ctypes.CDLL("libutf8proc.so.2")
    proc.utf8proc_map.restype = ctypes.c_ssize_t
    proc.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_int16 * 2)  # category, combining class

    def mapped(text, options):
        raw, out = text.encode(), ctypes.c_char_p()
        size = proc.utf8proc_map(raw, ctypes.c_ssize_t(len(raw)), ctypes.byref(out), options)
        return out.value.decode() if size >= 0 else None

    stable, compat, compose, decompose = 2, 4, 8, 16
    forms = {
        normalizers.NFC(): stable | compose,
        normalizers.NFD(): stable | decompose,
        normalizers.NFKC(): stable | compose | compat,
        normalizers.NFKD(): stable | decompose | compat,
    }
    found = set()
    for code in CHARACTERS:
        character = chr(code)
        marked = proc.utf8proc_get_property(code).contents[1] != 0
        texts = [character] + ([character + "\u0334", "\u3099" + character, "\u0334" + character + "\u0334"] if marked else [])
        if any(mapped(text, options) != form.normalize_str(text) for form, options in forms.items() for text in texts):
            found.add(code)
    return found


def later_marks():
    """Marks to utf8proc that StripAccents leaves."""
    proc = ctypes.CDLL("libutf8proc.so.2")
    strip = normalizers.StripAccents()
    return {code for code in CHARACTERS if proc.utf8proc_category(code) in (6, 7, 8) and strip.normalize_str(chr(code))}


def extenders():
    """What extends a grapheme cluster to Precompiled and not to utf8proc: it goes with the letter that the map knows."""
    with tempfile.TemporaryDirectory() as folder:
        library, messages = sentencepiece()
        prefix = os.path.join(folder, "model")
        library.SentencePieceTrainer.train(sentence_iterator=iter(["a b c d e f g"] * 9), model_prefix=prefix, vocab_size=11,
                                           normalization_rule_name="nmt_nfkc_cf", minloglevel=2, hard_vocab_limit=False)
        model = messages.ModelProto()
        with open(prefix + ".model", "rb") as file:
            model.ParseFromString(file.read())
    form = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    proc = ctypes.CDLL("libutf8proc.so.2")
    proc.utf8proc_grapheme_break_stateful.restype = ctypes.c_bool

    def differs(code):
        alone = form.normalize_str(chr(code))
        theirs = alone != "" and form.normalize_str("A" + chr(code) + "q") != "a" + alone + "q"
        return theirs and proc.utf8proc_grapheme_break_stateful(ord("A"), code, ctypes.byref(ctypes.c_int32(0)))

    return {code for code in CHARACTERS if differs(code)}


def later_punctuation():
    """\\p{P} to both pattern libraries that Punctuation does not take."""
    text = "".join("a" + chr(code) for code in CHARACTERS)
    kept = {character for piece, _ in Punctuation("removed").pre_tokenize_str(text) for character in piece}
    return {code for code in theirs_matching(r"\p{P}") if chr(code) in kept}


def print_ranges(characters):
    for first, last in ranges(characters):
        print("    {0x%x, 0x%x}," % (first, last))
    print()


def main():
    for category in CATEGORIES:
        for first, last in ranges(theirs_matching(r"\p{%s}" % category) - ours_matching(r"\p{%s}" % category)):
            print('    {"%s", 0x%x, 0x%x},' % (category, first, last))
    for first, last in ranges(theirs_matching(r"\w") - ours_matching(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]")):
        print('    {"w", 0x%x, 0x%x},' % (first, last))
    print()
    for table in (opaque_characters, later_marks, extenders, later_punctuation):
        print(table.__name__)
        print_ranges(table())


if __name__ == "__main__":
    main()
