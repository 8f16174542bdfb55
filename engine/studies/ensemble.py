"""Study `ensemble`: several studies of one kind at once, and what publishing all of them spends.

Each member's Result is stored under its own key and equals that of the member alone, up to the
rounding of sums. On a CPU as many members run at a time as there are cores; on a GPU trainings with
the same settings take their steps together (engine/runtime/ensemble.py). An interrupted ensemble
keeps what was finished: started again, it computes only what is missing. It has no page and no
parameters other than its members.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Protocol, cast

from pydantic import SerializeAsAny, field_validator

from engine import privacy
from engine.core.study import Guarantee, Phase, Refused, Result, Study
from engine.privacy.mechanism import Mechanism
from engine.runtime.ensemble import Lockstep, Threads, needed


class Member(Protocol):
    """What a study declares so that it can be a member."""

    DONE: ClassVar[str]  # what a finished member is called, such as "trained"
    PHASE: ClassVar[str]  # the phase in which it spends its time
    SHOWS: ClassVar[bool]  # whether its images are shown while it runs

    def charged(self, result: Result) -> Mechanism | None:
        """What publishing the result is charged for; None for a mere comparison."""

    def kind(self) -> str:
        """Its kind, as of any study."""

    def seconds_alone(self) -> float:
        """Typical seconds on two cores, without what it needs."""

    def jointly(self, promises: list[Guarantee]) -> dict[str, str]:
        """The words of the guarantee of several published members: fields of Guarantee."""


class Ensemble(Study):
    """Studies that are computed together.

    Events are those of the members; a curve's name is prefixed by its member's number, as in
    '3:test_accuracy'.
    """

    NAME = "ensemble"
    TITLE = "Several at once"

    members: tuple[SerializeAsAny[Study], ...]

    @field_validator("members")
    @classmethod
    def _some(cls, members: tuple) -> tuple:
        if not members:
            raise Refused("members", "members: none is not allowed; at least one must be computed")
        return members

    def _declared(self) -> tuple[Member, ...]:
        """The members, which declare what a member has to."""
        return cast("tuple[Member, ...]", self.members)

    def work(self) -> float:
        """The members' typical seconds together."""
        return sum(member.seconds_alone() for member in self._declared())

    def kind(self) -> str:
        """The kind of the longest member."""
        return f"{self.NAME}:{max(self._declared(), key=lambda one: one.seconds_alone()).kind()}"

    def typical(self) -> float:
        """Typical seconds, two members at a time and what they need computed once."""
        needs = dict.fromkeys(need for member in self.members for need in member.needs())
        return sum(need.typical() or 0.0 for need in needs) + self.work() / 1.3

    def run(self, lab):
        """Yield the members' events; return the guarantee of all that may be published.

        Raises Failed, after all others have finished, if a member failed.
        """
        before = yield from needed(self.members, lab)
        one = self.members[0]
        together = lab.device.type != "cpu" and hasattr(one, "alike")
        results = yield from (Lockstep if together else Threads)(
            self.members, lab, one.DONE, one.PHASE, shows=one.SHOWS, before=before
        ).all()
        yield Phase("adding up what all of them spend together")
        guarantee = composed(self._declared(), results)
        return Result(metrics={"members": len(results)}, guarantee=guarantee)


def composed(members: tuple[Member, ...], results: list[Result]) -> Guarantee:
    """The guarantee if all members that are charged are published, or the best of them is picked.

    It composes their privacy losses, which requires independent draws; Study.derive_seed ensures
    these. Comparisons without privacy are not published.
    """
    charged = [
        (member, result.guarantee, mechanism)
        for member, result in zip(members, results)
        if (mechanism := member.charged(result)) is not None
    ]
    if not charged:
        return results[-1].guarantee
    for _, promise, _ in charged:
        if promise.epsilon is None:
            return promise  # publishing this one alone leaves nothing to promise
    promises = [promise for _, promise, _ in charged]
    if len(promises) == 1:
        return promises[0]
    runs = tuple(mechanism.run for *_, mechanism in charged)
    delta = min(promise.delta for promise in promises if promise.delta is not None)
    spent = privacy.dp_sgd_epsilon_of_all(runs, delta)
    return replace(
        promises[0],
        epsilon=spent.epsilon,
        delta=delta,
        accountant=spent.accountant,
        sample_rate=None,
        steps=None,
        odds_any=privacy.odds_any(spent.epsilon, delta),
        odds_mechanism=privacy.odds_of_all(runs, delta),
        odds_undrawn=None,
        **charged[0][0].jointly(promises),
    )
