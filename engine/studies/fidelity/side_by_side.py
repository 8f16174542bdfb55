"""Study `side_by_side`: train the generators of page Fidelity in parallel, one thread each.

Each Result is stored under its own key. The members are the only parameters.
"""

from __future__ import annotations

from pydantic import field_validator

from engine import privacy
from engine.core.study import Guarantee, Phase, Refused, Result, Study
from engine.runtime.ensemble import Threads, needed
from engine.studies.fidelity.dp_merf import DPMERF
from engine.studies.fidelity.gan import GAN, NOT_COVERED


class SideBySide(Study):
    """Generators that train in parallel.

    Events are those of the members, prefixed with the member's number: '1:gallery'.
    """

    NAME = "side_by_side"
    TITLE = "Generators side by side"

    members: tuple[GAN | DPMERF, ...]

    @field_validator("members")
    @classmethod
    def _some(cls, members: tuple) -> tuple:
        if not members:
            raise Refused(
                "members", "members: none is not allowed; at least one generator must grow"
            )
        return members

    def work(self) -> float:
        """The sum of the members' seconds on the machine where they were measured."""
        return sum(member.typical() for member in self.members)

    def typical(self) -> float:
        """Estimated seconds with two members at a time and the feature extractor trained once."""
        shared = sum(need.typical() for need in self.members[0].needs())
        return shared + (self.work() - shared * len(self.members)) / 1.6

    def run(self, lab):
        """Yield the members' events; return the joint guarantee of the private members.

        Raises Failed, after all others have finished, if a member failed.
        """
        before = yield from needed(self.members, lab)
        results = yield from Threads(
            self.members, lab, "grown", "growing", shows=True, before=before
        ).all()
        yield Phase("adding up what those with privacy spend together")
        return Result(
            metrics={"generators": len(results)}, guarantee=together(self.members, results)
        )


def together(members: tuple[GAN | DPMERF, ...], results: list[Result]) -> Guarantee:
    """The guarantee if the images of all private generators are published.

    Their privacy losses are composed, which is valid because they draw their noise independently.
    """
    private = [result for member, result in zip(members, results) if member.private]
    if not private:
        return results[0].guarantee
    if len(private) == 1:
        return private[0].guarantee
    delta = min(member.delta for member in members if member.private)
    # a single release counts as one step at sample rate 1
    runs = tuple(
        (
            found.metrics["noise_multiplier"],
            found.guarantee.sample_rate or 1.0,
            found.guarantee.steps,
            None,
        )
        for found in private
    )
    spent, one = privacy.dp_sgd_epsilon_of_all(runs, delta), private[0].guarantee
    return Guarantee(
        unit=one.unit,
        epsilon=spent.epsilon,
        delta=delta,
        mechanism="; and ".join(found.guarantee.mechanism for found in private),
        accountant=spent.accountant,
        sampling="Poisson for the GAN; all pictures, once, for DP-MERF",
        sample_rate=None,
        steps=None,
        neighbours=one.neighbours,
        against="anyone who gets both private generators and all pictures made by them",
        also_released=NOT_COVERED,
        note=(
            "Publishing both, or the better one of them, spends what both spend. What stands"
            f" beside them without privacy must not be published. {one.note}"
        ),
        odds_any=privacy.odds_any(spent.epsilon, delta),
        odds_mechanism=privacy.odds_of_all(runs, delta),
    )
