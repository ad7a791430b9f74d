"""Unigram tokenizers: by hand for the corners, trained by the public library, and trained by SentencePiece with its own character
maps, put together as T5's, XLM-R's and ALBERT's files are."""

import base64
import json
import os
import subprocess
import sys
import tempfile

import tokenizers
from tokenizer_packages import cache
from tokenizer_texts import CODE, WORDS

SENTENCEPIECE = "sentencepiece==0.2.3"


def sentencepiece():
    folder = os.path.join(cache(), SENTENCEPIECE)
    if not os.path.isdir(folder):
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, SENTENCEPIECE], check=True)
    sys.path.insert(0, folder)
    import sentencepiece as library
    from sentencepiece import sentencepiece_model_pb2 as messages

    return library, messages


def metaspace(scheme, split=True):
    return dict(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=split)


def chain(kind, key, *parts):
    return {"type": kind, key: list(parts)}


def normalizers(*parts):
    return chain("Sequence", "normalizers", *parts)


def pretokenizers(*parts):
    return chain("Sequence", "pretokenizers", *parts)


def replace(pattern, content):
    return dict(type="Replace", pattern=pattern, content=content)


def document(vocab, unk=0, byte_fallback=False, normalizer=None, pre_tokenizer=None, decoder=None, added=(), post=None):
    model = dict(type="Unigram", unk_id=unk, vocab=vocab, byte_fallback=byte_fallback)
    return dict(version="1.0", truncation=None, padding=None, added_tokens=list(added), normalizer=normalizer,
                pre_tokenizer=pre_tokenizer, post_processor=post, decoder=decoder, model=model)


FALLBACK = chain("Sequence", "decoders", replace({"String": "▁"}, " "), dict(type="ByteFallback"), dict(type="Fuse"),
                 dict(type="Strip", content=" ", start=1, stop=0))
BYTES = [["<0x%02X>" % byte, -9.0 - byte / 7] for byte in range(256)]


