#!/usr/bin/env python3
"""Bad labels stop the job and are named (promise P6): shuffled labels, labels swapped from a row on, in the middle or in a whole file,
duplicated data; healthy data passes. `rmjob explain` says what, where, likely and mend."""
import json, pathlib, random, re, sys, tempfile

from harness import check, make_example, run_cases, service, spec_of

PAIRS = 3000
TRAIN = {"epochs": 1, "global_batch_pairs": 32, "learning_rate": 2e-3, "seed": 7}
example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-quality-"))


def swapped(row):
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def write(name, rows):
    path = example / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def good_rows():
    return [json.loads(line) for line in (example / "train.jsonl").read_text().splitlines()]


def swap_range(name, first, last):
    """The example's rows with the labels of rows first..last (from 1) exchanged."""
    return write(name, [swapped(row) if first <= n <= last else row for n, row in enumerate(good_rows(), 1)])


def main():
    make_example(example, "--pairs", str(PAIRS), "--heldout", "30", "--benchmark-rows", "5", "--hidden", "48", "--layers", "2", "--merges", "120")
    with service() as one:
        def run(name, paths, order="shuffled", watch="stop", names=None):
            spec = spec_of(example, name=name, publish={"name": name, "alias": "candidate"},
                           train=TRAIN | {"margin_watch": watch})
            spec["data"] |= {"train": [{"path": str(path)} | ({"name": names[n]} if names else {}) for n, path in enumerate(paths)], "order": order}
            spec["checkpoint"]["interval"] = "20"
            path = one.directory / f"{name}.json"
            path.write_text(json.dumps(spec))
            return one.cli("submit", path, "--wait")

        def explained(name, run):
            """The four lines of a failure of the data."""
            check(run.returncode == 6, f"exit {run.returncode}: {run.stderr[-600:]}")
            job = run.stdout.strip()
            view = one.job(job)
            check(view["state"] == "FAILED_DATA", f"{view['state']}: {view['reason']}")
            text = one.cli("explain", job).stdout
            lines = {word: re.search(rf"^\s*{word} +(.+)$", text, re.M) for word in ("what", "where", "likely", "mend")}
            check(all(lines.values()), f"explain does not say what, where, likely and mend: {text}")
            check(not (one.state / "artifacts" / "models" / name).exists(), "something was published")
            return {word: line.group(1) for word, line in lines.items()}, view

        def expect_rows(name, paths, path, first, last, consumed=None, order="shuffled"):
            """The rows named must be the true ones: shared rows over the rows of both, of those that training came to."""
            lines, view = explained(name, run(name, paths, order))
            where = re.search(r"(\S+) rows (\d+)-(\d+)", lines["where"])
            check(where, f"no rows are named: {lines['where']}")
            check(where.group(1) == str(path), f"{where.group(1)} is named, not {path}")
            named, truth = (int(where.group(2)), int(where.group(3))), (first, min(last, consumed(view) if consumed else last))
            shared = min(named[1], truth[1]) - max(named[0], truth[0]) + 1
            both = max(named[1], truth[1]) - min(named[0], truth[0]) + 1
            check(shared >= 0.8 * both, f"rows {named[0]}-{named[1]} are named, {truth[0]}-{truth[1]} are swapped")
            check(str(path) in view["reason"] and "margin" in view["reason"], f"the reason names nothing: {view['reason']}")
            print(f"     step {view['progress']['step']} of {view['progress']['steps']}: {lines['where']}")

        def healthy_data_passes():
            check(run("healthy", [example / "train.jsonl"]).returncode == 0, "a healthy job did not pass")

        def healthy_data_in_given_order_passes():
            check(run("given", [example / "train.jsonl"], order="as_given").returncode == 0, "a healthy job did not pass")

        def shuffled_labels():
            coin = random.Random(11)
            path = write("shuffled.jsonl", [swapped(row) if coin.random() < 0.5 else row for row in good_rows()])
            lines, view = explained("shuffled", run("shuffled", [path]))
            check("no signal" in view["reason"] and "chance" in lines["what"], f"{view['reason']}; {lines['what']}")

        def swapped_from_a_row_on():
            expect_rows("late", [swap_range("late.jsonl", 1901, PAIRS)], example / "late.jsonl", 1901, PAIRS)

        def swapped_from_the_middle_on():
            expect_rows("half", [swap_range("half.jsonl", 1501, PAIRS)], example / "half.jsonl", 1501, PAIRS)

        def swapped_from_a_row_on_in_given_order():
            expect_rows("late-given", [swap_range("late.jsonl", 1901, PAIRS)], example / "late.jsonl", 1901, PAIRS, order="as_given",
                        consumed=lambda view: 32 * int(re.search(r"by step (\d+)", view["reason"]).group(1)))

        def swapped_in_the_middle():
            expect_rows("middle", [swap_range("middle.jsonl", 1201, 1800)], example / "middle.jsonl", 1201, 1800)

        def a_whole_file_swapped():
            rows = good_rows()
            paths = [write("vendor-a.jsonl", rows[:1100]), write("vendor-b.jsonl", [swapped(row) for row in rows[1100:1900]]),
                     write("vendor-c.jsonl", rows[1900:])]
            expect_rows("vendors", paths, paths[1], 1, 800)

        def the_watch_can_be_turned_off():
            result = run("unwatched", [swap_range("middle.jsonl", 1201, 1800)], watch="off")
            check(result.returncode in (0, 3), f"exit {result.returncode}: {result.stderr[-600:]}")

        def labels_without_meaning_from_a_row_on():
            coin = random.Random(5)
            path = write("noise.jsonl", [swapped(row) if n > 1500 and coin.random() < 0.5 else row for n, row in enumerate(good_rows(), 1)])
            lines, view = explained("noise", run("noise", [path], order="as_given"))
            check("fell from" in lines["what"], lines["what"])
            print(f"     step {view['progress']['step']} of {view['progress']['steps']}: {lines['what']}; {lines['where']}")

        def a_warning_ends_nothing_and_is_kept():
            swap_range("middle.jsonl", 1201, 1800)
            result = run("warned", [example / "middle.jsonl"], watch="warn")
            check(result.returncode in (0, 3), f"exit {result.returncode}: {result.stderr[-600:]}")
            job = result.stdout.strip()
            report = json.loads(one.cli("report", job, "--output", "json").stdout)
            check(len(report["training"]["warnings"]) == 1 and "middle.jsonl rows" in report["training"]["warnings"][0],
                  f"the report warns of {report['training'].get('warnings')}")
            events = one.cli("watch", job).stdout
            check(events.count("data watch: ") == 1, f"watch does not tell it once: {events[-800:]}")
            check("margin_watch" in one.cli("explain", job).stdout, "explain says nothing of it")

        def the_stream_is_reported_by_source_and_window():
            rows = good_rows()
            paths = [write("vendor-a.jsonl", rows[:1500]), write("vendor-c.jsonl", rows[1500:])]
            result = run("stream", paths, names=("vendor a", "vendor c"))
            check(result.returncode in (0, 3), f"exit {result.returncode}: {result.stderr[-600:]}")
            report = json.loads(one.cli("report", result.stdout.strip(), "--output", "json").stdout)
            sources = report["training"]["sources"]
            check([source["path"] for source in sources] == [str(path) for path in paths], f"sources {sources}")
            check([source["name"] for source in sources] == ["vendor a", "vendor c"], f"names {sources}")
            for source in sources:
                check(len(source["windows"]) == 16 and sum(int(w["pairs"]) for w in source["windows"]) == int(source["whole"]["pairs"]),
                      f"windows do not add up: {source}")
                check(all(w["low"] <= w["accuracy"] <= w["high"] for w in source["windows"]), f"intervals: {source}")
                check(source["windows"][-1]["accuracy"] > 0.7, f"the last window is not learnt: {source['windows'][-1]}")
            check(sum(int(source["whole"]["pairs"]) for source in sources) == int(report["plan"]["pairs"]), "pairs are missing")
            text = one.cli("report", result.stdout.strip()).stdout
            check("training stream" in text and f"vendor c ({paths[1]})" in text, text)

        def held_out_rows_in_the_training_set_are_told():
            rows = good_rows()[:200] + [json.loads(line) for line in (example / "heldout.jsonl").read_text().splitlines()]
            result = run("leaked", [write("leaked.jsonl", rows)])
            job = result.stdout.strip()
            told = one.cli("watch", job).stdout
            check("share text with held-out rows (30 the whole prompt)" in told, f"watch says nothing of it: {told[-800:]}")
            report = json.loads(one.cli("report", job, "--output", "json").stdout)
            check(int(report["data"]["heldout_same_prompt"]) == 30, f"the report counts {report['data'].get('heldout_same_prompt')}")

        def duplicated_rows():
            rows = good_rows()[:40]
            path = write("duplicates.jsonl", rows + rows[:1] * 2960)
            result = run("duplicates", [path])
            check(result.returncode == 6, f"exit {result.returncode}: {result.stderr}")
            for part in ("2960 of 3000 rows", f"{path}:41", f"{path}:1"):
                check(part in result.stderr, f"'{part}' is not in: {result.stderr}")
            check(one.ranks(result.stdout.strip()) == [], "a rank was started")

        def a_killed_rank_changes_nothing_of_it():
            calm, _ = explained("calm", run("calm", [swap_range("middle.jsonl", 1201, 1800)]))
            once = example / "fired"
            with service({"RMJOB_FAULT": "vote@9=kill", "RMJOB_FAULT_ONCE": str(once)}) as other:
                spec = spec_of(example, ranks=2, min_ranks=2, train=TRAIN, publish={"name": "killed", "alias": "candidate"})
                spec["data"]["train"] = [{"path": str(example / "middle.jsonl")}]
                job = other.submit(spec)
                view = other.wait(job)
                check(once.exists(), "the fault never fired: this case tested nothing")
                check(view["state"] == "FAILED_DATA", f"{view['state']}: {view['reason']}")
                text = other.cli("explain", job).stdout
                step = re.search(r"by step \d+,", calm["what"]).group(0)
                check(step in text, f"undisturbed it was seen {step} with a kill: {text}")
                check(f"{example}/middle.jsonl rows" in text, text)

        cases = (healthy_data_passes, healthy_data_in_given_order_passes, shuffled_labels, swapped_from_a_row_on, swapped_from_the_middle_on,
                 swapped_from_a_row_on_in_given_order, swapped_in_the_middle, a_whole_file_swapped, a_killed_rank_changes_nothing_of_it,
                 the_watch_can_be_turned_off, labels_without_meaning_from_a_row_on, a_warning_ends_nothing_and_is_kept,
                 the_stream_is_reported_by_source_and_window, held_out_rows_in_the_training_set_are_told, duplicated_rows)
        only = sys.argv[1:]
        run_cases([(f.__name__.replace("_", " "), f) for f in cases if not only or f.__name__ in only])


if __name__ == "__main__":
    main()
