"""Rows of Parquet files as rmjob reads them are the rows that pyarrow wrote: compressions, encodings, row groups, nested
columns, nulls, odd types. Damaged files are refused or read, never a crash. Reading takes bounded memory.

    parquet_equal.py PROGRAM      PROGRAM is rmjob-test-lines
"""
import decimal
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

SEED = 20261125
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def run(program, paths):
    # A damaged size may ask for all there is; then the allocation fails, and that must be a message too.
    sanitizers = os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1:detect_leaks=0"
    environment = dict(os.environ, ASAN_OPTIONS=sanitizers)
    return subprocess.run([program, *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def read(program, path):
    result = run(program, [path])
    assert result.returncode == 0, result.stderr.decode()
    with open(path, "rb") as file:
        assert result.stderr.decode().strip() == hashlib.sha256(file.read()).hexdigest()
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def wanted(table):
    """What a JSON Lines file of the table would hold; fields of structs that are null are absent."""
    return [{key: without_nulls(value) for key, value in row.items()} for row in table.to_pylist()]


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def pairs_table(count):
    numbers = random.Random(SEED)
    rows = []
    for i in range(count):
        call = [{"type": "function", "function": {"name": "f", "arguments": {"a": i, "b": None}}}] if i % 5 == 0 else None
        rows.append({
            "prompt": [message("system", "be brief"), message("user", f"question {i} \u00e9\u65e5\u672c\U0001f600 \"\\\n\t\x01")][i % 2:],
            "chosen": [message("assistant", f"answer {i} " + "x" * numbers.randrange(200), tool_calls=None)],
            "rejected": [message("assistant", f"other {i % 7}", tool_calls=call), message("tool", "")][: 1 + i % 2],
            "margin": i * 0.1 if i % 3 else None,
            "id": i if i % 11 else None,
            "good": bool(i % 2),
            "chosen_ids": [i, i + 1, 2**31 - 1] if i % 4 else [],
            "about": {"source": ["a", "b", None][i % 3], "deep": {"list": [[i], [], None]}},
            "subset": ["Factuality", "Math", None][i % 3],
        })
    return pa.Table.from_pylist(rows)


def test_encodings(program, folder):
    table = pairs_table(5000)
    expected = wanted(table)
    for compression in ("none", "snappy", "zstd", "gzip"):
        for dictionary in (True, False):
            for version, pages in (("1.0", "1.0"), ("2.6", "2.0")):
                path = os.path.join(folder, f"{compression}.parquet")
                pq.write_table(table, path, compression=compression, use_dictionary=dictionary, version=version,
                               data_page_version=pages, row_group_size=1300, data_page_size=4000)
                assert read(program, path) == expected, (compression, dictionary, version)
    for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
        path = os.path.join(folder, "delta.parquet")
        texts = table.select(["subset"])
        pq.write_table(texts, path, use_dictionary=False, column_encoding={"subset": encoding})
        assert read(program, path) == wanted(texts), encoding
    print("encodings: 18 files of 5,000 rows equal")


def test_types(program, folder):
    path = os.path.join(folder, "types 'odd' [name]*?.parquet")
    table = pa.table({
        "float32": pa.array([0.5, None, 1e-30, -2.0], pa.float32()),
        "double": pa.array([0.1, math.nan, math.inf, 5.0]),
        "int8": pa.array([1, -1, None, 127], pa.int8()),
        "uint64": pa.array([0, 2**63 - 1, None, 2**64 - 1], pa.uint64()),
        "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.5"), decimal.Decimal("0")], pa.decimal128(10, 2)),
        "time": pa.array([datetime(2026, 1, 2, 3, 4, 5), None, None, None]),
        "binary": pa.array([b"bytes as text", None, b"", b"x"], pa.binary()),
        "large": pa.array(["a", "b" * 5000, None, ""], pa.large_string()),
        "category": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "fixed": pa.array([[1, 2], [3, 4], None, [5, None]], pa.list_(pa.int32(), 2)),
        "map": pa.array([[("k", 1), ("l", 2)], [], None, [("m", None)]], pa.map_(pa.string(), pa.int64())),
        "times": pa.array([[datetime(2026, 1, 2)], [], None, [None]], pa.list_(pa.timestamp("us"))),
        "nothing": pa.nulls(4),
        'a "quoted" name': pa.array([1, 2, 3, 4]),
    })
    pq.write_table(table, path)
    rows = read(program, path)
    assert pa.array([row["float32"] for row in rows], pa.float32()) == table["float32"].combine_chunks()
    assert [row["double"] for row in rows] == [0.1, None, "infinity", 5.0]
    assert [row["int8"] for row in rows] == [1, -1, None, 127]
    assert [row["uint64"] for row in rows] == [0, 2**63 - 1, None, float(2**64 - 1)]
    assert [row["decimal"] for row in rows] == [1.25, None, -3.5, 0.0]
    assert rows[0]["time"].startswith("2026-01-02 03:04:05") and rows[1]["time"] is None
    assert [row["binary"] for row in rows] == ["bytes as text", None, "", "x"]
    assert [row["large"] for row in rows] == ["a", "b" * 5000, None, ""]
    assert [row["category"] for row in rows] == ["x", "y", "x", None]
    assert [row["fixed"] for row in rows] == [[1, 2], [3, 4], None, [5, None]]
    assert [row["map"] for row in rows] == [{"k": 1, "l": 2}, {}, None, {"m": None}]
    assert rows[0]["times"][0].startswith("2026-01-02") and rows[3]["times"] == [None]
    assert all(row["nothing"] is None for row in rows)
    assert [row['a "quoted" name'] for row in rows] == [1, 2, 3, 4]
    print("types: equal, under a name of quotes and stars")


