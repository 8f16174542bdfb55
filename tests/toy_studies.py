"""Studies that only the tests run: real ones, in real workers, that are slow, stubborn or deadly on
purpose.
"""

import os
import signal
import time
from pathlib import Path

from engine.core.errors import Failed
from engine.core.parameters import parameter, seed
from engine.core.study import Guarantee, Phase, Point, Result, Study

NONE = Guarantee(
    unit="nothing",
    epsilon=None,
    delta=None,
    mechanism="none",
    accountant="none",
    sampling="none",
    sample_rate=None,
    steps=None,
    note="a test",
)


class Counting(Study):
    """Counts to `count`, one point a step; leaves a line in `trace` each time it really runs."""

    NAME = "test_counting"
    count: int = parameter("Count", 5, low=1, high=10_000)
    pause: float = parameter("Pause", 0.0, low=0.0, high=60.0)
    seed: int = seed()

    def run(self, lab):
        if trace := os.environ.get("VEIL_TEST_TRACE"):
            with Path(trace).open("a") as file:
                file.write(f"{self.seed} {os.getpid()}\n")
        for i in range(1, self.count + 1):
            time.sleep(self.pause)
            yield Point("count", i, i * i)
            yield Phase("counting", i, self.count)
        return Result(
            metrics={"count": self.count},
            guarantee=NONE,
            curves={"count": [(i, i * i) for i in range(1, self.count + 1)]},
        )


class Stubborn(Study):
    """Does not come to its next event for `seconds`: only restarting its worker stops it."""

    NAME = "test_stubborn"
    seconds: float = parameter("Seconds", 60.0, low=0.0, high=600.0)

    def run(self, lab):
        yield Phase("sleeping")
        time.sleep(self.seconds)
        return Result(metrics={}, guarantee=NONE)


class Deadly(Study):
    """Kills the worker that runs it, as the system does when memory runs out."""

    NAME = "test_deadly"
    seed: int = seed()

    def run(self, lab):
        yield Phase("about to die")
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
        yield Phase("never")


class Failing(Study):
    """Fails in the user's words."""

    NAME = "test_failing"

    def run(self, lab):
        yield Phase("failing")
        raise Failed("The moon is too bright. Try again at noon.")


class Broken(Study):
    """Fails as a programming error does."""

    NAME = "test_broken"

    def run(self, lab):
        yield Phase("breaking")
        raise ZeroDivisionError("by zero")


class Nested(Study):
    """Needs another study's result."""

    NAME = "test_nested"
    inner: Counting = Counting()
    factor: int = parameter("Factor", 2, low=1, high=10)

    def run(self, lab):
        inner = yield from lab.need(self.inner)
        return Result(metrics={"product": inner.metrics["count"] * self.factor}, guarantee=NONE)
