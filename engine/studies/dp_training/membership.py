"""Study `membership`: a membership inference attack on a finished training.

The attack is LiRA (Carlini et al. 2022). The attacker trains shadow networks in the same way as the
target, each with half of the candidate images left out by coin flips, and compares the target's
confidence in an image with theirs. The attacker is strong: the settings, the labels, and all
training images except the candidates are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine import privacy
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.streams import derive_seed
from engine.core.study import Guarantee, Phase, Refused, Result, key
from engine.datasets import imaging, registry
from engine.learning.plan import TrainingPlan
from engine.studies import guarantees
from engine.studies.dp_training.on_training import OnTraining

CANDIDATES = 2500  # members, and as many non-members
# of either; with fewer, a shadow might contain all of them or none, and no distribution could be
# estimated
LEAST = 20
SHADOWS = {"scattering": 32, "cnn": 8}
# largest number of shadows at a time; linear shadows trained together share their batches, whereas
# different groups draw different ones
TOGETHER = 8
GROUPS = 4  # least groups of linear shadows; shadows of one group do not help against each other
SHOWN = 10  # images on the page


@dataclass(frozen=True)
class Pool:
    """All images that shadows may train on, the candidates first."""

    inputs: np.ndarray  # (n, …) images or features
    labels: np.ndarray  # (n,)
    inside: np.ndarray  # (n, shadows) whether a shadow trains on an image
    candidates: int

    def attacked(self, rows: np.ndarray) -> np.ndarray:
        """The candidates' rows of an array (n, …)."""
        return rows[: self.candidates]


