"""Runs several studies at once, each stored under its own key.

Either as many as the processor has cores, one thread each (Threads), or step by step together
(Lockstep).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from engine.core import settings
from engine.core.errors import Failed
from engine.core.lab import WAITING, Lab
from engine.core.study import Event, Image, Phase, Point, Refused, Result, Study, key

if TYPE_CHECKING:
    from engine.learning.stacked_steps import Group

LOOK = 0.1  # seconds between two checks of what the threads have reported


def needed(members: tuple[Study, ...], lab: Lab) -> Generator[Event, None, float]:
    """Compute what the members need, once for all of them and with all cores.

    Yields the events and returns the estimated seconds that it takes, for ParallelRun's `before`.
    """
    before = 0.0
    for need in dict.fromkeys(need for member in members for need in member.needs()):
        before += 0.0 if key(need) in lab.store else need.typical() or 0.0
        for event in lab.need(need):
            # without its progress, which says nothing about the progress of the whole
            yield Phase(event.name) if isinstance(event, Phase) else event
    return before


@dataclass
class ParallelRun:
    """Base class: an ensemble whose members are computed at once, with their events passed on.

    A subclass defines how they are computed, in `events` and `stop`.
    """

    members: tuple[Study, ...]
    lab: Lab
    done_words: str  # what a finished member is called: "trained"
    phase: str  # the phase in which a member spends its time
    shows: bool = False  # whether members' images are passed on
    before: float = 0.0  # estimated seconds spent before this ensemble began
    results: dict[int, Result] = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.done = {number: 0.0 for number in range(len(self.members))}
        # remaining work of each member
        self.seconds = {
            number: 0.0 if key(member) in self.lab.store else member.typical() or 1.0
            for number, member in enumerate(self.members)
        }
        self.at_once = 1

    def all(self) -> Generator[Event, None, list[Result]]:
        """Yield the members' events; return their Results in order.

        If a member failed, raises Failed after all others are done.
        """
        try:
            yield from self.events()
        finally:
            self.stop()
        if self.failed:
            error = next(iter(self.failed.values()))
            raise Failed(
                f"{len(self.failed)} of {len(self.members)} could not be trained; the others are"
                f" kept. {error}"
            ) from error
        return [self.results[number] for number in range(len(self.members))]

    def events(self) -> Iterator[Event]:
        """Yield the members' events as they come, with the overall progress."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop all members at their next event."""
        raise NotImplementedError

    def _relabelled(self, number: int, event: Event) -> Iterator[Event]:
        """Relabel one member's event for the whole ensemble."""
        if isinstance(event, Point):
            yield Point(f"{number}:{event.curve}", event.x, event.y)
        elif isinstance(event, Image) and self.shows:
            yield Image(f"{number}:{event.name}", event.png, event.caption)
        elif isinstance(event, Phase):
            self.done[number] = max(
                self.done[number],
                event.done / event.total if event.name == self.phase and event.total else 0.0,
            )
            yield self._so_far()

    def _so_far(self) -> Phase:
        """Return how many members have ended, and how much of the work is done."""
        ended = len(self.results) + len(self.failed)
        done, total = (
            self.before
            + sum(self.seconds[number] * share for number, share in shares.items()) / self.at_once
            for shares in (self.done, dict.fromkeys(self.done, 1.0))
        )
        return Phase(
            f"{ended} of {len(self.members)} {self.done_words}",
            1000 * (done / total) if total else 0.0,
            1000,
        )


