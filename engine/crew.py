"""Several studies at once, as many as the processor has cores: each is computed by a thread of its own and stored under its own key."""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass, field

from engine.lab import Lab
from engine.study import Event, Failed, Phase, Picture, Point, Result, Study, key

LOOK = 0.1  # seconds between two looks at what the threads have said


def needed(members: tuple[Study, ...], lab: Lab):
    """What the members need, with all cores and once for all of them; yields its events and returns the seconds that it takes, by the estimate, for Crew's `before`."""
    before = 0.0
    for need in dict.fromkeys(need for member in members for need in member.needs()):
        before += 0.0 if key(need) in lab.store else need.typical() or 0.0
        for event in lab.need(need):
            yield Phase(event.name) if isinstance(event, Phase) else event  # how far it is says nothing of how far all is
    return before


@dataclass
class Crew:
    """Threads that each take a member, train it to its end and take the next. Arithmetic releases Python's lock, so that two cores train two members."""

    members: tuple[Study, ...]
    lab: Lab
    done_words: str  # what a member is when it has ended: "trained"
    phase: str  # the phase in which a member spends its time
    shows: bool = False  # are members' pictures passed on?
    before: float = 0.0  # seconds that were spent, by the estimate, before it began
    results: dict[int, Result] = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)

    def __post_init__(self):
        self.heard: queue.SimpleQueue = queue.SimpleQueue()
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.done = {number: 0.0 for number in range(len(self.members))}
        self.seconds = {number: 0.0 if key(member) in self.lab.store else member.typical() or 1.0 for number, member in enumerate(self.members)}  # of what is to be done
        for number in self.done:
            self.waiting.put(number)
        cores = os.cpu_count() or 1
        count = min(cores, len(self.members)) if self.lab.device.type == "cpu" else 1  # a graphics card is shared badly
        place = Lab(self.lab.store, threads=max(1, cores // count))
        self.threads = [threading.Thread(target=self._work, args=(place,), name=f"veil-sweep-{i}", daemon=True) for i in range(count)]

    def all(self):
        """Yield what the members tell; return their Results in order. Raises Failed where one of them failed, when all others are done."""
        try:
            yield from self.events()
        finally:
            self.stop()
        if self.failed:
            error = next(iter(self.failed.values()))
            raise Failed(f"{len(self.failed)} of {len(self.members)} could not be trained; the others are kept. {error}") from error
        return [self.results[number] for number in range(len(self.members))]

    def events(self):
        """What the members tell, as it comes, with how much of all is done."""
        for thread in self.threads:
            thread.start()
        while any(thread.is_alive() for thread in self.threads) or not self.heard.empty():
            try:
                number, event = self.heard.get(timeout=LOOK)
            except queue.Empty:
                continue
            if isinstance(event, Point):
                yield Point(f"{number}:{event.curve}", event.x, event.y)
            elif isinstance(event, Picture) and self.shows:
                yield Picture(f"{number}:{event.name}", event.png, event.caption)
            elif isinstance(event, Phase):
                self.done[number] = max(self.done[number], event.done / event.total if event.name == self.phase and event.total else 0.0)
                yield self._so_far()

    def _so_far(self) -> Phase:
        """How many have ended, and how much of the work is done."""
        ended, threads = len(self.results) + len(self.failed), len(self.threads)
        done, total = (self.before + sum(self.seconds[number] * share for number, share in shares.items()) / threads for shares in (self.done, dict.fromkeys(self.done, 1.0)))
        return Phase(f"{ended} of {len(self.members)} {self.done_words}", 1000 * (done / total) if total else 0.0, 1000)

    def stop(self) -> None:
        """End the threads at their next event."""
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
            except Exception as error:  # the others go on; it is told at the end
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
