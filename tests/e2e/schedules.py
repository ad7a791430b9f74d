#!/usr/bin/env python3
"""One job under many schedules: ranks, resizes, restarts and kills do not change one bit of the published weights, and every pair
enters exactly one step (promises P1, P3, P7).

  schedules.py [--only NAME] ; RMJOB_SCHEDULES=N adds random schedules by seed up to N in all
"""
import os, pathlib, random, signal, sys, tempfile, time

from harness import Failure, check, check_consumed, published, run_cases, service, small_example, spec_of


def kill(pid, kind=signal.SIGKILL):
    try:
        os.kill(pid, kind)
    except (ProcessLookupError, TypeError):
        pass


def run(example, ranks, disturb=None, environment=None, min_ranks=1):
    pairs = sum(1 for _ in open(example / "train.jsonl"))
    with service(environment) as one:
        job = one.submit(spec_of(example, ranks=ranks, min_ranks=min_ranks))
        if disturb is not None:
            disturb(one, job)
        view = one.wait(job)
        check(view["state"] == "SUCCEEDED", f"{view['state']}: {view['reason']}\n{one.log()[-3000:]}")
        check_consumed(one.report(job), pairs)
        return published(one)[0], view


def fault(point, at, action, ranks=2):
    """A rank dies at a named point, once."""
    def schedule(example):
        once = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-once-")) / "fired"
        digest, view = run(example, ranks, environment={"RMJOB_FAULT": f"{point}@{at}={action}", "RMJOB_FAULT_ONCE": str(once)})
        check(once.exists(), f"the fault {point}@{at} never fired: this schedule tested nothing")
        return digest
    return schedule


def signals(ranks, step, which, target="both", kind=signal.SIGKILL):
    """At `step`, signal the ranks `which` (indices): their supervisors, their trainers or both."""
    def schedule(example):
        def disturb(one, job):
            one.wait_step(job, step)
            processes = one.ranks(job)
            check(len(processes) >= 1, "no rank process found")
            for index in which:
                supervisor = processes[index % len(processes)]
                trainer = one.trainer(supervisor)
                if target in ("both", "trainer"):
                    kill(trainer, kind)
                if target in ("both", "supervisor"):
                    kill(supervisor, kind)
        return run(example, ranks, disturb)[0]
    return schedule


def restart(ranks, step, with_rank=False, down=0.5):
    """kill -9 of the service, alone or with a rank; back after `down` seconds."""
    def schedule(example):
        def disturb(one, job):
            one.wait_step(job, step)
            processes = one.ranks(job)
            one.kill()
            if with_rank and processes:
                kill(one.trainer(processes[0]))
                kill(processes[0])
            time.sleep(down)
            one.start()
        return run(example, ranks, disturb)[0]
    return schedule


def resize(ranks, step, *sizes):
    def schedule(example):
        def disturb(one, job):
            one.wait_step(job, step)
            for size in sizes:
                answer = one.cli("resize", job, "--max-ranks", size)
                check(answer.returncode == 0 or "has ended" in answer.stderr, f"resize failed: {answer.stderr}")
                time.sleep(0.3)
        return run(example, ranks, disturb)[0]
    return schedule


def stall(ranks, step, seconds):
    """SIGSTOP of a trainer, then SIGCONT: slow is not dead, or it is taken for dead and comes back too late."""
    def schedule(example):
        def disturb(one, job):
            one.wait_step(job, step)
            processes = one.ranks(job)
            trainer = one.trainer(processes[-1]) if processes else None
            kill(trainer, signal.SIGSTOP)
            time.sleep(seconds)
            kill(trainer, signal.SIGCONT)
        return run(example, ranks, disturb)[0]
    return schedule


def by_seed(seed):
    """A random schedule: any rank count, up to four disturbances at random steps."""
    def schedule(example):
        rng = random.Random(seed)
        ranks = rng.choice((1, 2, 3, 4))

        def disturb(one, job):
            for _ in range(rng.randint(1, 4)):
                view = one.wait(job, until=lambda v, step=rng.randint(1, 35): v.get("progress", {}).get("step", 0) >= step)
                if view["state"] != "TRAINING":
                    return
                processes = one.ranks(job)
                choice = rng.choice(("trainer", "supervisor", "all", "service", "resize", "term"))
                if choice == "service":
                    one.kill()
                    time.sleep(rng.random())
                    one.start()
                elif choice == "resize":
                    one.cli("resize", job, "--max-ranks", rng.randint(1, 4))
                elif processes:
                    chosen = processes if choice == "all" else [rng.choice(processes)]
                    for supervisor in chosen:
                        if choice == "trainer":
                            kill(one.trainer(supervisor))
                        else:
                            kill(supervisor, signal.SIGTERM if choice == "term" else signal.SIGKILL)
                time.sleep(0.5 * rng.random())
        return run(example, ranks, disturb)[0]
    return schedule


SCHEDULES = {
    "one rank": lambda example: run(example, 1)[0],
    "two ranks": lambda example: run(example, 2)[0],
    "three ranks": lambda example: run(example, 3)[0],
    "five ranks": lambda example: run(example, 5)[0],
    "trainer killed in backward": fault("backward", 9, "kill"),
    "rank killed in backward": fault("backward", 20, "kill-group", ranks=3),
    "trainer killed in reduce": fault("reduce", 4, "kill"),
    "rank killed before the vote": fault("vote", 5, "kill-group"),
    "trainer killed in update": fault("update", 6, "kill", ranks=3),
    "rank killed in upload": fault("upload", 3, "kill-group"),
    "trainer killed before the commit": fault("commit", 2, "kill"),
    "rank killed in export": fault("export", 1, "kill-group"),
    "trainer killed in evaluation": fault("evaluate", 1, "kill"),
    "all ranks killed": signals(3, 5, (0, 1, 2)),
    "two of three killed": signals(3, 4, (0, 2)),
    "the only rank killed": signals(1, 6, (0,)),
    "a rank told to leave": signals(2, 4, (1,), target="supervisor", kind=signal.SIGTERM),
    "service killed": restart(2, 4),
    "service killed with a rank": restart(2, 5, with_rank=True),
    "resized up and down": resize(1, 2, 3, 2),
    "resized down": resize(3, 3, 1),
    "a trainer stalled": stall(2, 4, 1.5),
}


def main():
    example = pathlib.Path(tempfile.mkdtemp(prefix="rmjob-example-"))
    small_example(example)
    names = dict(SCHEDULES)
    for seed in range(max(0, int(os.environ.get("RMJOB_SCHEDULES", "0")) - len(SCHEDULES))):
        names[f"random schedule, seed {seed}"] = by_seed(seed)
    if len(sys.argv) == 3 and sys.argv[1] == "--only":
        names = {n: s for n, s in names.items() if n in ("one rank", sys.argv[2])}
    digests = {}

    def case(name, schedule):
        def body():
            digests[name] = schedule(example)
            first = next(iter(digests.values()))
            if digests[name] != first:
                raise Failure(f"other bits: {digests[name]} instead of {first}")
        return body

    run_cases([(name, case(name, schedule)) for name, schedule in names.items()])


if __name__ == "__main__":
    main()
