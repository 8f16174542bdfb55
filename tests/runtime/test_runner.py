"""The runner over a real cluster: real scheduler, real workers, real signals, real disk."""

import os
import subprocess
import sys
import threading
import time

import pytest

from engine.core import settings
from engine.core.lab import load, open_store
from engine.core.study import Point, key
from engine.runtime import dask_cluster
from engine.runtime.runner import ENDED, Runner
from engine.studies.dp_training.dp_training import DPTraining
from tests.conftest import ROOT
from tests.toy_studies import Broken, Counting, Deadly, Failing, Nested, Stubborn


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the shared workers keep their results, and leave their trace."""
    return tmp_path_factory.mktemp("runner")


@pytest.fixture(scope="module")
def shared(place):
    """Workers for all tests that leave them as they were: to start some takes seconds.

    Every test submits studies of its own, as what is stored is not run again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VEIL_SCHEDULER", raising=False)
        patch.setenv("VEIL_HOME", str(place / "home"))
        patch.setenv("VEIL_TEST_TRACE", str(place / "trace"))
        runner = Runner(open_store())
        assert runner.ready.wait(120)
    yield runner
    runner.close()


@pytest.fixture
def runner(shared):
    """The same; what a failed test has left running is stopped."""
    yield shared
    for run in list(shared.runs.values()):
        if run.state not in ENDED:
            shared.cancel(run.key)
            ended(run)


@pytest.fixture
def own_runner(home):
    """Workers that a test may harm."""
    runner = Runner(open_store())
    yield runner
    runner.close()


@pytest.fixture
def trained(place):
    """A function: a line for each time that Counting has really run in this test."""
    trace = place / "trace"
    before = len(trace.read_text().splitlines()) if trace.exists() else 0
    return lambda: trace.read_text().splitlines()[before:] if trace.exists() else []


