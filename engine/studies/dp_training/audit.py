"""Study `audit`: repeat a training with canaries among its images, and audit it.

The audit shows how much ε was provably spent, and whether the training kept its promises. One
training is enough (Steinke, Nasr and Jagielski 2023). The accountant's ε is an upper bound
(`ceiling`): if the training is right, no attack can show more. The audit's ε is a lower bound
(`floor`): this much was revealed, whatever the mathematics says. A lower bound above the upper
bound means that the training is wrong. Errors can be planted to see the auditor at work.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from engine import privacy
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Phase, Point, Refused, Result
from engine.datasets import registry
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.shared import MAPS, MOST_BYTES

MARKERS, GROUPS = 1500, 2  # rows that are always included, and the columns that they share
CHEATS = {
    "none": "no bug",
    "no clipping": "no clipping",
    "half the noise": "half the noise",
    "shuffled batches": "shuffled batches",
    "float32 noise": "float32 noise",
}


class Audit(DPTraining):
    """DP-SGD with canaries: a lower bound on ε by correct guesses, and checks of promises."""

    # a change of the training changes its audit as well
    NAME, VERSION = "audit", 100 * DPTraining.VERSION + 3
    TITLE = "An audit of training under differential privacy"
    PRESETS = DPTraining.PRESETS | {"tiny": {"epochs": 3, "canaries": 300, "noise_multiplier": 1.0}}
    SERIES: ClassVar[dict[str, str]] = {}

    canaries: int = parameter(
        "Canaries",
        2000,
        low=20,
        high=20_000,
        scale="log",
        help=(
            "Artificial examples that resemble no image, each included in the training data by a"
            " coin flip. With more of them, the lower bound on ε can be higher."
        ),
    )
    cheat: str = parameter(
        "Simulate an implementation bug",
        "none",
        choices=CHEATS,
        pattern="^(none|no clipping|half the noise|shuffled batches|float32 noise)$",
        help="A bug that the accountant does not know of. The auditor should find it.",
    )

    def check(self, shown) -> None:
        """Refuse as the training does, and without noise to audit or memory for canaries."""
        super().check(shown)
        if not self.private or self.noise_multiplier == 0:
            raise Refused(
                "private", "private: False is not allowed; without noise there is no ε to audit"
            )
        h, w, channels = shown.test_images.shape[1:]
        entry = 1 if self.network == "cnn" else 2  # bytes
        size, rows = (
            entry
            * (
                h * w * channels
                if self.network == "cnn"
                else MAPS * channels * -(-h // 4) * -(-w // 4)
            ),
            shown.train_size + len(shown.test_images) + MARKERS,
        )

        def need(canaries):
            return (rows + canaries / 2) * (size + entry * (canaries + GROUPS))

        if need(self.canaries) > MOST_BYTES:
            most = next(
                (
                    count
                    for count in (10_000, 5000, 3000, 2000, 1000, 500, 200, 100, 50, 20)
                    if need(count) <= MOST_BYTES
                ),
                0,
            )
            raise Refused(
                "canaries",
                f"canaries: {self.canaries} is not allowed; with so many on {self.dataset} the"
                f" training would take {need(self.canaries) / 1e9:.1f} GB of memory; allowed: "
                + (
                    f"at most {most}, which fits into {MOST_BYTES / 1e9:.1f} GB"
                    if most
                    else "none, take a smaller data set"
                ),
            )

    def work(self) -> float:
        """The work of the training, with more and longer rows."""
        n = registry.exhibits(self.dataset).train_size
        return super().work() * (1 + (self.canaries / 2 + MARKERS) / n) * (1 + self.canaries / 4000)

    def kind(self) -> str:
        """The kind of the training, marked as an audit."""
        return f"audit of {super().kind()}"

    def run(self, lab):
        """Yield the lower and the upper bound per epoch; return the auditor's findings."""
        images, plan, training = yield from self.prepared(lab)
        curves = yield from self._watch(training, plan)
        yield Phase("adding up the exact ε")
        promise = self.guarantee(plan)
        return self._found(images, training, plan, promise, curves)

    def training(self, lab, images, plan: dict):
        """The training with canaries among its images, ready for its first step."""
        from engine.attacks.auditing import Marks
        from engine.attacks.canaries import MarkedCNN, MarkedLinear

        rng = np.random.default_rng(self.derive_seed("canaries"))
        marks = Marks.drawn(self.canaries, MARKERS, GROUPS, len(images.classes), rng)
        if self.network == "cnn":
            return MarkedCNN(self, plan, images, lab.device, marks, self.cheat)
        found = yield from lab.need(self.features())
        return MarkedLinear(
            self,
            plan,
            images,
            lab.device,
            found.arrays["train"],
            found.arrays["test"],
            marks,
            self.cheat,
        )

    def _watch(self, training, plan: dict):
        """Train, and compute both bounds after each epoch."""
        curves: dict[str, list[tuple[float, float]]] = {"floor": [], "ceiling": []}
        for epoch in range(1, self.epochs + 1):
            for step in range(plan["steps_per_epoch"]):
                training.step()
                yield Phase(
                    "training with canaries",
                    (epoch - 1) * plan["steps_per_epoch"] + step + 1,
                    plan["steps"],
                )
            ceiling = privacy.rdp_epsilon(
                plan["noise_multiplier"],
                plan["sample_rate"],
                epoch * plan["steps_per_epoch"],
                self.delta,
                plan["mean_noise"],
            )
            for name, value in (
                ("floor", training.witness.floor(self.delta).epsilon),
                ("ceiling", ceiling),
            ):
                curves[name].append((float(epoch), value))
                yield Point(name, float(epoch), value)
        return curves

    def _found(self, images, training, plan: dict, promise: Guarantee, curves: dict) -> Result:
        from engine.attacks.auditing import ALARM, CONFIDENCE, FALSE_ALARM, SEEN, floor

        witness, marks, ceiling = training.witness, training.marks, promise.epsilon
        found, checks = witness.floor(self.delta), witness.checks()
        beyond = floor(witness.loss, marks.included, self.delta, ALARM).epsilon > ceiling
        facts = {
            "confidence": CONFIDENCE,
            "alarm": ALARM,
            "false_alarm": FALSE_ALARM,
            "checks": [
                {
                    "name": c.name,
                    "p": c.p,
                    "kept": c.kept,
                    "measured": c.measured,
                    "error": c.error,
                    "power": c.power,
                    "blind": c.power < SEEN,
                }
                for c in checks
            ],
        }
        return Result(
            metrics={
                "floor": found.epsilon,
                "ceiling": ceiling,
                "guesses": found.guesses,
                "right": found.right,
                "beyond": float(beyond),
                "violated": float(beyond or not all(c.kept for c in checks)),
                "test_accuracy": training.measure()["test_accuracy"],
                "noise_multiplier": plan["noise_multiplier"],
                "canaries_in": float(marks.included.sum()),
            },
            guarantee=self._attack_promise(promise),
            curves=curves,
            arrays={"scores": witness.loss.astype(np.float32), "included": marks.included},
            facts=facts
            | {
                "warnings": (
                    self._warnings(plan, training.divergence, images)
                    + verdicts(facts["checks"], beyond)
                )
            },
        )

    def _attack_promise(self, promise: Guarantee) -> Guarantee:
        """No guarantee: the network with canaries must not be released."""
        return Guarantee(
            unit=promise.unit,
            epsilon=None,
            delta=None,
            mechanism="none: an audit, made by one who holds all pictures and the coins",
            accountant=promise.accountant,
            sampling=promise.sampling,
            sample_rate=promise.sample_rate,
            steps=promise.steps,
            note=(
                "What an audit finds is about the way of training, watched once with canaries"
                " inside. The floor is wrong for at most 5 in 100 audits of a correct training;"
                " whoever runs many and picks one has less to go by."
            ),
        )


def verdicts(checks: list[dict], beyond: bool) -> list[str]:
    """The audit's findings against the training, and the errors it could have missed."""
    found = [
        f"A check of the training failed: {check['name']} ({check['measured']})."
        for check in checks
        if not check["kept"]
    ]
    if beyond:
        found.append(
            "The claimed ε does not hold: a correct training gives so many right guesses in less"
            " than one of 1,000 audits."
        )
    blind = [check["error"] for check in checks if check["kept"] and check["blind"]]
    return found + ([f"This audit cannot detect: {'; '.join(blind)}."] if blind else [])
