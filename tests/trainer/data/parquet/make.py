"""Makes the small Parquet files beside it, with pyarrow 26: the pairs of pairs.jsonl (dictionary encoded, snappy, two row
groups) and RewardBench 2 rows (zstd), as the published file has its columns.

    python make.py
"""
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq

here = os.path.dirname(os.path.abspath(__file__))


def message(role, content, **more):
    return {"role": role, "content": content, **more}


pairs = []
for i in range(40):
    pairs.append({
        "prompt": [message("user", f"question {i} \u00e9")],
        "chosen": [message("assistant", f"answer {i * 7}" + "m" * (i % 9))],
        "rejected": [message("assistant", f"other {i * 3}")],
        "source": ["one", "two"][i % 2],
    })
with open(os.path.join(here, "pairs.jsonl"), "w") as out:
    out.writelines(json.dumps(row) + "\n" for row in pairs)
pq.write_table(pa.Table.from_pylist(pairs), os.path.join(here, "pairs.parquet"), compression="snappy", row_group_size=25)

rows = []
for number, subset in enumerate(["Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties", "Ties"]):
    correct = ["a", "b"] if number == 5 else ["a"]
    rows.append({
        "id": {5: "tied:0", 6: "ref:0"}.get(number, str(number)), "prompt": "Hi", "chosen": correct,
        "rejected": ["x", "y", "z"], "num_correct": len(correct), "num_incorrect": 3, "total_completions": len(correct) + 3,
        "models": ["m"], "subset": subset, "additional_metadata": {"category": None, "ground_truth": "1"},
    })
pq.write_table(pa.Table.from_pylist(rows), os.path.join(here, "rb2.parquet"), compression="zstd")
