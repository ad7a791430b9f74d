"""rmjob as a person, a script and a CI pipeline meet it: the real program against a real service."""
import contextlib, fcntl, html.parser, json, os, pathlib, pty, re, struct, subprocess, sys, tempfile, termios

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "e2e"))
import harness
from harness import BIN, check

RMJOB = str(BIN / "rmjob")
FAKE_SERVER = sys.argv[1]
ID = re.compile(r"rm-[0-9a-f]+")


def run(*words, state, shell=None, **environment):
    variables = {k: v for k, v in os.environ.items() if k not in ("RMJOB_SERVER", "RMJOB_TOKEN", "NO_COLOR")}
    variables |= {"RMJOB_STATE": str(state), "PATH": f"{BIN}:{os.environ['PATH']}"} | environment
    command = ["bash", "-c", shell] if shell else [RMJOB, *map(str, words)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def expect(done, code, *said):
    check(done.returncode == code, f"{done.args} exited {done.returncode}, not {code}: {done.stderr}")
    for text in said:
        check(text in done.stderr, f"{done.args} did not say '{text}': {done.stderr}")


def on_terminal(words, state, columns, **environment):
    """Everything that the program writes to a terminal of so many columns."""
    pid, master = pty.fork()
    if pid == 0:
        os.environ.update({"RMJOB_STATE": str(state), "TERM": "xterm"} | environment)
        os.execv(RMJOB, [RMJOB, *map(str, words)])
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    output = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while chunk := os.read(master, 65536):
            output += chunk
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def screen_after(output, columns):
    """The rows of an endless terminal after this output: it folds long lines, knows cursor up and erase line."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.|\n", output, re.S):
        if token == "\x1b[A":
            check(row > 0, "the cursor left the screen at the top")
            row -= 1
        elif token == "\x1b[2K":
            rows[row] = ""
        elif token == "\r":
            column = 0
        elif token == "\n":
            row += 1
        elif not token.startswith("\x1b"):
            if column == columns:
                row, column = row + 1, 0
            while len(rows) <= row:
                rows.append("")
            rows[row] = rows[row].ljust(column)[:column] + token + rows[row][column + 1:]
            column += 1
        while len(rows) <= row:
            rows.append("")
    return rows


def no_service():
    with tempfile.TemporaryDirectory() as state:
        for words in (["list"], ["get", "rm-1"], ["watch", "rm-1"], ["models"], ["policy", "get"]):
            expect(run(*words, state=state), 4, f"no service at unix:{state}/rmjobd.sock", "start `rmjobd`", "--server")
        expect(run("list", "--server", "127.0.0.1:1", state=state), 4, "no service at 127.0.0.1:1")
        expect(run("list", "--timeout", "soon", state=state), 2, "--timeout is 'soon'", "90s")
        expect(run("list", "--server", "", state=state), 2, "neither unix:/path nor host:port")
        done = run("doctor", state=state)
        expect(done, 4, "1 of the checks failed")
        check("BAD  no service at" in done.stdout and "GiB free" in done.stdout, done.stdout)
        done = run("doctor", "--output", "json", state=state)
        checks = json.loads(done.stdout)
        check(checks["ok"] is False and [c["ok"] for c in checks["checks"]].count(False) == 1, done.stdout)


def without_a_service_nothing_needs_one():
    with tempfile.TemporaryDirectory() as state:
        for words in (["init"], ["spec", "explain"], ["spec", "explain", "train.epochs"]):
            expect(run(*words, state=state), 0)
            json.loads(run(*words, "--output", "json", state=state).stdout)
        path = pathlib.Path(state) / "job.yaml"
        expect(run("init", path, state=state), 0, "rmjob validate")
        expect(run("init", path, state=state), 2, "is there already")
        expect(run("spec", "explain", "train.epoch", state=state), 2, "did you mean")
        for page in (["--help"], ["help"], ["help", "submit"], ["policy", "get", "--help"], ["--version"]):
            done = run(*page, state=state)
            expect(done, 0)
            check(done.stdout != "" and done.stderr == "", f"{page}: {done.stderr}")
        expect(run(state=state), 2, "no verb given", "usage: rmjob VERB")


def a_service_of_another_version():
    with tempfile.TemporaryDirectory() as state:
        server = subprocess.Popen([FAKE_SERVER, f"unix:{state}/rmjobd.sock", "9.8.7", "99"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        try:
            check(server.stdout.readline() == "ready\n", "the fake service did not start")
            expect(run("list", state=state), 2, "version 9.8.7 (protocol 99)", "this rmjob is ", "(protocol 1)",
                   "use the same version on both sides")
        finally:
            server.stdin.close()
            server.wait(30)


def closed_and_broken_outputs(state):
    for shell in ("rmjob list >&-", "rmjob spec explain >/dev/full", "rmjob list --output json >&-", "rmjob init >&-"):
        expect(run(state=state, shell=shell), 7, "cannot write the result to standard output")
    for shell in ("rmjob list 2>&- | cat", "rmjob list <&- 2>&-", "rmjob list <&-"):
        done = run(state=state, shell=shell)
        check(done.returncode == 0 and "STATE" in done.stdout, f"{shell}: {done}")
    expect(run(state=state, shell="rmjob validate - <&-"), 7, "cannot read standard input")
    done = run(state=state, shell='rmjob spec explain | head -1; echo "${PIPESTATUS[0]}"')
    check(done.stdout.splitlines()[-1] == "0" and done.stderr == "", f"{done}")
    # A reader that is gone before anything is written.
    done = run(state=state, shell='rmjob spec explain | true; exit "${PIPESTATUS[0]}"')
    check(done.returncode == 0 and done.stderr == "", f"{done}")


def the_pinned_key(state):
    pin = state / "pinned-key.pem"
    good = pin.read_text()
    check(pin.stat().st_mode & 0o077 == 0, "others may read the pinned key's file")
    pin.write_text(good.replace("A", "B", 1))
    expect(run("list", state=state), 5, str(pin), "signing key is not the one pinned", "remove that file")
    pin.unlink()
    expect(run("list", state=state), 0)
    check(pin.read_text() == good, "the key was not pinned again")


def a_job(one, example, columns, **changes):
    spec = one.directory / "spec.json"
    spec.write_text(json.dumps(harness.spec_of(example, **changes)))
    code, output = on_terminal(["submit", spec, "--wait"], one.state, columns)
    return spec, code, screen_after(output, columns)


def on_a_narrow_terminal(one, example):
    """The block of progress is rewritten in place, and gone at the end; the table comes once."""
    for columns in (60, 40):
        _, code, rows = a_job(one, example, columns)
        job = ID.search("\n".join(rows)).group()
        check(code == 0, f"exited {code}: {rows}")
        states = [row for row in rows if row.startswith(f"{job} ")]
        check(len(states) == 1 and re.fullmatch(rf"{job} SUCCEEDED  step (\d+)/\1", states[0]), f"{columns} columns: progress was left behind: {rows}")
        text = "\n".join(rows)
        for once in ("GATE PASSED", "loss ", "SUCCEEDED: ", "next "):
            check(text.count("\n" + once) + text.count(f" {once}: ") == 1 or once.endswith(": ") and text.count(once) == 1,
                  f"{columns} columns: '{once}' stands {text.count(once)} times:\n{text}")


def colours(one, job):
    check("\x1b[" in on_terminal(["get", job], one.state, 100)[1], "no colour on a terminal")
    check("\x1b[" not in on_terminal(["get", job], one.state, 100, NO_COLOR="1")[1], "colour in spite of NO_COLOR")
    check("\x1b[" not in on_terminal(["get", job], one.state, 100, TERM="dumb")[1], "colour on a dumb terminal")
    done = run("get", job, state=one.state)
    check("\x1b[" not in done.stdout, "colour in a pipe")


def json_of_every_verb(one, spec, example):
    """Valid JSON on stdout and nothing else; the talk is on stderr."""
    state = one.state

    def parsed(*words, code=0, lines=False):
        done = run(*words, "--output", "json", state=state)
        check(done.returncode == code, f"{words} exited {done.returncode}: {done.stderr}")
        try:
            return [json.loads(line) for line in done.stdout.splitlines()] if lines else json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise harness.Failure(f"{words}: {error}: {done.stdout[:300]}") from None

    job = parsed("submit", spec)["job"]
    events = parsed("watch", job, lines=True)
    check(events[-1]["state"] == "SUCCEEDED" and events[-1]["id"] == job, f"the last line is not the job: {events[-1]}")
    numbers = [e["sequence"] for e in events[:-1]]
    check(numbers == sorted(set(numbers), key=int), "events came twice or out of order")
    check(parsed("get", job)["id"] == job and parsed("explain", job)["id"] == job, "not the job")
    check(parsed("list")["jobs"][0]["id"] == job, "the newest job is not first")
    check(len(parsed("list", "--limit", "1")["jobs"]) == 1, "--limit")
    check(parsed("list", "--project", "nobody") == {}, "jobs of nobody")
    check(all("rank" in chunk for chunk in parsed("logs", job, lines=True)), "a chunk without its process")
    check(parsed("validate", spec).get("findings", []) == [], "findings about a good spec")
    bad = one.directory / "bad.json"
    bad.write_text(json.dumps(harness.spec_of(example, train={"epochs": 3})))
    check(any(f["field"] == "train.epochs" for f in parsed("validate", bad, code=2)["findings"]), "no finding about epochs")
    report = one.directory / "report.json"
    report.write_text(json.dumps(parsed("report", job)))
    check("report" in parsed("report", job, "--failures", "ties"), "no report beside the failures")
    check("passed" in parsed("gate", report, "--spec", spec), "no verdict")
    floors = one.directory / "policy.yaml"
    floors.write_text(run("policy", "get", state=state).stdout)
    parsed("policy", "get")
    parsed("policy", "set", "default", floors)
    check(parsed("models")["models"][0]["name"] == "e2e-rm", "the model is not listed")
    parsed("pull", "e2e-rm", one.directory / "pulled")
    check(parsed("verify", one.directory / "pulled") == {"verified": True}, "not verified")
    check(parsed("doctor")["ok"] is True, "doctor finds fault")
    check("file" in parsed("init", one.directory / "new.yaml"), "init")
    check(parsed("spec", "explain", "train")["field"] == "train", "spec explain")
    scores = one.directory / "scores.json"
    scores.write_text('{"id": ["1", "2"], "subset": ["Math", "Math"], "scores": [[2, 1, 1, 1], [0, NaN, 1, -Infinity]]}')
    check(0.0 <= parsed("evaluate", "--scores", scores)["categories"]["math"]["score"] <= 1.0, "no score of math")
    second = parsed("submit", spec)["job"]
    parsed("resize", second, "--max-ranks", "2")
    check(parsed("cancel", second)["state"] in harness.FINAL, "not cancelled")
    expect(run("watch", second, state=state), 7, "CANCELLED")
    return job


class Page(html.parser.HTMLParser):
    """Tags that a page may hold, each closed in its order; its texts."""
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        check(tag not in ("script", "link", "img", "iframe", "object"), f"the page holds <{tag}>")
        check(all(not name.startswith("on") and name not in ("src", "href") for name, _ in attributes), f"<{tag} {attributes}>")
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        check(self.open and self.open.pop() == tag, f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.text.append(data)


def the_report_is_a_page(one, job):
    path = one.directory / "report.html"
    done = run("report", job, "--html", path, state=one.state)
    check(done.returncode == 0 and "GATE PASSED" in done.stdout, f"the text is not there too: {done.stderr}")
    page = Page()
    page.feed(path.read_text())
    page.close()
    text = " ".join(page.text)
    check(not page.open, f"not closed: {page.open}")
    check("svg" in page.tags and "table" in page.tags, "no pictures or no tables")
    for word in ("e2e-rm", job, "gate passed", "pairs kept", "Training stream", "train.jsonl", "each exactly once"):
        check(word in text, f"'{word}' is not on the page")
    check(json.loads(run("report", job, "--html", path, "--output", "json", state=one.state).stdout)["job"] == job, "no JSON beside it")
    expect(run("report", job, "--html", one.directory / "nowhere" / "x.html", state=one.state), 2, "--html", "nowhere")


def submit_says_the_id_alone(one, spec):
    done = run("submit", spec, state=one.state)
    check(ID.fullmatch(done.stdout.strip()) and done.stdout.count("\n") == 1, f"stdout: {done.stdout!r}")
    for line in ("spec     ok", "pinned   benchmark ", "next     rmjob watch "):
        check(line in done.stderr, f"no '{line}' in {done.stderr}")
    check(" - " not in done.stderr, f"something is said to be pinned that is not known: {done.stderr}")
    again = [run("submit", spec, "--request-id", "mine", state=one.state).stdout for _ in range(2)]
    check(again[0] == again[1], "the same request id gave two jobs")
    # Given up by the client, a submission may still go through: under a known id it makes no job that others would meet.
    expect(run("submit", spec, "--request-id", "mine", "--wait", "--timeout", "1ms", state=one.state), 124)


def a_failed_gate(one, example):
    gate = harness.spec_of(example)["gate"] | {"heldout_accuracy_min": 1.0, "score_std_min": 100.0}
    spec = one.directory / "strict.json"
    spec.write_text(json.dumps(harness.spec_of(example, gate=gate)))
    done = run("submit", spec, "--wait", state=one.state)
    expect(done, 3, "GATE FAILED e2e-rm", "nothing published")
    check(ID.fullmatch(done.stdout.strip()), f"stdout: {done.stdout!r}")
    said = run("explain", done.stdout.strip(), state=one.state).stdout
    check("FAILED_GATE at step " in said and "score_std" in said and "needs 100.000" in said, said)


def main():
    with tempfile.TemporaryDirectory(prefix="rmjob-cli-") as scratch, harness.service() as one:
        example = pathlib.Path(scratch)
        harness.small_example(example)
        spec = one.directory / "spec.json"
        spec.write_text(json.dumps(harness.spec_of(example)))
        jobs = []
        harness.run_cases([
            ("no service: exit 4 and the mend", no_service),
            ("init, spec explain and help need no service", without_a_service_nothing_needs_one),
            ("a service of another version: exit 2, naming both", a_service_of_another_version),
            ("submit prints the id alone", lambda: submit_says_the_id_alone(one, spec)),
            ("--output json of every verb", lambda: jobs.append(json_of_every_verb(one, spec, example))),
            ("the report is a page", lambda: the_report_is_a_page(one, jobs[0])),
            ("a narrow terminal", lambda: on_a_narrow_terminal(one, example)),
            ("colour on terminals only", lambda: colours(one, jobs[0])),
            ("a failed gate is explained, and exits 3", lambda: a_failed_gate(one, example)),
            ("a closed or broken output is an error, not a crash", lambda: closed_and_broken_outputs(one.state)),
            ("a changed key is refused", lambda: the_pinned_key(one.state)),
        ])


main()
