"""What the end-to-end tests share: an example, a service of their own, its processes, and the published bytes."""
import contextlib, hashlib, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time

SOURCE = pathlib.Path(os.environ.get("RMJOB_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BIN = pathlib.Path(os.environ.get("RMJOB_BIN", SOURCE / "build/dev/bin"))
FINAL = ("SUCCEEDED", "FAILED_GATE", "FAILED_DATA", "FAILED_INFRASTRUCTURE", "FAILED_INTERNAL", "CANCELLED")
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:")


class Failure(Exception):
    """What a test did not find as promised."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def make_example(directory, *arguments):
    subprocess.run([sys.executable, str(SOURCE / "scripts/example/make_example.py"), str(directory), *arguments], check=True)


def small_example(directory):
    """About forty steps of a model that trains in two seconds."""
    make_example(directory, "--pairs", "1300", "--heldout", "30", "--benchmark-rows", "5", "--hidden", "32", "--layers", "2",
                 "--merges", "120")


def spec_of(example, ranks=1, min_ranks=1, interval="2", **changes):
    """A spec over an example, as the dictionary that JSON is made from; changes replace whole sections."""
    low = {c: 0.26 for c in ("factuality", "precise_if", "math", "safety", "focus")} | {"ties": 0.0}
    spec = {
        "api_version": "rmjob/v1", "name": "e2e", "base_model": str(example / "base-model"),
        "policy_model": {"family": "llama", "parameters": 100000000},
        "data": {"train": [{"path": str(example / "train.jsonl")}], "heldout": [{"path": str(example / "heldout.jsonl")}],
                 "max_length": 128},
        "train": {"epochs": 1, "global_batch_pairs": 32, "learning_rate": 2e-3, "seed": 7},
        "elastic": {"min_ranks": min_ranks, "max_ranks": ranks}, "resources": {"threads": 1},
        "checkpoint": {"interval": interval, "keep": 2}, "evaluate": {"rewardbench2": str(example / "benchmark.jsonl")},
        "gate": {"rewardbench2": low}, "publish": {"name": "e2e-rm", "alias": "candidate"},
    }
    spec.update(changes)
    return spec


class Service:
    """An rmjobd with its own state directory, started, killed and restarted at will."""

    def __init__(self, directory, environment=None, arguments=()):
        self.directory = pathlib.Path(directory)
        self.state = self.directory / "state"
        self.environment = dict(os.environ, RMJOB_STATE=str(self.state), **(environment or {}))
        self.environment.pop("RMJOB_SERVER", None)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            self.environment[name] = f"{self.environment.get(name, '')} log_path={self.directory}/sanitizer".strip()
        self.arguments = list(arguments)
        self.process = None

    def start(self, environment=None):
        self.state.mkdir(parents=True, exist_ok=True)
        log = open(self.directory / "rmjobd.log", "ab")
        self.process = subprocess.Popen([BIN / "rmjobd", "--state", self.state, *self.arguments],
                                        env=self.environment | (environment or {}), stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL)
        log.close()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"rmjobd ended with {self.process.returncode}: {self.log()[-2000:]}")
            if (self.state / "rmjobd.sock").exists() and self.cli("list").returncode == 0:
                return self
            time.sleep(0.02)
        raise Failure(f"rmjobd did not answer in 30 s: {self.log()[-2000:]}")

    def log(self):
        path = self.directory / "rmjobd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def cli(self, *arguments, **options):
        return subprocess.run([BIN / "rmjob", *map(str, arguments)], env=self.environment, capture_output=True, text=True,
                              timeout=options.pop("timeout", 180), **options)

    def submit(self, spec, name="spec.json"):
        path = self.directory / name
        path.write_text(json.dumps(spec, indent=1))
        run = self.cli("submit", path)
        check(run.returncode == 0, f"submit failed with {run.returncode}: {run.stderr}")
        return run.stdout.strip()

    def job(self, job):
        run = self.cli("get", job, "--output", "json")
        check(run.returncode == 0, f"get failed: {run.stderr}")
        return json.loads(run.stdout)

    def wait(self, job, timeout=150, until=lambda view: view["state"] in FINAL):
        deadline = time.monotonic() + timeout
        view = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(Failure, json.JSONDecodeError):
                view = self.job(job)
                if until(view) or view["state"] in FINAL:
                    return view
            time.sleep(0.03)
        raise Failure(f"{job} did not get there in {timeout} s; last seen: {view.get('state')} {view.get('reason')} "
                      f"{view.get('progress')}\n{self.log()[-3000:]}")

    def wait_step(self, job, step):
        """Until `step` is committed; the job must still be training then, or what follows would disturb nothing."""
        view = self.wait(job, until=lambda view: view.get("progress", {}).get("step", 0) >= step)
        check(view["state"] == "TRAINING", f"the job was {view['state']} already when it should have been disturbed")
        return view

    def ranks(self, job):
        """Process numbers of the supervisors of a job."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if not entry.name.isdigit():
                    continue
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words[0].endswith("rmjob-rank") and job in words and "--trainer" not in words and "prepare" not in words:
                    found.append(int(entry.name))
        return sorted(found)

    def trainer(self, supervisor):
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == supervisor:
                    return int(entry.name)
        return None

    def kill(self, kind=signal.SIGKILL):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(kind)
            self.process.wait(30)

    def report(self, job):
        run = self.cli("report", job, "--output", "json")
        check(run.returncode == 0, f"report failed: {run.stderr}")
        return json.loads(run.stdout)

    def sanitizer_reports(self):
        """What sanitizers said of any process of this service: to files, or to the logs when they were told no file."""
        found = [f"{path.name}: {path.read_text(errors='replace')[:4000]}" for path in sorted(self.directory.glob("sanitizer.*"))]
        for path in [self.directory / "rmjobd.log", *self.state.rglob("*.log")]:
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace")
                begin = min((text.find(mark) for mark in SANITIZER_MARKS if mark in text), default=-1)
                if begin >= 0:
                    found.append(f"{path.name}: {text[begin:begin + 4000]}")
        return "\n".join(found)

    def close(self):
        self.kill(signal.SIGTERM)
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if entry.name.isdigit() and b"rmjob-rank" in (entry / "cmdline").read_bytes() and \
                        str(self.state).encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def service(environment=None, keep=False, arguments=()):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-e2e-"))
    one = Service(directory, environment, arguments)
    failure = None
    try:
        yield one.start()
    except Exception as error:
        failure = error
    finally:
        one.close()
        reports = one.sanitizer_reports()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    if reports:
        raise Failure(f"{failure or 'all held, but a sanitizer reported:'}\n{reports}") from failure
    if failure is not None:
        raise failure


def published(one, name="e2e-rm", version=1, weights_name="model.safetensors"):
    """Digest of the published weights and the version's record, read from the store as anybody could."""
    path = one.state / "artifacts" / "models" / name / f"{version}.json"
    check(path.exists(), f"{path} is not there")
    record = json.loads(path.read_text())
    folder = one.state / "artifacts" / record["prefix"]
    for file in record["files"]:
        digest = hashlib.sha256((folder / file["path"]).read_bytes()).hexdigest()
        check(digest == file["sha256"], f"{file['path']} does not match its digest")
    weights = [f for f in record["files"] if f["path"] == weights_name]
    check(len(weights) == 1, f"no {weights_name} in the artifact")
    return weights[0]["sha256"], record


def check_consumed(report, pairs):
    """Every accepted pair entered exactly one step."""
    consumed, plan = report["consumed"], report["plan"]
    check(int(plan["pairs"]) == pairs, f"the plan has {plan['pairs']} pairs, the file {pairs}")
    check(int(consumed["pairs"]) == pairs, f"{consumed['pairs']} pairs entered a step, {pairs} were accepted")
    check(consumed["pairs_sum"] == plan["pairs_sum"], "the sum of the consumed pairs is not the plan's")
    check(int(consumed["steps"]) == int(plan["steps"]), "not every step was made")


def run_cases(cases):
    """cases: (name, function). Prints one line each, as test runners read them; exits 1 on a failure."""
    failed = 0
    for name, function in cases:
        begin = time.monotonic()
        try:
            function()
            print(f"ok   {name}  {time.monotonic() - begin:.1f} s", flush=True)
        except Exception as error:  # a broken harness is a failed test too
            failed += 1
            print(f"FAIL {name}  {time.monotonic() - begin:.1f} s\n     {type(error).__name__}: {error}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases hold")
    sys.exit(1 if failed else 0)
