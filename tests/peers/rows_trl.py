"""Rows as rmjob reads them, rendered and tokenized by the public code, give the token ids of TRL's own preprocessing
(RewardTrainer), for each form that TRL has, from .jsonl and from .parquet.

    rows_trl.py PROGRAM      PROGRAM is rmjob-test-rows
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import datasets  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402
from trl import RewardConfig, RewardTrainer  # noqa: E402
from trl.trainer.utils import remove_none_values  # noqa: E402

SEED = 20261125
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}{% if thinking %}<think>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{% if message.content is string %}{{ message.content }}"
    "{% elif message.content %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    "{% if message.reasoning_content is defined %}<r>{{ message.reasoning_content }}</r>{% endif %}"
    "{% if message.name is defined %}<n>{{ message.name }}</n>{% endif %}"
    "{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}{{ eos_token }}{% endfor %}"
)


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["the answer to a question of the user and the assistant"] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    return fast


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def make_sets():
    numbers = random.Random(SEED)
    word = lambda: numbers.choice(["the answer", " caf\u00e9", "\u65e5\u672c", "", "\n\nx", "\"quoted\" \\", "</s>"])  # noqa: E731
    question = lambda i: [message("system", "be brief")] * (i % 2) + [message("user", f"question {i} {word()}")]  # noqa: E731
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    count = range(40)
    return {
        "text": [{"chosen": f"a{i} {word()}", "rejected": f"b{i} {word()}"} for i in count],
        "text, prompt apart": [{"prompt": f"p{i} {word()}", "chosen": f"a{i} {word()}", "rejected": f"b{i}"} for i in count],
        "messages": [{"chosen": question(i) + [message("assistant", f"a {word()}")],
                      "rejected": question(i) + [message("assistant", f"b {word()}")]} for i in count],
        "messages, prompt apart": [{"prompt": question(i), "chosen": [message("assistant", f"a {word()}")],
                                    "rejected": [message("assistant", f"b {word()}", name="n", reasoning_content="why")],
                                    "margin": i / 8} for i in count],
        "tools": [{"prompt": question(i), "chosen": [message("assistant", "", tool_calls=[call]), message("tool", word())],
                   "rejected": [message("assistant", f"b {word()}")], "tools": [tool]} for i in count],
        "tools as text": [{"prompt": question(i), "chosen": [message("assistant", f"a{i}")],
                           "rejected": [message("assistant", f"b{i}")], "tools": json.dumps([tool])} for i in count],
        "chat_template_kwargs": [{"prompt": question(i), "chosen": [message("assistant", f"a{i}")],
                                  "rejected": [message("assistant", f"b{i}")], "chat_template_kwargs": {"thinking": i % 3 == 0}}
                                 for i in count],
        "ids": [{"chosen_ids": [i, i + 1], "rejected_ids": [i, i + 2, 7]} for i in count],
        "legacy ids": [{"chosen_input_ids": [i, 5], "chosen_attention_mask": [1, 1], "rejected_input_ids": [i],
                        "rejected_attention_mask": [1]} for i in count],
    }


def trl_ids(rows, tokenizer, folder):
    # None that the table format adds to a message is what TRL itself says to take out again.
    dataset = datasets.Dataset.from_list(rows).with_transform(remove_none_values)
    config = RewardConfig(output_dir=folder, max_length=None, bf16=False, use_cpu=True, report_to="none")
    prepared = RewardTrainer._prepare_dataset(None, dataset, tokenizer, config, "train")
    return [(list(row["chosen_ids"]), list(row["rejected_ids"])) for row in prepared]


def our_ids(program, path, tokenizer):
    result = subprocess.run([program, "automatic", "1", path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    def ids(row, side):
        if row["kind"] == "ids":
            return side
        if row["kind"] == "text":
            return tokenizer(side if side.endswith(tokenizer.eos_token) else side + tokenizer.eos_token)["input_ids"]
        return tokenizer.apply_chat_template(side, tools=row["tools"], tokenize=True, return_dict=True, **(row["kwargs"] or {}))["input_ids"]

    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [(ids(row, row["chosen"]), ids(row, row["rejected"][0])) for row in rows]


def main():
    program = sys.argv[1]
    datasets.disable_progress_bars()
    fetched = subprocess.run([os.path.join(ROOT, "scripts", "parquet")], capture_output=True, text=True)
    endings = ["jsonl"]
    if fetched.returncode == 0:
        os.environ["RMJOB_PARQUET_LIBRARY"] = fetched.stdout.strip()
        endings.append("parquet")
    tokenizer = make_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in make_sets().items():
            theirs = trl_ids(rows, tokenizer, folder)
            for ending in endings:
                path = os.path.join(folder, f"rows.{ending}")
                if ending == "jsonl":
                    with open(path, "w") as out:
                        out.writelines(json.dumps(row) + "\n" for row in rows)
                else:
                    pq.write_table(pa.Table.from_pylist(rows), path)
                ours = our_ids(program, path, tokenizer)
                assert len(ours) == len(theirs)
                for i, (left, right) in enumerate(zip(ours, theirs)):
                    assert left == right, (name, ending, i, rows[i], left, right)
            print(f"{name}: {len(rows)} rows equal from {' and '.join(endings)}")


main()
