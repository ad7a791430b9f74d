#!/usr/bin/env python3
"""The whole way with a real S3 server as the store of checkpoints and artifacts: same weights as on a directory, kills and an outage of
the server included; wrong credentials, a missing bucket and a server that is away are refused at submit with their class.

Needs MinIO ($RMJOB_MINIO, or scripts/toolchains/go-tools minio); says SKIP without it.
"""
import contextlib, hashlib, json, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile, time

from harness import Failure, check, check_consumed, published, run_cases, service, small_example, spec_of

CACHE = pathlib.Path(os.environ.get("RMJOB_CACHE", pathlib.Path.home() / ".cache/rmjob"))
MINIO = pathlib.Path(os.environ.get("RMJOB_MINIO", CACHE / "tools/minio"))
USER, SECRET = "rmjob-test", "rmjob-test-secret-key"


class Minio:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="rmjob-minio-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        environment = dict(os.environ, MINIO_ROOT_USER=USER, MINIO_ROOT_PASSWORD=SECRET, MINIO_UPDATE="off", MINIO_BROWSER="off")
        self.process = subprocess.Popen([MINIO, "server", "--quiet", "--address", f"127.0.0.1:{self.port}", self.directory],
                                        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                if self.bucket("rmjob"):
                    return self
            time.sleep(0.1)
        raise Failure("MinIO did not start")

    def bucket(self, name):
        empty = hashlib.sha256(b"").hexdigest()
        run = subprocess.run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-X", "PUT", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user",
                              f"{USER}:{SECRET}", "-H", f"x-amz-content-sha256: {empty}", f"{self.url}/{name}"],
                             capture_output=True, text=True)
        return run.stdout in ("200", "409")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def environment(self, **changes):
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"} | changes


def main():
    if not MINIO.exists():
        print(f"SKIP: {MINIO} is not there; scripts/toolchains/go-tools minio builds it")
        sys.exit(77)
    example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-s3-"))
    small_example(example)
    server = Minio().start()
    pairs = sum(1 for _ in open(example / "train.jsonl"))

    def spec(name, **changes):
        return spec_of(example, ranks=2, checkpoint={"store": f"s3://rmjob/ckpt/{name}", "interval": "2"},
                       publish={"name": "e2e-rm", "store": f"s3://rmjob/art/{name}", "alias": "candidate"}, **changes)

    with service() as one:
        job = one.submit(spec_of(example, ranks=2))
        check(one.wait(job)["state"] == "SUCCEEDED", "the job on a directory did not end well")
        expected = published(one)[0]

    def run(name, disturb=None, environment=None):
        def body():
            with service(server.environment(**(environment or {}))) as one:
                job = one.submit(spec(name.replace(" ", "-")))
                if disturb is not None:
                    disturb(one, job)
                view = one.wait(job)
                check(view["state"] == "SUCCEEDED", f"{view['state']}: {view['reason']}\n{one.log()[-2000:]}")
                check_consumed(one.report(job), pairs)
                pulled = one.directory / "pulled"
                answer = one.cli("pull", "e2e-rm", pulled)
                check(answer.returncode == 0, answer.stderr)
                digest = hashlib.sha256((pulled / "model.safetensors").read_bytes()).hexdigest()
                check(digest == expected, f"other bits: {digest} instead of {expected}")
                check(SECRET not in one.log() + one.cli("logs", job).stdout + json.dumps(one.job(job)), "the secret is in a log or an answer")
        return name, body

    def all_killed(one, job):
        one.wait_step(job, 5)
        for supervisor in one.ranks(job):
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGKILL)

    def outage(one, job):
        one.wait_step(job, 3)
        server.stop()
        time.sleep(3)
        server.start()

    def refused(name, code, fragment, environment=None, **changes):
        def body():
            with service(server.environment(**(environment or {}))) as one:
                path = one.directory / "spec.json"
                path.write_text(json.dumps(spec("refused") | changes))
                answer = one.cli("submit", path)
                check(answer.returncode == code, f"exit {answer.returncode} instead of {code}: {answer.stderr}")
                check(fragment in answer.stderr, f"'{fragment}' is not said: {answer.stderr}")
                check(SECRET not in answer.stderr and "other-secret" not in answer.stderr, "the secret is in the message")
        return name, body

    once = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-once-")) / "fired"
    try:
        run_cases([
            run("two ranks"), run("all ranks killed", all_killed), run("server away for 3 s", outage),
            run("rank killed in upload", environment={"RMJOB_FAULT": "upload@4=kill-group", "RMJOB_FAULT_ONCE": str(once)}),
            refused("wrong secret", 5, "checkpoint.store", {"AWS_SECRET_ACCESS_KEY": "other-secret"}),
            refused("no such bucket", 2, "checkpoint.store", checkpoint={"store": "s3://no-such-bucket-here/x"}),
            refused("server away", 7, "checkpoint.store", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
        ])
    finally:
        server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)


if __name__ == "__main__":
    main()
