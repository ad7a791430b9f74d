#!/usr/bin/env python3
"""Makes everything a first job needs: a small base model, preference pairs, held-out pairs and a benchmark.

  make_example.py DIR [--pairs 3000] [--seed 7] [--hidden 96] [--layers 3]

The text follows one rule that a model can learn from pairs: a good answer gives reasons and steps, a bad one shrugs. The same
rule makes the six categories of a benchmark in RewardBench 2's own row format, each with its own wording, and a held-out set with
words of its own. Weights are random; nothing is downloaded. Only the standard library is used, and the bytes depend on the
arguments alone.
"""
import argparse, array, collections, json, math, pathlib, random, struct

TOPICS = ("the garden a letter the bicycle some bread an exam the budget a song the kitchen our trip a poem the router the car "
          "a report the roof a recipe the clock a speech the boat a loan the dog our school the market a novel").replace(" a ", ";a ") \
    .replace(" an ", ";an ").replace(" the ", ";the ").replace(" some ", ";some ").replace(" our ", ";our ").split(";")
BENCHMARK_TOPICS = ("the fence", "a poster", "the piano", "some soup", "a visa", "the cellar", "a contract", "the engine", "a ladder", "the lawn")
GOOD = ("because", "first", "then", "check", "measure", "compare", "carefully", "reason", "step", "explain", "example", "therefore")
BAD = ("whatever", "dunno", "maybe", "stuff", "boring", "somehow", "guess", "nope", "later", "meh", "anyway", "blah")
FILLER = ("you", "can", "do", "it", "with", "this", "and", "that", "for", "a", "day", "now", "we", "see", "how", "goes")
ASKS = {"Factuality": "what is true about {}?", "Precise IF": "answer in one line about {}.", "Math": "how many parts has {}?",
        "Safety": "is it safe to use {}?", "Focus": "tell me about {} and nothing else.", "Ties": "name something about {}."}


def answer(rng, words, count, noise=0.0, other=()):
    """`count` telling words among filler; with probability `noise` one of them comes from the other list."""
    text = []
    for _ in range(count):
        text += rng.sample(FILLER, 2)
        text.append(rng.choice(other if other and rng.random() < noise else words))
    return " ".join(text) + "."


def pair(rng, ask):
    prompt = "\n\nHuman: " + ask.format(rng.choice(TOPICS)) + "\n\nAssistant: "
    count = rng.randint(3, 6)
    return {"chosen": prompt + answer(rng, GOOD, count, 0.15, BAD), "rejected": prompt + answer(rng, BAD, count, 0.15, GOOD)}


def unique(rows, limit):
    """The first `limit` different rows: a repeated pair would be a second epoch."""
    seen = {}
    for row in rows:
        seen.setdefault(json.dumps(row, sort_keys=True), row)
        if len(seen) == limit:
            break
    return list(seen.values())


def training_pairs(rng, count):
    asks = ["how do I fix {}?", "what should I know about {}?", "help me with {}.", "why is {} hard?"] + list(ASKS.values())
    return unique((pair(rng, rng.choice(asks)) for _ in range(4 * count)), count)


def benchmark(rng, per_category):
    rows = []
    for subset, ask in ASKS.items():
        for n in range(per_category):
            prompt = ask.format(rng.choice(BENCHMARK_TOPICS))
            if subset != "Ties":
                rows.append(row(str(len(rows)), prompt, subset, [answer(rng, GOOD, 4)], [answer(rng, BAD, 4) for _ in range(3)]))
                continue
            bad = [answer(rng, BAD, 4) for _ in range(5)]
            rows.append(row(f"tied:{n}", prompt, subset, [answer(rng, GOOD, 4) for _ in range(3)], bad))
            rows.append(row(f"ref:{n}", prompt, subset, [answer(rng, GOOD, 4)], bad))
    return rows


