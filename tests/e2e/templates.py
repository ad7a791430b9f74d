#!/usr/bin/env python3
"""A base model with a chat template of its own is trained, evaluated and published with exactly that template; one that prints the
date says the spec's, in the artifact too; another tokenizer is exported with the model; and what was pinned may not change."""
import json, pathlib, shutil, tempfile

from harness import check, published, run_cases, service, small_example, spec_of

example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-templates-"))
small_example(example)
# As Qwen's: a system turn of its own, the mark of the end of a turn, and a newline after it.
TEMPLATE = ("{{ bos_token }}{{ '<|day|>' + strftime_now('%d %b %Y') + '\\n' }}{%- for m in messages %}\n"
            "{{- '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{%- endfor %}")


def with_template(name, text):
    folder = example / name
    shutil.copytree(example / "base-model", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = text
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def data_of(**more):
    return dict(spec_of(example)["data"], **more)


def main():
    folder = with_template("own-template", TEMPLATE)
    spec = spec_of(example, base_model=str(folder), data=data_of(template_date="2024-07-26"))
    # Steps are held up a little, so that a change at a step comes while the job trains.
    with service({"RMJOB_FAULT": "vote@2+=stall:50"}) as one:
        def submit(case, **changes):
            path = one.directory / "spec.json"
            path.write_text(json.dumps(dict(spec, **changes)))
            run = one.cli(case, path)
            check(run.returncode == 0, run.stderr)
            return run

        def told():
            said = submit("validate").stderr
            check("the model's own chat template" in said and "which says 2024-07-26" in said, said)
            check("pad " in said and "train.jsonl:1 chosen" in said and "[26]" not in said, said)
            path = one.directory / "spec.json"
            path.write_text(json.dumps(spec))
            shown = one.cli("data", "show", path, "--rows", "1")
            check(shown.returncode == 0 and "26·Jul·2024" in shown.stdout.replace("|", ""), shown.stdout + shown.stderr)
            check(shown.stdout.count("<- scored") == 2, shown.stdout)

        def artifact(job, version):
            view = one.wait(job)
            check(view["state"] == "SUCCEEDED", f"{view['state']}: {view['reason']}")
            published(one, version=version)
            target = one.directory / f"pulled-{version}"
            check(one.cli("pull", f"e2e-rm@{version}", target).returncode == 0, "not pulled")
            return target

        def trained():
            target = artifact(submit("submit").stdout.strip(), 1)
            template = (target / "chat_template.jinja").read_text()
            check(template.endswith("\n" + TEMPLATE) and "strftime_now says 2024-07-26" in template, template)
            check(json.loads((target / "tokenizer_config.json").read_text())["chat_template"] == template, "two templates")
            plan = json.loads((target / "rmjob.json").read_text())["report"]["plan"]
            check(plan["template_date"] == "2024-07-26" and plan["use_margin"] is False, plan)

        def another_tokenizer():
            other = example / "other-tokenizer"
            other.mkdir()
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(example / "base-model" / file, other)
            (example / "plain.jinja").write_text("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}")
            data = data_of(tokenizer=str(other), chat_template=str(example / "plain.jinja"))
            target = artifact(submit("submit", data=data).stdout.strip(), 2)
            check((target / "chat_template.jinja").read_text() == (example / "plain.jinja").read_text(), "another template")

        def changed():
            slow = data_of(chat_template=str(example / "plain.jinja"))
            job = submit("submit", data=slow, checkpoint={"interval": "1"}).stdout.strip()
            one.wait_step(job, 2)
            (example / "plain.jinja").write_text("{{ bos_token }}{{ messages[-1].content }}")
            view = one.wait(job)
            check(view["state"] == "FAILED_DATA" and "data.chat_template" in view["reason"], f"{view['state']}: {view['reason']}")

        run_cases([("validate and data show tell template, day, pad token and a row", told),
                   ("a model with its own template is trained, evaluated and published with it", trained),
                   ("another tokenizer and template are exported with the model", another_tokenizer),
                   ("a template that changed after the job was prepared ends it", changed)])


if __name__ == "__main__":
    main()