class Threads(ParallelRun):
    """Threads that each take a member, train it to the end and take the next.

    Numerical code releases Python's global interpreter lock, so two cores train two members.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.heard: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
        self.waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.stopping = threading.Event()
        for number in self.done:
            self.waiting.put(number)
        cores = settings.cores()
        # one at a time on a GPU, where sharing gains little
        self.at_once = min(cores, len(self.members)) if self.lab.device.type == "cpu" else 1
        place = Lab(self.lab.store, threads=max(1, cores // self.at_once))
        self.threads = [
            threading.Thread(target=self._work, args=(place,), name=f"veil-sweep-{i}", daemon=True)
            for i in range(self.at_once)
        ]

    def events(self) -> Iterator[Event]:
        """Yield the members' events as they come, with the overall progress."""
        for thread in self.threads:
            thread.start()
        while any(thread.is_alive() for thread in self.threads) or not self.heard.empty():
            try:
                yield from self._relabelled(*self.heard.get(timeout=LOOK))
            except queue.Empty:
                continue

    def stop(self) -> None:
        """Stop the threads at their next event."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _work(self, place: Lab) -> None:
        while not self.stopping.is_set():
            try:
                number = self.waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._train(number, place)
            except Exception as error:  # the other members continue; reported at the end
                self.failed[number] = error

    def _train(self, number: int, place: Lab) -> None:
        run = place.need(self.members[number])
        while True:
            try:
                event: Event = next(run)
            except StopIteration as end:
                self.results[number] = end.value
                return self.heard.put((number, Phase(self.phase, 1.0, 1.0)))
            if self.stopping.is_set():
                return run.close()
            self.heard.put((number, event))


class Stackable(Protocol):
    """A training that may take its steps together with others."""

    def alike(self) -> tuple[Hashable, ...]:
        """Return what must be equal for that."""


class Lockstep(ParallelRun):
    """Trainings that take their steps together in one thread (engine/learning/stacked_steps.py).

    Up to eight (MOST) trainings with equal `alike()` form a group. Made for a GPU, where a step of
    eight costs little more than a step of one.

    Each member is driven by its own `run` and stored under its own key by `Lab.need`, as if it ran
    alone. The members of a group end at the same moment, so stopping the ensemble keeps the results
    of the groups that have ended.
    """

    def __post_init__(self) -> None:
        from engine.learning.stacked_steps import MOST

        super().__post_init__()
        alike: dict[tuple[Hashable, ...], list[int]] = {}
        for number, member in enumerate(self.members):
            # who chooses Lockstep gives it trainings
            alike.setdefault(cast("Stackable", member).alike(), []).append(number)
        self.groups = [
            numbers[start : start + MOST]
            for numbers in alike.values()
            for start in range(0, len(numbers), MOST)
        ]
        self.running: dict[int, Generator[Event, None, Result]] = {}

    def events(self) -> Iterator[Event]:
        """Yield the members' events as they come, with the overall progress."""
        from engine.learning.stacked_steps import Group

        for numbers in self.groups:
            alone = yield from self._together(numbers, Group(len(numbers)))
            for number in alone:
                yield from self._together([number], None)

    def _together(
        self, numbers: list[int], group: Group | None
    ) -> Generator[Event, None, list[int]]:
        """Run members to their ends, each up to its next step before any continues.

        Returns those that must run alone, because another process is computing them.
        """
        place, alone = Lab(self.lab.store, self.lab.threads, group), []
        self.running = {number: place.need(self.members[number]) for number in numbers}
        try:
            while self.running:
                for number in list(self.running):
                    event = yield from self._up_to_a_step(number, wait=group is None)
                    if event is None or isinstance(event, Phase) and event.name == WAITING:
                        if event:
                            self.running[number].close()
                            alone.append(number)
                        del self.running[number]
                        if group:
                            group.leave()
        finally:
            if group:
                group.end()
        return alone

    def _up_to_a_step(self, number: int, wait: bool) -> Generator[Event, None, Event | None]:
        """Yield a member's events up to its next step, or until it has to wait.

        Returns the event at which it stopped, or None if the member has ended.
        """
        while True:
            try:
                event = next(self.running[number])
            except StopIteration as end:
                self.results[number] = end.value
                yield from self._relabelled(number, Phase(self.phase, 1.0, 1.0))
                return None
            except Exception as error:  # the other members continue; reported at the end
                if not isinstance(error, (Failed, Refused)):
                    logging.getLogger(__name__).exception(
                        "member %d of %d failed", number + 1, len(self.members)
                    )
                # without the traceback, whose frames would keep GPU memory in use
                self.failed[number] = error.with_traceback(None)
                return None
            if isinstance(event, Phase) and event.name == WAITING and not wait:
                return event
            yield from self._relabelled(number, event)
            if isinstance(event, Phase) and event.name == self.phase:
                return event

    def stop(self) -> None:
        """Close the running members."""
        for run in self.running.values():
            run.close()
        self.running = {}
