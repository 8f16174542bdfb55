"""Study `arms`: train several arms of `gradient_sharing` in parallel, one thread each.

An arm is one way of learning from the same clients (called phones on the page). The threads are in
engine/runtime/ensemble.py. Each Result is stored under its own key. The members are the only
parameters.
"""

from __future__ import annotations

from pydantic import field_validator

from engine import privacy
from engine.core.study import Guarantee, Refused, Result, Study
from engine.runtime.ensemble import Threads, needed
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing


class Arms(Study):
    """Arms that are trained in parallel.

    Events are those of the members, prefixed with the member's number: '1:test_accuracy'.
    """

    NAME = "arms"
    TITLE = "Ways of learning from the same phones"

    members: tuple[GradientSharing, ...]

    @field_validator("members")
    @classmethod
    def _some(cls, members: tuple) -> tuple:
        if not members:
            raise Refused(
                "members", "members: none is not allowed; at least one arm must be trained"
            )
        return members

    def work(self) -> float:
        """The sum of the members' work."""
        return sum(member.work() for member in self.members)

    def kind(self) -> str:
        """The kind of the members, which are all alike."""
        return f"{self.NAME}:{self.members[-1].kind()}"

    def typical(self) -> float:
        """Estimated seconds with two members at a time and what they need computed once."""
        return (
            sum(need.typical() or 0.0 for need in self.members[0].needs())
            + sum(member.typical() for member in self.members) / 1.3
        )

    def run(self, lab):
        """Yield the members' events; return the joint guarantee of the members with noise.

        Raises Failed, after all others have finished, if a member failed.
        """
        before = yield from needed(self.members, lab)
        results = yield from Threads(self.members, lab, "trained", "training", before=before).all()
        return Result(metrics={"arms": len(results)}, guarantee=together(self.members, results))


def together(members: tuple[GradientSharing, ...], results: list[Result]) -> Guarantee:
    """The guarantee for a client if the models of all arms with noise are published.

    It also holds if only the best of them is chosen. The privacy losses are composed.
    """
    private = [
        (member, result)
        for member, result in zip(members, results)
        if result.guarantee.epsilon is not None
    ]
    if not private:
        return next(
            (
                result.guarantee
                for member, result in zip(members, results)
                if member.arm == "shared"
            ),
            results[0].guarantee,
        )
    if len(private) == 1:
        return private[0][1].guarantee
    runs = tuple(
        (
            result.metrics["noise_multiplier"] / member.exposure[0],
            member.exposure[1],
            member.rounds,
            None,
        )
        for member, result in private
    )
    delta, one = min(member.delta for member, _ in private), private[0][1].guarantee
    spent = privacy.dp_sgd_epsilon_of_all(runs, delta)
    return Guarantee(
        unit=one.unit,
        epsilon=spent.epsilon,
        delta=delta,
        mechanism=(
            f"{len(runs)} arms with noise on the same phones, each with draws of its own, all"
            " published"
        ),
        accountant=spent.accountant,
        sampling=one.sampling,
        sample_rate=None,
        steps=None,
        neighbours=one.neighbours,
        against=one.against,
        also_released=one.also_released,
        note=(
            "Picking the best of several arms spends what all of them spend. Arms without noise,"
            f" beside them for comparison, must not be published. {one.note}"
        ),
        odds_any=privacy.odds_any(spent.epsilon, delta),
        odds_mechanism=privacy.odds_of_all(runs, delta),
    )
