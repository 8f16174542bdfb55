"""Runner: submits, follows and cancels studies.

The same key is never trained twice at the same time, whoever asks.

A `Run` is one attempt at one study, as seen from this process. Its events arrive from the worker
through the scheduler (topic = the attempt's name). They are numbered, so a client that joins late
gets the history and nobody gets an event twice. The worker stores the Result itself; the Runner
only reports the outcome.
"""

from __future__ import annotations

import bisect
import logging
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cache import Store
from engine.core import settings
from engine.core.errors import Failed
from engine.core.lab import Lab, open_store, save
from engine.core.study import EVENTS, Event, Phase, Refused, Result, Study, key
from engine.datasets import source
from engine.runtime import dask_cluster

if TYPE_CHECKING:
    import numpy as np
    from distributed import Client, Future, Worker

    Parts = tuple[dict[str, Any], dict[str, np.ndarray]]  # of a Result

log = logging.getLogger("veil.runner")
# seconds a worker has to stop at its next event before it is restarted (about 4 s more)
GRACE = 4.0
DYING = 2.0  # longest time in seconds from a dying process' last closed socket to its end
SETTLED = 0.5  # seconds within which a subscription has reached the scheduler
COALESCE = 0.2  # seconds within which repeated phases of the same name are sent only once
KEPT = 24  # ended runs that a web process remembers; their Results are in the store
WAITING = 50  # runs that may wait; a longer queue is an attack, or would take hours
TRIES = 5  # how often a run is submitted if its worker dies before the run has begun
ENDED = ("done", "failed", "cancelled")


@dataclass
class Run:
    """One attempt at a study and its current state.

    Read it through `Runner.find`; only the Runner writes to it.
    """

    study: Study
    key: str
    attempt: str
    state: str = "queued"  # queued, running, done, failed, cancelled
    place: int = 0  # number of runs ahead in the queue
    events: list[Event] = field(default_factory=list)
    message: str = ""  # why it failed or was cancelled, in the user's words
    worker: str = ""
    tries: int = 1
    began: float | None = None
    ended: float | None = None
    result: Result | None = None
    cancelling: bool = False
    future: Future[Parts] | None = None
    # numbers of the messages received: history and live feed may overlap
    numbers: set[int] = field(default_factory=set)
    order: list[int] = field(default_factory=list)  # the number of each event, ascending


# --- in the worker --------------------------------------------------------------------------------


class Stopped(Exception):
    """The run was cancelled and has stopped at an event."""


def work(study: Study, attempt: str) -> Parts:
    """Compute a study in a worker process, reporting each event; returns Result.parts()."""
    from distributed import get_worker

    worker = get_worker()
    # low priority: pages and browsers on this machine need little time, but at once
    os.setpriority(os.PRIO_PROCESS, 0, 10)
    say = EventSender(worker, attempt)
    say("started", worker=worker.address)
    try:
        return drive(
            Lab(open_store()).need(study), say, stopped=lambda: _cancelled(worker, attempt)
        ).parts()
    finally:
        # whatever the outcome: from now on, this worker must not be restarted because of this run
        say("ended")


def drive(
    run: Generator[Event, None, Result], say: EventSender, stopped: Callable[[], bool]
) -> Result:
    """Run a study's generator to its Result, reporting events and checking for cancellation."""
    while True:
        if stopped():
            run.close()
            raise Stopped()
        try:
            event = next(run)
        except StopIteration as end:
            result: Result = end.value
            return result
        say.event(event)


def _cancelled(worker: Worker, attempt: str) -> bool:
    """Whether the scheduler has taken the task back.

    Reads local state only, without a round trip. (Cancelling a task does not stop its thread.)
    """
    task = worker.state.tasks.get(attempt)
    return task is None or task.state in ("cancelled", "released", "forgotten")