def by_hand():
    base = [["<unk>", 0.0], ["a", -1.1], ["b", -1.3], ["aa", -2.2], ["ab", -2.4], ["aaa", -3.3000000000000003], ["c", -2], ["abc", -3.5],
            ["é", -2.7182818284590451], ["▁", -1.25], ["▁a", -2.35], ["中", -4], ["中文", -5.123456789012345], ["1", -3], [".", -2.5], ["..", -5.0],
            [" ", -3.25], ["z", -20.0], ["zz", -40.0]]
    for byte_fallback in (False, True):
        for vocab, name in ((base, "no bytes"), (base + BYTES[:200], "some bytes"), (base + BYTES, "all bytes")):
            yield "ties, %s, %s" % (name, byte_fallback), document(vocab, byte_fallback=byte_fallback, decoder=FALLBACK)
    yield "the later of two", document(base + [["a", -7.5], ["ab", -0.5]])
    yield "an unknown run that is a token", document([["<unk>", 100], ["xx", 100], ["b", 120], ["zz", 100], ["a", 300]])
    yield "unk in the middle", document(base[1:9] + [["<unk>", -1]] + base[9:], unk=8, byte_fallback=True)
    # One unit in the last place decides between equal cuts.
    awkward = [-15.275492379532281, -9.908701741838819, -15.774467468261719, -3.2034032344818115, -7.1e-5, -1e-7, -123456.789]
    texts = ["a", "aa", "aaa", "aaaa", "b", "bb", "ab"]
    yield "awkward scores", document([["<unk>", 0.0]] + [[text, score] for text, score in zip(texts, awkward)])
    for shift in range(7):
        turned = awkward[shift:] + awkward[:shift]
        yield "sums %d" % shift, document([["<unk>", 0.0]] + [["a" * (i + 1), turned[0] * (i + 1)] for i in range(6)] + [["b", turned[1]]])
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    yield "ByteLevel", document(base + [["Ġ", -2], ["Ġa", -2.5], ["Ã", -5], ["©", -6], ["Ã©", -7]], pre_tokenizer=byte_level, decoder=byte_level)
    for scheme in ("first", "always", "never"):
        for split in (False, True):
            for name, step in (("plain", None), ("Strip", dict(type="Strip", strip_left=True, strip_right=True)), ("Nmt", dict(type="Nmt")),
                               # "first" behind both is refused.
                               ("StripAccents", normalizers(*([] if scheme == "first" else [dict(type="NFKD")]), dict(type="StripAccents"))),
                               ("Replace", replace({"Regex": "^[ab]"}, "")), ("spaces", replace({"Regex": " {2,}"}, "▁"))):
                yield "Metaspace %s %s, %s" % (scheme, split, name), document(
                    base, normalizer=step, pre_tokenizer=metaspace(scheme, split), decoder=metaspace(scheme, split),
                    added=[dict(id=len(base), content="<x>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)])


def trained(texts):
    for size, extra, name in ((400, [], "400"), (3000, [], "3000"), (1000, ["<pad>", "</s>", "<mask>"], "1000 with specials")):
        library = tokenizers.Tokenizer(tokenizers.models.Unigram())
        library.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        trainer = tokenizers.trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", special_tokens=["<unk>"] + extra, show_progress=False)
        library.train_from_iterator(texts, trainer)
        made = json.loads(library.to_str())
        vocab, added = made["model"]["vocab"], made["added_tokens"]
        marks = dict(type="TemplateProcessing", pair=[], single=[{"Sequence": {"id": "A", "type_id": 0}}], special_tokens={})
        if extra:
            marks["single"] += [{"SpecialToken": {"id": "</s>", "type_id": 0}}]
            marks["special_tokens"] = {"</s>": dict(id="</s>", ids=[2], tokens=["</s>"])}
            marks["pair"] = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]
        yield "trained " + name, document(vocab, added=added, pre_tokenizer=metaspace("always"), decoder=metaspace("always"), post=marks if extra else None)
        yield "trained, ALBERT's form, " + name, document(
            vocab, added=added, pre_tokenizer=metaspace("always"), decoder=metaspace("always"),
            normalizer=normalizers(replace({"String": "``"}, '"'), replace({"String": "''"}, '"'), dict(type="NFKD"), dict(type="StripAccents"),
                                   dict(type="Lowercase"), replace({"Regex": " {2,}"}, " ")))
        yield "trained, whole texts, " + name, document(vocab + BYTES, added=added, byte_fallback=True, decoder=FALLBACK,
                                                        normalizer=normalizers(dict(type="NFKC"), dict(type="Prepend", prepend="▁"),
                                                                               replace({"String": " "}, "▁")))


def by_sentencepiece(texts):
    library, messages = sentencepiece()
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    for rule, byte_fallback in (("nmt_nfkc", False), ("nfkc", True), ("nmt_nfkc_cf", False)):
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, "model")
            library.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=1500, byte_fallback=byte_fallback,
                                               normalization_rule_name=rule, minloglevel=2, num_threads=1)
            model = messages.ModelProto()
            with open(prefix + ".model", "rb") as file:
                model.ParseFromString(file.read())
        vocab = [[piece.piece, piece.score] for piece in model.pieces]
        precompiled = dict(type="Precompiled", precompiled_charsmap=base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode())
        roberta = dict(type="RobertaProcessing", sep=["</s>", 2], cls=["<s>", 1], trim_offsets=True, add_prefix_space=True)
        yield "SentencePiece %s, T5's form" % rule, document(
            vocab, byte_fallback=byte_fallback, pre_tokenizer=metaspace("always"), decoder=metaspace("always"),
            normalizer=normalizers(precompiled, dict(type="Strip", strip_left=False, strip_right=True), replace({"Regex": " {2,}"}, "▁")))
        yield "SentencePiece %s, XLM-R's form" % rule, document(
            vocab, byte_fallback=byte_fallback, normalizer=precompiled, post=roberta, decoder=metaspace("always"),
            pre_tokenizer=pretokenizers(dict(type="WhitespaceSplit"), metaspace("always")))
        yield "SentencePiece %s, first" % rule, document(
            vocab, byte_fallback=byte_fallback, normalizer=precompiled, pre_tokenizer=metaspace("first", False), decoder=FALLBACK)


def unigram_tokenizers(given):
    texts = given[:1500] or (WORDS + CODE) * 200
    yield from by_hand()
    yield from trained(texts)
    yield from by_sentencepiece(texts)