def damage(numbers, good):
    bad = bytearray(good)
    if numbers.random() < 0.2:
        return bad[: numbers.randrange(len(bad))]
    for _ in range(numbers.randrange(1, 6)):
        # The footer is where a reader can be misled most.
        at = numbers.randrange(len(bad)) if numbers.random() < 0.5 else len(bad) - 1 - numbers.randrange(min(len(bad), 4000))
        bad[at] = bad[at] ^ (1 << numbers.randrange(8)) if numbers.random() < 0.5 else numbers.randrange(256)
    return bad


def test_damage(program, folder):
    rounds = int(os.environ.get("RMJOB_PARQUET_DAMAGE", "200"))
    numbers = random.Random(SEED)
    refused = 0
    print(f"seed {SEED}")
    for compression in ("snappy", "zstd"):
        path = os.path.join(folder, "good.parquet")
        pq.write_table(pairs_table(300), path, compression=compression, row_group_size=100)
        with open(path, "rb") as file:
            good = file.read()
        for first in range(0, rounds, 100):
            paths = []
            for i in range(100):
                paths.append(os.path.join(folder, f"bad-{i}.parquet"))
                with open(paths[-1], "wb") as file:
                    file.write(damage(numbers, good))
            result = run(program, paths)
            text = result.stderr.decode(errors="replace")
            assert result.returncode in (0, 6), f"{compression}, files {first} on: exit {result.returncode}\n{text[-3000:]}"
            refused += text.count("cannot read the file as Parquet")
    assert refused > rounds // 2, refused
    print(f"damage: {2 * rounds} files, {refused} refused, no crash")
    empty = os.path.join(folder, "empty.parquet")
    for content in (b"", b"PAR1", b"PAR1PAR1", b"{}\n"):
        with open(empty, "wb") as file:
            file.write(content)
        result = run(program, [empty])
        assert result.returncode == 6 and b"empty.parquet: cannot read the file as Parquet (" in result.stderr, result.stderr


def test_memory(program, folder):
    """One row group of 240 MB."""
    path = os.path.join(folder, "large.parquet")
    numbers = random.Random(SEED)
    texts = [f"{numbers.getrandbits(40000):x}" for _ in range(12000)]
    table = pa.table({"chosen": texts, "rejected": [text[::-1] for text in texts]})
    pq.write_table(table, path, compression="snappy", use_dictionary=False, row_group_size=1 << 20)
    size = os.path.getsize(path) >> 20
    del texts, table
    # Of the program itself: what getrusage says includes this process, from before the program was loaded.
    peak = 0
    with subprocess.Popen([program, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            with open(f"/proc/{child.pid}/status") as status:
                peak = max([peak] + [int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")])
            time.sleep(0.01)
    assert child.returncode == 0
    print(f"memory: {size} MiB read with at most {peak} MiB resident")
    with open(program, "rb") as file:
        assert b"__asan" in file.read() or 0 < peak < 512, peak


def main():
    program = sys.argv[1]
    fetched = subprocess.run([os.path.join(ROOT, "scripts", "parquet")], capture_output=True, text=True)
    if fetched.returncode == 77:
        print("SKIP: the Parquet library cannot be fetched:", fetched.stderr.strip())
        sys.exit(77)
    os.environ["RMJOB_PARQUET_LIBRARY"] = fetched.stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        test_encodings(program, folder)
        test_types(program, folder)
        test_memory(program, folder)
        test_damage(program, folder)


main()