class EventSender:
    """Sends numbered messages under the attempt's topic; coalesces rapidly repeated phases."""

    def __init__(self, worker: Worker, topic: str):
        self.worker, self.topic, self.number = worker, topic, 0
        self.last_phase, self.last_time = "", 0.0

    def __call__(self, kind: str, **fields: Any) -> None:
        """Send a message: its number, its kind and its fields."""
        self.number += 1
        self.worker.log_event(self.topic, {"n": self.number, "kind": kind, "fields": fields})

    def event(self, event: Event) -> None:
        """Send an event; drops a phase repeated within COALESCE seconds unless it is complete."""
        if isinstance(event, Phase):
            recent = event.name == self.last_phase and time.monotonic() - self.last_time < COALESCE
            if recent and event.done < event.total:
                return
            self.last_phase, self.last_time = event.name, time.monotonic()
        self(type(event).__name__, **asdict(event))


# --- in the submitting process --------------------------------------------------------------------


class Runner:
    """Runs studies on a dask cluster.

    The cluster is our own, started in the background at once, or the one at VEIL_SCHEDULER.
    """

    def __init__(
        self,
        store: Store,
        address: str | None = None,
        introduction: dict[str, Any] | None = None,
    ):
        self.store, self.introduction = store, introduction
        self.address = address or settings.scheduler()
        self.lock = threading.RLock()
        self.runs: dict[str, Run] = {}  # key → latest attempt
        self.process: subprocess.Popen[str] | None = None
        self.client: Client | None = None
        self.trouble: str | None = None
        # set if no scheduler answers at VEIL_SCHEDULER
        self.unreachable: dask_cluster.Unreachable | None = None
        self.ready, self.starting = threading.Event(), threading.Lock()
        # one at a time, so that runs enter the queue in the order of submission
        self.launches = ThreadPoolExecutor(1, "veil-launch")
        self._asked_places = 0.0
        threading.Thread(target=self._start, name="veil-cluster", daemon=True).start()

    def _start(self) -> None:
        try:
            if self.address:
                self.client = dask_cluster.join(self.address)
            elif self.introduction:
                self.client = dask_cluster.connect(self.introduction)
            else:
                self.process, self.introduction = dask_cluster.start()
                self.client = dask_cluster.connect(self.introduction)
                self._warm = self.client.submit(
                    _warm_up, pure=False, key=f"warm-up-{uuid.uuid4().hex}", priority=-1
                )
        # reported when somebody runs a study
        except dask_cluster.Unreachable as error:
            self.trouble, self.unreachable = str(error), error
            log.warning("%s", error)
        except Exception as error:  # reported on the page when somebody presses Run
            log.exception("no workers")
            self.trouble = f"The workers could not be reached ({type(error).__name__}: {error})."
        self.ready.set()

    @property
    def _connected(self) -> Client:
        """The client, for what is asked about runs that were submitted with it.

        While dead workers are being replaced it is None: then its use fails, as with no scheduler.
        """
        return cast("Client", self.client)

    def find(self, name: str) -> Run | None:
        """Return the latest attempt at a key that this process has submitted, or None."""
        with self.lock:
            run = self.runs.get(name)
        if run is not None and run.state == "queued":
            self._update_places()
        return run

    def submit(self, study: Study, name: str | None = None) -> Run:
        """Run a study, or join the attempt that already computes it.

        Never waits for the computation.
        """
        name = name or key(study)
        with self.lock:
            run = self.runs.get(name)
            if run is None or run.state in ENDED:
                self._forget_old()
                run = self.runs[name] = Run(study, name, attempt="")
                if sum(r.state == "queued" for r in self.runs.values()) > WAITING:
                    run.state, run.message = (
                        "failed",
                        f"{WAITING} runs are waiting already. Please try again later.",
                    )
                    return run
                self.launches.submit(self._launch, run)
        return run

    def _forget_old(self) -> None:
        """Keep only the latest ended runs; their Results are in the store."""
        ended = [name for name, run in self.runs.items() if run.state in ENDED]
        for name in ended[:-KEPT]:
            del self.runs[name]

    def _launch(self, run: Run) -> None:
        try:
            self._ensure_workers()
            if self.client is None:
                return self._end(
                    run, "failed", self.trouble or "The workers did not start within a minute."
                )
            run.attempt = self.client.run_on_scheduler(
                dask_cluster.claim, run.key, f"{run.key}-{uuid.uuid4().hex[:8]}"
            )
            self.client.subscribe_topic(run.attempt, lambda event: self._hear(run, event[1]))
            run.future = self.client.submit(
                work,
                run.study,
                run.attempt,
                key=run.attempt,
                retries=0,
                pure=False,
                # no grace period: first come, first served
                fifo_timeout=0,
            )
            self._catch_up(run)
            # The subscription travels on its own stream and may arrive after that request, so
            # messages sent between the two are requested again.
            settled = threading.Timer(SETTLED, self._catch_up, (run,))
            settled.daemon = True
            settled.start()
            run.future.add_done_callback(lambda future: self._finish(run, future))
            if run.cancelling:  # cancelled while the workers were still starting
                threading.Thread(target=self._cancel, args=(run,), daemon=True).start()
        except Exception as error:
            log.exception("submit")
            self._end(
                run, "failed", f"The run could not be started ({type(error).__name__}: {error})."
            )

    def _catch_up(self, run: Run) -> None:
        """Fetch the messages sent so far."""
        try:
            for _, message in self._connected.get_events(run.attempt):
                self._hear(run, message)
        except Exception as error:  # the scheduler is gone; the run's future reports that
            log.warning("events of %s: %s", run.attempt, error)

    def _ensure_workers(self) -> None:
        """Wait for the workers; if their process has died, start it again."""
        self.ready.wait(60)
        with self.starting:
            if self.process is not None and self.process.poll() is not None:
                log.warning("the workers' process has died: starting another")
                self.introduction = self.client = self.process = None
                self._start()

    def _hear(self, run: Run, message: dict[str, Any]) -> None:
        """Handle one message from the worker, from the history or live; duplicates are ignored."""
        with self.lock:
            if message["n"] in run.numbers or run.state in ENDED:
                return
            run.numbers.add(message["n"])
            if message["kind"] in EVENTS:
                # appended at the end, unless the message comes from the history
                place = bisect.bisect(run.order, message["n"])
                run.order.insert(place, message["n"])
                run.events.insert(place, EVENTS[message["kind"]](**message["fields"]))
            elif message["kind"] == "started":
                run.state, run.began, run.worker = (
                    "running",
                    time.monotonic(),
                    message["fields"]["worker"],
                )
            elif message["kind"] == "ended" and run.cancelling:
                self._end(run, "cancelled", "Stopped.")

    def _finish(self, run: Run, future: Future[Parts]) -> None:
        """Handle the end of the future; if anything goes wrong here, the run ends too."""
        try:
            if run.state in ENDED or run.cancelling:
                return
            if future.status == "cancelled":
                return self._lost(run)
            run.result = result = Result.from_parts(*future.result())
        except Exception as error:
            return self._failed(run, error)
        self._keep(run, result)
        self._end(run, "done")

    def _lost(self, run: Run) -> None:
        """Handle a task that was taken away by another client, or whose scheduler is gone."""
        if (process := self.process) is not None and _dies(process):
            return self._end(
                run, "failed", "The worker processes died. Press Run to start them again."
            )
        self._end(run, "cancelled", "Stopped by somebody else.")

    def _keep(self, run: Run, result: Result) -> None:
        """Store the Result here too, since a worker on another machine has another disk."""
        try:
            if run.study.stored() and run.key not in self.store and "not_stored" not in result.made:
                save(self.store, run.key, result)
        except OSError as error:  # the Result is still shown, with this message beside it
            result.made["not_stored"] = str(error)

    def _failed(self, run: Run, error: Exception) -> None:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker) and run.began is None and run.tries < TRIES:
            run.tries += 1  # its worker died because of another run, before this one began
            self.launches.submit(self._launch, run)
            return
        self._end(run, "failed", explain(error))

    def _end(self, run: Run, state: str, message: str = "") -> None:
        with self.lock:
            if run.state in ENDED:
                return
            run.state, run.message, run.ended = state, message, time.monotonic()
        if run.attempt:
            threading.Thread(target=self._clean_up, args=(run,), daemon=True).start()

    def _clean_up(self, run: Run) -> None:
        """Free what scheduler and client hold of an ended attempt."""
        try:
            self._connected.unsubscribe_topic(run.attempt)
            self._connected.run_on_scheduler(dask_cluster.forget, run.attempt)
            run.future = None
        except Exception:
            log.warning("clean-up of %s", run.attempt, exc_info=True)

    # --- cancelling -------------------------------------------------------------------------------

    def cancel(self, name: str) -> None:
        """Stop a run for everyone.

        It stops at its next event; if none comes, its worker is restarted.
        """
        with self.lock:
            run = self.runs.get(name)
            if run is None or run.state in ENDED or run.cancelling:
                return
            run.cancelling = True
        threading.Thread(target=self._cancel, args=(run,), daemon=True).start()

    def _cancel(self, run: Run) -> None:
        if run.future is None:
            return  # not submitted yet: _launch checks run.cancelling
        try:
            run.future.cancel(force=True)
            self._connected.run_on_scheduler(dask_cluster.unclaim, run.key, run.attempt)
        except Exception as error:  # the scheduler is gone, and the run with it
            log.warning("cancel", exc_info=True)
            return self._end(
                run,
                "failed",
                f"The workers did not answer ({type(error).__name__}). Press Run to try again.",
            )
        if run.began is None:
            return self._end(run, "cancelled", "Stopped before it began.")
        deadline = time.monotonic() + GRACE
        while run.state not in ENDED and time.monotonic() < deadline:
            time.sleep(0.05)
        if run.state not in ENDED:
            self._force(run)

    def _force(self, run: Run) -> None:
        """Restart the unresponsive worker, if it is still busy with this run."""
        try:
            if self._connected.run_on_scheduler(dask_cluster.busy, run.attempt, run.worker):
                self._connected.restart_workers([run.worker], timeout=30)
            self._end(run, "cancelled", "Stopped by restarting its worker.")
        except Exception as error:
            log.exception("restart")
            self._end(run, "failed", f"The run does not answer and could not be stopped ({error}).")

    # --- the queue --------------------------------------------------------------------------------

    def _update_places(self) -> None:
        """Update waiting runs' places in the queue, asking the scheduler at most once a second."""
        if (
            not self.ready.is_set()
            or self.client is None
            or time.monotonic() - self._asked_places < 1
        ):
            return
        self._asked_places = time.monotonic()
        # in a thread, because a page never waits for the scheduler
        threading.Thread(target=self._ask_places, daemon=True).start()

    def _ask_places(self) -> None:
        waiting = self._connected.run_on_scheduler(dask_cluster.waiting)
        busy = any(run.state == "running" for run in self.runs.values())
        for run in list(self.runs.values()):
            if run.state == "queued" and run.attempt in waiting:
                run.place = waiting.index(run.attempt) + busy

    def following(self, name: str, seconds: float = 60.0) -> Iterator[Event]:
        """Iterate over a run's events until it ends; for the command line and for tests."""
        seen, deadline = 0, time.monotonic() + seconds
        while (run := self.runs[name]).state not in ENDED or seen < len(run.events):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{run.study.NAME} did not end in {seconds} s")
            yield from run.events[seen:]
            seen = len(run.events)
            time.sleep(0.02)

    def close(self) -> None:
        """Disconnect from the cluster; our own cluster ends with us."""
        self.launches.shutdown(wait=False, cancel_futures=True)
        self.ready.wait(60)
        if self.client is not None:
            self.client.close(timeout=5)
        if self.process is not None:
            assert self.process.stdin is not None  # a pipe
            self.process.stdin.close()
            self.process.wait(20)


def _dies(process: subprocess.Popen[str]) -> bool:
    """Whether our own cluster's process has ended, or ends within DYING seconds.

    Its sockets close before the system reports its end.
    """
    try:
        process.wait(DYING)
    except subprocess.TimeoutExpired:
        return False
    return True


def _warm_up() -> None:
    """Import torch in advance, so that the first run need not wait for it."""
    import torch

    torch.zeros(1)


def explain(error: Exception) -> str:
    """Explain in the user's words why a run failed.

    An error that only a programmer can fix is also logged.
    """
    from distributed import KilledWorker

    if isinstance(error, (Failed, Refused, source.Missing, OSError)):
        return str(error)
    if isinstance(error, KilledWorker):
        return (
            "The worker process died while computing (often: out of memory). A new one has started:"
            " press Run again."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There was not enough memory. A smaller batch size or a smaller data set needs less."
    log.error("a run failed", exc_info=error)
    return f"Something in Veil broke while computing: {type(error).__name__}: {error}"