def wait(condition, what="it", seconds=120.0):
    """So long that only a hang fails, on a busy machine too."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


def ended(run):
    wait(lambda: run.state in ENDED, f"the end of {run.study.NAME} ({run.state})")
    return run


def test_events_in_order_then_the_result_stored_by_the_worker(runner, trained):
    run = ended(runner.submit(Counting(count=50)))
    assert run.state == "done", run.message
    assert [e.x for e in run.events if isinstance(e, Point)] == list(range(1, 51))
    assert run.result.metrics == {"count": 50}
    assert load(runner.store, key(run.study)).curves["count"][-1] == (50, 2500)
    assert len(trained()) == 1


def test_thirty_submissions_at_once_train_once(runner, trained):
    study = Counting(count=20, pause=0.02)
    runs = []
    threads = [
        threading.Thread(target=lambda: runs.append(runner.submit(study))) for _ in range(30)
    ]
    [t.start() for t in threads], [t.join() for t in threads]
    assert len({id(run) for run in runs}) == 1
    assert ended(runs[0]).state == "done"
    assert len(trained()) == 1


def test_a_second_process_joins_the_same_run_and_hears_it_from_its_start(runner, trained):
    study = Counting(count=40, pause=0.05)
    first = runner.submit(study)
    wait(lambda: len(first.events) > 10)
    runner.ready.wait(30)
    # another client of the same cluster
    second = Runner(runner.store, introduction=runner.introduction)
    try:
        joined = second.submit(study)
        ended(first), ended(joined)
        assert first.state == joined.state == "done"
        assert [e.x for e in joined.events if isinstance(e, Point)] == list(range(1, 41))
        assert len(trained()) == 1
    finally:
        second.close()


def test_a_cancelled_run_stops_early_and_runs_again_from_its_start(runner, trained):
    study = Counting(count=1000, pause=0.05)
    run = runner.submit(study)
    wait(lambda: len(run.events) > 5)
    runner.cancel(run.key)
    wait(lambda: run.state == "cancelled")
    assert len(run.events) < 1000  # it would have gone on for most of a minute
    assert key(study) not in runner.store
    again = runner.submit(study)
    assert again is not run
    wait(lambda: sum(isinstance(e, Point) for e in again.events) > 3)
    assert next(e.x for e in again.events if isinstance(e, Point)) == 1
    assert len(trained()) == 2
    runner.cancel(again.key)
    ended(again)


def test_a_stubborn_run_is_stopped_by_force_and_the_next_one_runs(runner):
    stubborn = runner.submit(Stubborn(seconds=600))  # longer than anybody waits here
    wait(lambda: stubborn.state == "running" and stubborn.events)
    waiting = runner.submit(Counting(count=3, seed=21))
    runner.cancel(stubborn.key)
    wait(lambda: stubborn.state == "cancelled")
    # it was queued on the restarted worker, and not at fault
    assert ended(waiting).state == "done", waiting.message


def test_a_queued_run_knows_its_place_and_can_be_cancelled_before_it_begins(runner, trained):
    first = runner.submit(Counting(count=100, pause=0.05, seed=1))
    wait(lambda: first.state == "running")
    second, third = runner.submit(Counting(seed=2)), None
    wait(lambda: second.attempt and second.future is not None)
    third = runner.submit(Counting(seed=3))
    wait(
        lambda: runner.find(third.key).place == 2 and runner.find(second.key).place == 1,
        "the places",
    )
    runner.cancel(second.key)
    wait(lambda: second.state == "cancelled")
    assert ended(third).state == "done"
    assert {line.split()[0] for line in trained()} == {"1", "3"}


def test_first_asked_is_first_computed(runner, trained):
    runs = [runner.submit(Counting(count=2, seed=seed)) for seed in range(12)]
    [ended(run) for run in runs]
    assert [line.split()[0] for line in trained()] == [str(seed) for seed in range(12)]


def test_a_killed_worker_is_told_once_and_run_works_again(runner):
    run = runner.submit(Deadly())
    wait(lambda: run.state == "running")
    wait(lambda: run.state in ENDED)
    assert run.state == "failed" and "worker process died" in run.message
    assert ended(runner.submit(Counting(count=3, seed=22))).state == "done"


def test_what_waits_behind_a_deadly_run_is_run_all_the_same(runner):
    deadly = runner.submit(Deadly(seed=5))
    behind = runner.submit(Counting(count=3, seed=9))
    assert ended(deadly).state == "failed"
    assert ended(behind).state == "done", behind.message


def test_failures_are_told_in_the_users_words(runner):
    assert ended(runner.submit(Failing())).message == "The moon is too bright. Try again at noon."
    assert "ZeroDivisionError" in ended(runner.submit(Broken())).message


def test_a_nested_study_is_computed_once(runner, trained):
    assert ended(runner.submit(Nested(factor=2))).result.metrics == {"product": 10}
    assert ended(runner.submit(Nested(factor=3))).result.metrics == {"product": 15}
    assert len(trained()) == 1


def test_a_stop_that_comes_too_late_harms_nobody_else(runner, trained):
    """The stopped study ends by itself without another event; its worker is then busy with somebody
    else's run.
    """
    late = runner.submit(Stubborn(seconds=1.5))
    wait(lambda: late.state == "running" and late.events)
    other = runner.submit(Counting(count=80, pause=0.1))
    runner.cancel(late.key)
    assert ended(late).state == "cancelled"
    assert ended(other).state == "done", other.message
    assert len(trained()) == 1


def test_a_dead_cluster_is_told_and_started_again_by_the_next_run(own_runner):
    runner = own_runner
    run = runner.submit(Counting(count=1000, pause=0.05))
    wait(lambda: run.state == "running")
    runner.process.kill()
    assert ended(run).state == "failed" and "Press Run" in run.message
    assert ended(runner.submit(Counting(count=3))).state == "done"


def test_a_stop_while_the_workers_are_starting(home):
    runner = Runner(open_store())
    try:
        run = runner.submit(Counting(count=1000, pause=0.05))
        runner.cancel(run.key)
        assert ended(run).state == "cancelled", run.message
    finally:
        runner.close()


def test_a_store_that_breaks_ends_the_run_with_its_result(own_runner, home):
    """Done, shown, and said that it was not kept: its folder is gone and cannot be made again."""
    run = own_runner.submit(Counting(count=40, pause=0.05))
    wait(lambda: run.state == "running")
    (home / "store").rename(home / "moved")
    (home / "store").write_text("in the way")
    assert ended(run).state in ("done", "failed")
    if run.state == "done":
        assert run.result.metrics == {"count": 40} and run.result.made["not_stored"]


def test_refusals_reach_the_visitor_in_their_own_words(runner):
    run = ended(runner.submit(DPTraining(batch_size=9000)))
    assert run.message == "batch_size: 9000 is not allowed; mnist-5k has 4000 training images"


def test_plain_tcp_is_refused(runner):
    runner.ready.wait(30)
    address = runner.introduction["address"].replace("tls://", "tcp://")
    with pytest.raises(OSError):
        dask_cluster.join(address, timeout=3)


def test_the_cluster_ends_with_its_owner():
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from engine.runtime import dask_cluster; p, i = dask_cluster.start();"
            "print(p.pid, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    wait(lambda: not _alive(pid), "the end of the cluster")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_workers_train_on_all_cores_and_keep_their_memory(runner):
    """dask's own environment for workers pins them to one thread and made the same training 1.5
    times slower.
    """

    def found() -> tuple[str | None, str | None]:
        return os.environ.get("MALLOC_TRIM_THRESHOLD_"), os.environ.get("OMP_NUM_THREADS")

    runner.ready.wait(60)
    assert runner.client.submit(found).result(30) == (None, str(settings.cores()))
