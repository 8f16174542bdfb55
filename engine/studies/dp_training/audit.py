"""Study `audit`: repeat a training with canaries among its images, and audit it.

The audit shows how much ε was provably spent, and whether the training kept its promises. One
training is enough (Steinke, Nasr and Jagielski 2023). The accountant's ε is an upper bound: if the
training is right, no attack can show more. The audit's ε is a lower bound: this much was revealed,
whatever the mathematics says. A lower bound above the upper bound means that the training is wrong.
Bugs can be planted to see the auditor at work.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.core.parameters import parameter
from engine.core.study import Guarantee, Phase, Point, Refused, Result
from engine.datasets import registry
from engine.learning.plan import TrainingPlan
from engine.studies import guarantees
from engine.studies.dp_training.on_training import OnTraining
from engine.studies.shared import MAPS, MOST_BYTES

FEWER = (10_000, 5000, 3000, 2000, 1000, 500, 200, 100, 50, 20)  # canaries to suggest instead
SHARED_ROWS, GROUPS = 1500, 2  # rows that are always included, and the columns that they share
BUGS = {
    "none": "no bug",
    "no clipping": "no clipping",
    "half the noise": "half the noise",
    "shuffled batches": "shuffled batches",
    "float32 noise": "float32 noise",
}


class Audit(OnTraining):
    """DP-SGD with canaries: a lower bound on ε by correct guesses, and checks of promises."""

    NAME, VERSION = "audit", 5
    TITLE = "An audit of training under differential privacy"
    PRESETS = OnTraining.PRESETS | {"tiny": {"epochs": 3, "canaries": 300, "noise_multiplier": 1.0}}

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
    bug: str = parameter(
        "Simulate an implementation bug",
        "none",
        choices=BUGS,
        pattern="^(none|no clipping|half the noise|shuffled batches|float32 noise)$",
        help="A bug that the accountant does not know of. The auditor should find it.",
    )

    def check(self, shown) -> None:
        """Refuse as the training does, and without noise to audit or memory for canaries."""
        super().check(shown)
        if not self.training.private or self.training.noise_multiplier == 0:
            raise Refused(
                "private", "private: False is not allowed; without noise there is no ε to audit"
            )
        if (size := self.memory(shown, self.canaries)) > MOST_BYTES:
            most = next((c for c in FEWER if self.memory(shown, c) <= MOST_BYTES), 0)
            raise Refused(
                "canaries",
                f"canaries: {self.canaries} is not allowed; with so many on {self.dataset} the"
                f" training would take {size / 1e9:.1f} GB of memory; allowed: "
                + (
                    f"at most {most}, which fits into {MOST_BYTES / 1e9:.1f} GB"
                    if most
                    else "none, take a smaller data set"
                ),
            )

    def memory(self, shown, canaries: int) -> float:
        """The bytes that images or features take with so many canaries among them."""
        h, w, channels = shown.test_images.shape[1:]
        cnn = self.training.network == "cnn"
        entry = 1 if cnn else 2  # bytes
        values = h * w * channels if cnn else MAPS * channels * -(-h // 4) * -(-w // 4)
        rows = shown.train_size + len(shown.test_images) + SHARED_ROWS + canaries / 2
        return rows * entry * (values + canaries + GROUPS)

    def work(self) -> float:
        """The work of the training, with more and longer rows."""
        n = registry.preview(self.dataset).train_size
        longer = 1 + self.canaries / 4000
        return self.training.work() * (1 + (self.canaries / 2 + SHARED_ROWS) / n) * longer

    def kind(self) -> str:
        """The kind of the training, marked as an audit."""
        return f"audit of {self.training.kind()}"

    def typical(self) -> float:
        """Typical seconds, including the linear model's features."""
        return self.training.features_seconds() + self.training.seconds_for(self.work())

    def run(self, lab):
        """Yield the lower and the upper bound per epoch; return the auditor's findings."""
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(registry.preview(self.dataset))
        yield Phase("finding the noise for this ε")
        plan = replace(self.training.plan(len(images.train_images)), streams=self.streams())
        training = yield from self.watched(lab, images, plan)
        curves = yield from self._watch(training, plan)
        yield Phase("adding up the exact ε")
        promise = self.training.guarantee(plan)
        return self._found(images, training, plan, promise, curves)

    def watched(self, lab, images, plan: TrainingPlan):
        """The training with canaries among its images, ready for its first step."""
        from engine.attacks.auditing import Canaries
        from engine.attacks.canaries import AuditedCNN, AuditedLinear

        rng = np.random.default_rng(self.derive_seed("canaries"))
        canaries = Canaries.drawn(self.canaries, SHARED_ROWS, GROUPS, len(images.classes), rng)
        if self.training.network == "cnn":
            return AuditedCNN(plan, images, lab.device, canaries, self.bug)
        found = yield from lab.need(self.training.features())
        return AuditedLinear(
            plan,
            images,
            lab.device,
            found.arrays["train"],
            found.arrays["test"],
            canaries,
            self.bug,
        )

    def _watch(self, training, plan: TrainingPlan):
        """Train, and compute both bounds after each epoch."""
        curves: dict[str, list[tuple[float, float]]] = {"lower_bound": [], "upper_bound": []}
        for epoch in range(1, plan.epochs + 1):
            for step in range(plan.steps_per_epoch):
                training.step()
                yield Phase(
                    "training with canaries",
                    (epoch - 1) * plan.steps_per_epoch + step + 1,
                    plan.steps,
                )
            delta, done = self.training.delta, epoch * plan.steps_per_epoch
            for name, value in (
                ("lower_bound", training.auditor.lower_bound(delta).epsilon),
                ("upper_bound", plan.mechanism.epsilon_after(done, delta)),
            ):
                curves[name].append((float(epoch), value))
                yield Point(name, float(epoch), value)
        return curves

    def _found(
        self, images, training, plan: TrainingPlan, promise: Guarantee, curves: dict
    ) -> Result:
        from engine.attacks.auditing import ALARM, CONFIDENCE, FALSE_ALARM, lower_bound

        auditor, canaries, upper_bound = training.auditor, training.canaries, promise.epsilon
        assert upper_bound is not None  # `check` refuses a training without ε
        found, checks = auditor.lower_bound(self.training.delta), _as_values(auditor.checks())
        highest = lower_bound(auditor.loss, canaries.included, self.training.delta, ALARM).epsilon
        bound_violated = highest > upper_bound
        accuracy = training.measure()["test_accuracy"]  # and whether the training diverged
        warnings = self.training.warnings(plan, training.divergence, images)
        return Result(
            metrics={
                "lower_bound": found.epsilon,
                "upper_bound": upper_bound,
                "guesses": found.guesses,
                "right": found.right,
                "bound_violated": float(bound_violated),
                "violated": float(bound_violated or not all(check["kept"] for check in checks)),
                "test_accuracy": accuracy,
                "noise_multiplier": plan.mechanism.noise_multiplier,
                "canaries_in": float(canaries.included.sum()),
            },
            guarantee=self._attack_promise(promise),
            curves=curves,
            arrays={"scores": auditor.loss.astype(np.float32), "included": canaries.included},
            facts={
                "confidence": CONFIDENCE,
                "alarm": ALARM,
                "false_alarm": FALSE_ALARM,
                "checks": checks,
                "warnings": warnings + verdicts(checks, bound_violated),
            },
        )

    def _attack_promise(self, promise: Guarantee) -> Guarantee:
        """No guarantee: the network with canaries must not be released."""
        return guarantees.nothing(
            "an audit, made by one who holds all images and the coins",
            "What an audit finds is about the way of training, watched once with canaries"
            " inside. The lower bound is wrong for at most 5 in 100 audits of a correct training;"
            " whoever runs many and picks one has less to go by.",
            unit=promise.unit,
            accountant=promise.accountant,
            sampling=promise.sampling,
            sample_rate=promise.sample_rate,
            steps=promise.steps,
        )


def _as_values(checks: list) -> list[dict]:
    """The auditor's checks as JSON values; `blind`: too weak to notice the error it looks for."""
    from engine.attacks.auditing import RELIABLE

    return [
        {
            "name": check.name,
            "p": check.p,
            "kept": check.kept,
            "measured": check.measured,
            "error": check.error,
            "power": check.power,
            "blind": check.power < RELIABLE,
        }
        for check in checks
    ]


def verdicts(checks: list[dict], bound_violated: bool) -> list[str]:
    """The audit's findings against the training, and the errors it could have missed."""
    found = [
        f"A check of the training failed: {check['name']} ({check['measured']})."
        for check in checks
        if not check["kept"]
    ]
    if bound_violated:
        found.append(
            "The claimed ε does not hold: a correct training gives so many right guesses in less"
            " than one of 1,000 audits."
        )
    blind = [check["error"] for check in checks if check["kept"] and check["blind"]]
    return found + ([f"This audit cannot detect: {'; '.join(blind)}."] if blind else [])