def row(identifier, prompt, subset, chosen, rejected):
    return {"id": identifier, "prompt": prompt, "chosen": chosen, "rejected": rejected, "num_correct": len(chosen),
            "num_incorrect": len(rejected), "total_completions": len(chosen) + len(rejected),
            "models": ["example"] * (len(chosen) + len(rejected)), "subset": subset}


def byte_alphabet():
    """The printable stand-ins of byte-level BPE: each byte has one character."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            table[byte] = chr(byte)
        else:
            table[byte], extra = chr(256 + extra), extra + 1
    return table


def train_bpe(texts, merge_count):
    alphabet = byte_alphabet()
    words = collections.Counter()
    for text in texts:
        for i, word in enumerate(text.replace("\n", " \n").split(" ")):
            if word:
                words["".join(alphabet[b] for b in ((" " if i else "") + word).encode())] += 1
    split = {word: list(word) for word in words}
    merges = []
    for _ in range(merge_count):
        pairs = collections.Counter()
        for word, count in words.items():
            for left, right in zip(split[word], split[word][1:]):
                pairs[left, right] += count
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for word, parts in split.items():
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = ["".join(best)]
                i += 1
    return [alphabet[b] for b in range(256)], merges


def write_tokenizer(directory, texts, merge_count):
    alphabet, merges = train_bpe(texts, merge_count)
    vocabulary = {}
    for token in ["<bos>", "<eos>"] + alphabet + ["".join(m) for m in merges]:
        vocabulary.setdefault(token, len(vocabulary))
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for t, i in (("<bos>", 0), ("<eos>", 1))]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
                 "pre_tokenizer": level, "post_processor": None, "decoder": level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                           "vocab": vocabulary, "merges": [" ".join(m) for m in merges]}}
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "model_max_length": 256}, indent=1))
    return len(vocabulary)


def write_model(directory, rng, vocabulary, hidden, layers, heads):
    forward, width = 2 * hidden, hidden // heads
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm.weight": (hidden,), p + "self_attn.q_proj.weight": (hidden, hidden),
                   p + "self_attn.k_proj.weight": (hidden // 2, hidden), p + "self_attn.v_proj.weight": (hidden // 2, hidden),
                   p + "self_attn.o_proj.weight": (hidden, hidden), p + "post_attention_layernorm.weight": (hidden,),
                   p + "mlp.gate_proj.weight": (forward, hidden), p + "mlp.up_proj.weight": (forward, hidden),
                   p + "mlp.down_proj.weight": (hidden, forward)}
    shapes["model.norm.weight"] = (hidden,)
    header, offset, blobs = {}, 0, []
    for name, shape in shapes.items():
        count = math.prod(shape)
        values = array.array("f", (1.0 for _ in range(count)) if len(shape) == 1 else (rng.gauss(0, 0.04) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + 4 * count]}
        offset += 4 * count
        blobs.append(values.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": forward,
              "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads // 2, "head_dim": width,
              "vocab_size": vocabulary, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "hidden_act": "silu", "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "bos_token_id": 0,
              "eos_token_id": 1, "torch_dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config, indent=1))


def write_rows(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--heldout", type=int, default=200)
    parser.add_argument("--benchmark-rows", type=int, default=40, help="rows of each category")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--merges", type=int, default=300)
    a = parser.parse_args()
    model = a.directory / "base-model"
    model.mkdir(parents=True, exist_ok=True)
    train = training_pairs(random.Random(a.seed), a.pairs)
    write_rows(a.directory / "train.jsonl", train)
    write_rows(a.directory / "heldout.jsonl", unique((pair(random.Random(a.seed + 100 + i), "what about {}?") for i in range(4 * a.heldout)),
                                                      a.heldout))
    write_rows(a.directory / "benchmark.jsonl", benchmark(random.Random(a.seed + 1), a.benchmark_rows))
    vocabulary = write_tokenizer(model, [r["chosen"] for r in train[:500]] + [r["rejected"] for r in train[:500]], a.merges)
    write_model(model, random.Random(a.seed + 2), vocabulary, a.hidden, a.layers, 4)


if __name__ == "__main__":
    main()
