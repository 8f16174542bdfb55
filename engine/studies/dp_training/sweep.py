"""Study `sweep`: several trainings at once.

Each Result is stored under its own key and equals that of the training alone, up to the rounding of
sums. On a CPU as many trainings run at a time as there are cores; on a GPU those with the same
settings (DPTraining.alike) take their steps together (engine/runtime/ensemble.py).

An interrupted sweep keeps what was finished: started again, it trains only what is missing. It has
no page and no parameters other than its members.
"""

from __future__ import annotations

from pydantic import field_validator

from engine import privacy
from engine.core.study import Guarantee, Phase, Refused, Result, Study
from engine.runtime.ensemble import Lockstep, Threads
from engine.studies.dp_training.dp_training import DPTraining


class Sweep(Study):
    """Trainings that are computed together.

    Events are those of the members; a curve's name is prefixed by its member's number, as in
    '3:test_accuracy'.
    """

    NAME = "sweep"
    TITLE = "Several trainings at once"

    members: tuple[DPTraining, ...]

    @field_validator("members")
    @classmethod
    def _some(cls, members: tuple) -> tuple:
        if not members:
            raise Refused(
                "members", "members: none is not allowed; a sweep needs at least one training"
            )
        return members

    def work(self) -> float:
        """The work of all members together."""
        return sum(member.work() for member in self.members)

    def kind(self) -> str:
        """The kind of the members, which are alike."""
        return f"{self.NAME}:{max(self.members, key=lambda member: member.private).kind()}"

    def typical(self) -> float:
        """Typical seconds of all members, two at a time."""
        return sum(member.typical() for member in self.members) / 1.3

    def run(self, lab):
        """Yield the members' events; return their common guarantee.

        Raises Failed if a member failed, after all others have finished.
        """
        for need in dict.fromkeys(need for member in self.members for need in member.needs()):
            yield from lab.need(need)  # once for all members, and with all cores
        results = yield from (Threads if lab.device.type == "cpu" else Lockstep)(
            self.members, lab, "trained", "training"
        ).all()
        yield Phase("adding up what all of them spend together")
        return Result(
            metrics={"trainings": len(results)}, guarantee=together(self.members, results)
        )


def together(members: tuple[DPTraining, ...], results: list[Result]) -> Guarantee:
    """The guarantee if all private members' networks are published, or the best of them is picked.

    It composes their privacy losses, which requires independent draws; Study.derive_seed ensures
    these. Members without privacy serve as a comparison and are not published.
    """
    private = [(member, result) for member, result in zip(members, results) if member.private]
    if not private or any(result.guarantee.epsilon is None for _, result in private):
        return Guarantee(
            unit="one training picture with its label",
            epsilon=None,
            delta=None,
            mechanism="none: some of the networks were trained without noise",
            accountant="none",
            sampling="Poisson",
            sample_rate=None,
            steps=None,
            note="Nothing is promised to anyone in the data.",
        )
    runs = tuple(
        (
            result.metrics["noise_multiplier"],
            result.guarantee.sample_rate,
            result.guarantee.steps,
            result.metrics.get("mean_noise"),
        )
        for _, result in private
    )
    delta, one = min(member.delta for member, _ in private), private[0][1].guarantee
    spent = privacy.dp_sgd_epsilon_of_all(runs, delta)
    return Guarantee(
        unit=one.unit,
        epsilon=spent.epsilon,
        delta=delta,
        mechanism=(
            f"{len(runs)} trainings by"
            f" {' and '.join(sorted({member.optimizer_name for member, _ in private}))} on the same"
            " pictures, each with draws of its own, all published"
        ),
        accountant=spent.accountant,
        sampling="Poisson",
        sample_rate=None,
        steps=None,
        neighbours=one.neighbours,
        against=one.against,
        also_released=one.also_released,
        note=(
            "Picking the best of several trainings spends what all of them spend, unless the"
            " picking is private too. A network without privacy, where one was trained beside them"
            f" for comparison, must not be published. {one.note}"
        ),
        odds_any=privacy.odds_any(spent.epsilon, delta),
        odds_mechanism=privacy.odds_of_all(runs, delta),
    )
