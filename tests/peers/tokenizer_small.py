"""Small BPE tokenizers, one part of the format after the other, over a vocabulary that a reader can hold in mind."""


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
