"""Lab: the environment that a running study is given.

It holds everything that must not enter the study's key: device, threads, store.
"""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Generator, Sized
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from cache import Store
from engine.core import parameters, settings
from engine.core.study import Event, Phase, Result, Study, key

if TYPE_CHECKING:
    import torch

WAITING = "waiting: the same study is running elsewhere"
SHORT = 3.0  # seconds; a shorter run is mostly start-up and reading
VERSIONS_OF = ("torch", "torchvision", "opacus", "dp-accounting", "numpy", "scikit-learn")


# The last Result of a study with REMEMBERED set. Nobody may write to its arrays.
_REMEMBERED: dict[str, Result] = {}


class Group(Protocol):
    """What a lab knows of an engine.learning.stacked_steps.Group: which trainings are in it."""

    @property
    def learners(self) -> Sized:
        """The trainings that take their steps together."""


class Lab:
    """Runs studies on one device with one store.

    A study calls `need` to get another study's result.
    """

    def __init__(self, store: Store, threads: int | None = None, group: Group | None = None):
        # group: an engine.learning.stacked_steps.Group, with which trainings here share their steps
        self.store, self.group = store, group
        self.threads = threads or settings.cores()

    @property
    def device(self) -> torch.device:
        """The torch device to train on: the first visible GPU, else the CPU."""
        import torch

        torch.set_num_threads(self.threads)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def need(self, study: Study) -> Generator[Event, None, Result]:
        """Return the study's Result: from the store, or computed now with its events passed on.

        If several callers ask for the same study at once, it is computed only once.
        """
        name = key(study)
        with self.store.computing(name) as turn:
            while not turn.acquired and name not in self.store:
                yield Phase(WAITING)
                turn.poll()
            stored = _REMEMBERED.get(name) or load(self.store, name)
            result = stored if stored is not None else (yield from self._compute(study, name))
            if study.REMEMBERED:
                _REMEMBERED.clear()
                _REMEMBERED[name] = result
            return result

    def _compute(self, study: Study, name: str) -> Generator[Event, None, Result]:
        begun = time.perf_counter()
        result = yield from study.run(self)
        beside = max(1, len(self.group.learners)) if self.group else 1
        # the share of this member, where a group took its steps together
        seconds = (time.perf_counter() - begun) / beside
        result = replace(result, made=made(study, name, seconds) | result.made)
        try:
            if study.stored():
                save(self.store, name, result)
            if beside == 1:  # in a group, the share is less than the time needed alone
                save_speed(self.store, study, seconds)
        except OSError as error:  # full disk or missing folder: the result is still shown
            result = replace(result, made=result.made | {"not_stored": str(error)})
        return result


def made(study: Study, name: str, seconds: float) -> dict[str, Any]:
    """Describe how a result was made, with enough detail to reproduce it."""
    versions = {"python": platform.python_version()} | {p: _version(p) for p in VERSIONS_OF}
    return {
        "key": name,
        "study": study.NAME,
        "params": study.values(),
        "seconds": seconds,
        "device": device_name(),
        "versions": versions,
        "command": command(study),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command(study: Study) -> str:
    """Return the command line that computes the same study.

    Empty for a study that is composed of others and has no parameters.
    """
    if not parameters.specs(type(study)):
        return ""
    return f"python -m engine run {study.NAME}{settings_of(study)}"


def settings_of(study: Study, without: tuple[str, ...] = ()) -> str:
    """Return --set options for every non-default field, quoted for a shell."""
    return "".join(
        f" --set {shlex.quote(f'{name}={text}')}"
        for name, text in study.changed().items()
        if name not in without
    )


def device_name() -> str:
    """Name what computed: the GPU, or the processor type and number of cores.

    Never imports torch itself.
    """
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gpu: str = torch.cuda.get_device_name()
        return gpu
    return f"CPU, {settings.cores()} cores ({platform.machine()})"


def load(store: Store, name: str) -> Result | None:
    """Load the stored Result for a key, or None."""
    found = store.get(name)
    return Result.from_parts(*found) if found else None


def save(store: Store, name: str, result: Result) -> None:
    """Store a Result under its key; raises cache.store.Full."""
    store.put(name, *result.parts())


def save_speed(store: Store, study: Study, seconds: float) -> None:
    """Record how fast this machine runs this kind of study, for the next estimate.

    A very short run is ignored, unless nothing has been recorded yet.
    """
    if seconds < SHORT and f"pace:{study.kind()}" in store:
        return
    store.put(f"pace:{study.kind()}", {"seconds_per_work": seconds / study.work()}, {})


def expected_seconds(store: Store, study: Study) -> float | None:
    """Estimate how many seconds the study will take, from the last run of its kind on this machine.

    None if there has been no such run.
    """
    found = store.get(f"pace:{study.kind()}")
    return found[0]["seconds_per_work"] * study.work() if found else None


def open_store() -> Store:
    """Open the store under VEIL_HOME, limited to VEIL_CACHE_GB.

    Raises settings.Wrong or cache.store.Unusable.
    """
    return Store(settings.home() / "store", settings.cache_limit())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