class Membership(OnTraining):
    """Attack the finished training with the same settings, private or not."""

    NAME, VERSION = "membership", 7
    TITLE = "Who was in the data? An attack on a finished training"
    PRESETS = OnTraining.PRESETS | {"tiny": {"epochs": 2, "shadows": 8}}

    shadows: int | None = parameter(
        "Shadow models",
        None,
        low=8,
        high=256,
        scale="log",
        help=(
            "Number of models that the attacker trains for comparison. Empty: 32 linear models, or"
            " 8 CNNs."
        ),
    )

    @property
    def count(self) -> int:
        """The number of shadow networks: as chosen, or the default."""
        return self.shadows or SHADOWS[self.training.network]

    def derived(self) -> dict:
        """Also the number of shadow networks."""
        return super().derived() | {"shadows": self.count}

    @property
    def at_once(self) -> int:
        """The number of shadows in one group."""
        return TOGETHER if self.training.network == "cnn" else min(TOGETHER, self.count // GROUPS)

    def check(self, shown) -> None:
        """Refuse as the training does, or if there are too few candidate images."""
        super().check(shown)
        if (found := self.candidates_of(shown.train_size, len(shown.test_labels))) < LEAST:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; of its {shown.train_size} training and"
                f" {len(shown.test_labels)} test images {found} each could be asked for, and an"
                f" attack needs {LEAST}: {2 * LEAST} training and {LEAST} test images at least",
            )

    @staticmethod
    def candidates_of(train: int, test: int) -> int:
        """The number of members, and of non-members, for these numbers of images."""
        return min(CANDIDATES, test, train // 2)

    def needs(self) -> tuple:
        """The attacked training, and what it needs."""
        return (self.training, *super().needs())

    def stream_name(self) -> str:
        """The attacker's own random streams, which share no draw with the training.

        They are separate even without privacy.
        """
        return f"shadows {key(self)}"

    def work(self) -> float:
        """The work of all shadows."""
        return self.training.work() * self.count

    def kind(self) -> str:
        """The kind of the training, marked as an attack on it."""
        return f"membership of {self.training.kind()}"

    def typical(self) -> float:
        """Typical seconds.

        A linear shadow takes a quarter of the time of a single training, since several train
        together.
        """
        share = 0.7 if self.training.network == "cnn" else 0.25
        return self.training.typical() + share * self.training.seconds_for(self.work())

    def run(self, lab):
        """Train the shadows and attack the target; return the results."""
        self.check(registry.preview(self.dataset))
        target = yield from lab.need(self.training)
        images = registry.load(self.dataset)
        rng = np.random.default_rng(int(self.seed))
        members, others = self._candidates(images, rng)
        rest = np.setdiff1d(np.arange(len(images.train_labels)), members)
        coins = rng.random((2 * len(members), self.count)) < 0.5
        shadows, sure = yield from self._attack(
            lab, images, (members, others, rest), coins, target.arrays["weights"]
        )
        check_finite(shadows, sure)
        yield Phase("drawing up the bound")
        return self._found(images, members, coins, shadows, sure, target)

    def _candidates(self, images, rng) -> tuple[np.ndarray, np.ndarray]:
        """Rows of training images, and of as many test images."""
        count = self.candidates_of(len(images.train_labels), len(images.test_labels))

        def pick(n):
            return np.sort(rng.choice(n, count, replace=False))

        return pick(len(images.train_labels)), pick(len(images.test_labels))

    def _attack(self, lab, images, rows: tuple, coins: np.ndarray, weights: np.ndarray):
        """Train the shadows; return their confidences and the target's.

        The shapes are (candidates, shadows) and (candidates,).
        """
        members, others, rest = rows
        plan = replace(self.training.plan(len(images.train_labels)), streams=self.streams())

        def joined(train, test):
            return np.concatenate([train[members], test[others], train[rest]])

        if self.training.network == "cnn":
            inputs, attack = joined(images.train_images, images.test_images), self._networks
        else:
            found = yield from lab.need(self.training.features())
            inputs, attack = joined(found.arrays["train"], found.arrays["test"]), self._linear
        pool = Pool(
            inputs,
            joined(images.train_labels, images.test_labels),
            np.concatenate([coins, np.ones((len(rest), self.count), bool)]),
            len(coins),
        )
        return (yield from attack(lab, images, plan, pool, weights))

    def _linear(self, lab, images, plan: TrainingPlan, pool: Pool, weights: np.ndarray):
        """Train linear shadows, one group at a time."""
        from engine.attacks.lira import confidence
        from engine.learning import linear

        labels, found = pool.attacked(pool.labels), []
        for begun in range(0, self.count, self.at_once):
            seed = derive_seed(f"shadows from {begun}", self.seed) % 2**31
            group = pool.inside[:, begun : begun + self.at_once]
            training = linear.LinearShadowModels(
                plan.of_seed(seed), images, lab.device, pool.inputs, pool.labels, group
            )
            for step in range(plan.steps):
                training.step()
                yield self._phase(begun + (step + 1) / plan.steps * group.shape[1], group.shape[1])
            logits = training.logits_of(len(labels)).cpu().numpy()
            found += [confidence(logits[:, k], labels) for k in range(group.shape[1])]
        logits = linear.logits(weights, pool.attacked(pool.inputs), lab.device).cpu().numpy()
        return np.stack(found, 1), confidence(logits, labels)

    def _networks(self, lab, images, plan: TrainingPlan, pool: Pool, weights: np.ndarray):
        """Train CNN shadows, one group at a time: in common steps on a GPU, else one by one."""
        import torch

        from engine.attacks.lira import confidence
        from engine.learning.stacked_steps import Group

        candidates, found = torch.tensor(pool.attacked(pool.inputs)).to(lab.device), []
        everybody = replace(images, train_images=pool.inputs, train_labels=pool.labels)

        def sure(training):
            logits = training.logits(candidates).cpu().numpy()
            return confidence(logits, pool.attacked(pool.labels))

        for begun in range(0, self.count, self.at_once):
            group = Group(min(self.at_once, self.count - begun))
            numbers = range(begun, begun + group.size)
            shadows = self._shadows(lab.device, everybody, plan, pool.inside, numbers)
            if lab.device.type != "cpu":
                for training in shadows:
                    group.join(training)
            for step in range(plan.steps):
                for training in shadows:
                    training.step()
                yield self._phase(begun + (step + 1) / plan.steps * len(shadows), len(shadows))
            found += [sure(training) for training in shadows]
            group.end()
        training = shadows[-1]
        training.restore(weights)
        return np.stack(found, 1), sure(training)

    def _shadows(self, device, images, plan: TrainingPlan, inside: np.ndarray, numbers: range):
        """The trainings of these CNN shadows, each on its own images, which share one memory.

        images: those of the pool; inside: (n, shadows).
        """
        import torch

        from engine.learning.trainer import Training

        shadows: list[Training] = []
        for k in numbers:
            seed = derive_seed(f"shadow {k}", self.seed) % 2**31
            training = Training(plan.of_seed(seed), images, device)
            training.among = torch.tensor(np.flatnonzero(inside[:, k])).to(device)
            training.share(shadows[0] if shadows else training)
            shadows.append(training)
        return shadows

    def _phase(self, done: float, size: int) -> Phase:
        """How many shadows are trained, `size` at a time."""
        name = f"training {self.count} shadow networks, {size} at a time"
        return Phase(name, done, self.count)

    def _found(
        self,
        images,
        members: np.ndarray,
        coins: np.ndarray,
        shadows: np.ndarray,
        sure: np.ndarray,
        target: Result,
    ) -> Result:
        from engine.attacks import lira

        truth = np.arange(len(coins)) < len(members)
        linear = self.training.network == "scattering"  # whose groups share their batches
        groups = np.arange(self.count) // (self.at_once if linear else 1)
        score = lira.likelihood_ratio(sure, shadows, coins)
        among = lira.each_against_the_others(shadows, coins, groups)
        top = members[np.argsort(-score[: len(members)], kind="stable")[:SHOWN]]
        surest = imaging.gallery(images.train_images[top], columns=SHOWN)
        return Result(
            metrics=self._metrics(score, truth, among, coins),
            guarantee=self._none(),
            arrays={
                "score": score.astype(np.float32),
                "false_alarms": lira.FALSE_ALARMS,
                "roc": lira.roc(score, truth),
                "roc_like_it": lira.roc(among, coins),
            }
            | self._bounds(lira.FALSE_ALARMS, target.guarantee),
            images={"surest_of": imaging.png(surest, 84)},
            facts={
                "surest_of": [images.classes[images.train_labels[row]] for row in top],
                "warnings": target.warnings,
            },
        )

    def _metrics(
        self, score: np.ndarray, truth: np.ndarray, among: np.ndarray, coins: np.ndarray
    ) -> dict[str, float]:
        """How well the target's members are found, and on average those of networks like it.

        score, truth: (candidates,) of the target; among, coins: (candidates, shadows).
        """
        from engine.attacks import lira

        area, guesses = lira.area_of(among, coins), lira.guesses_of(among, coins)
        metrics = {
            "area": lira.area(score, truth),
            "right_guesses": lira.right_guesses(score, truth),
            "area_like_it": area.value,
            "right_guesses_like_it": guesses.value,
            "area_margin": lira.margin(area),
            "right_guesses_margin": lira.margin(guesses),
            "shadows": self.count,
            "candidates": len(truth),
        }
        for share in (0.001, 0.01):
            found = lira.found_of(among, coins, share)
            name = f"found_at_{share:g}"
            metrics |= {name: found.value, f"{name}_margin": lira.margin(found)}
        return metrics

    def _bounds(self, alarms: np.ndarray, promise: Guarantee) -> dict[str, np.ndarray]:
        """Upper bounds on the true positive rate of any attacker at each false positive rate.

        One bound follows from (ε, δ) alone, the other from this mechanism. Empty without a
        guarantee.
        """
        if promise.epsilon is None or promise.delta is None:
            return {}
        mechanism = self.training.mechanism(registry.preview(self.dataset).train_size)
        return {
            "bound_any": 1 - privacy.tradeoff_any(alarms, promise.epsilon, promise.delta),
            "bound_mechanism": 1 - mechanism.tradeoff(alarms),
        }

    def _none(self) -> Guarantee:
        return guarantees.nothing(
            "an attack, made by one who holds all images",
            "That one attack finds little is no promise: another may find more. Only ε bounds"
            " them all.",
            sampling="Poisson",
        )


def check_finite(shadows: np.ndarray, target: np.ndarray) -> None:
    """Raise Failed if confidences are NaN.

    An attack would then find nothing, whatever was revealed. shadows (n, k), target (n,).
    """
    lost = int(np.isnan(shadows).any(0).sum())
    if lost or np.isnan(target).any():
        who = f"{lost} of {shadows.shape[1]} shadow networks" if lost else "the attacked network"
        raise Failed(
            f"Answers of {who} are no numbers: the training diverged, and an attack would "
            "find nothing, whatever was given away. Take a smaller learning rate."
        )
