"""Study `gradient_sharing`: clients train locally and upload a part of their gradients.

Sources: Shokri and Shmatikov 2015; report 5 (Bu, CS230; see docs/gradient_sharing.md). One
study is one arm: the clients share gradients or, for comparison, share nothing, train alone, or
send all images to one place. Every arm starts from the same initial model
(engine/studies/gradient_sharing/initial_model.py).
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import model_validator

from engine import privacy
from engine.core import parameters, rounding
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Phase, Point, Refused, Result
from engine.datasets import imaging, registry
from engine.evaluation import cautions, scores
from engine.privacy import neighbours
from engine.privacy.mechanism import Mechanism
from engine.studies import guarantees
from engine.studies.gradient_sharing.initial_model import InitialModelSettings
from engine.studies.gradient_sharing.plan import SharingPlan
from engine.studies.shared import DIMENSIONS

ARMS = {
    "shared": "clients share gradients",
    "none": "no update",
    "alone": "each client alone",
    "centralised": "all images in one place",
}
FRACTIONS = (0.01, 0.1, 0.2, 1.0)  # the arms of the page
NOISES = (0.5, 1.0, 2.0, 4.0, 8.0)
# learning rates of the clients, chosen on held-out training images (docs/gradient_sharing.md)
RATES = {"tanh": 0.2, "relu": 0.05, "features": 0.01}
CENTRAL_BATCH = 32
DEFAULT_MAX_GRAD_NORM = 1.0
# fields that clients and server take as they are
HANDED_ON = (
    "noised_by",
    "policy",
    "fraction",
    "threshold",
    "keep_rest",
    "order",
    "client_sampling_rate",
    "dropout",
    "faulty",
    "server_learning_rate",
)
SMALLER = "A smaller learning rate, or a smaller server's rate, helps."
LESS = "A smaller learning rate, a smaller server's rate or less noise helps."
# Number of clients that are trained alone; the page shows their mean.
ALONE = 10
ALONE_POINTS = 8  # number of times that these are measured
SHOWN_CLIENTS = 20  # clients in the page's diagram
MOST_CLIENTS = 5000
MOST_UPLOADS = 500_000  # limit on uploads over all rounds
MOST_BYTES = 4e9  # limit on all clients' gradients at once
BYTES_EACH = 30  # bytes per gradient and client, including temporary copies (measured)
SHOWN_ROUNDS = 100  # number of rounds whose uploads are reported live
LEAST_NOISE = 0.01

# --- words of the guarantees ----------------------------------------------------------------------

ONE_CLIENT = "all images of one client"
OTHER_IMAGES = "all images of one client replaced by any others"
# arm that shares nothing → why it promises nothing, and what that means
NOT_SHARED = {
    "none": (
        "the clients send nothing",
        "Nothing leaves a client, so nothing is learned from it either. The company's own images"
        " are not protected: the initial model was trained on them without privacy.",
    ),
    "alone": (
        "each client keeps its model to itself",
        "Nothing leaves a client. What it learns helps nobody else.",
    ),
    "centralised": (
        "the images themselves are sent",
        "Whoever runs the server has all the images.",
    ),
}
AGAINST = {  # by who adds the noise
    "server": (
        "anyone who gets all the models that the server hands out, but not the server,"
        " which sees each upload as it is"
    ),
    "client": "everyone, the server included, which sees each noised upload",
}
_SHOWN = (
    "test accuracies. This simulation also shows what a real server must keep to"
    " itself, and what ε does not cover: "
)
_LABELS = "how many images of each class lie at each client, and the model's loss on them"
ALSO_RELEASED = {
    "server": f"{_SHOWN}who was asked, who dropped out and how many bytes each client has sent; and"
    f" {_LABELS}",
    "client": _SHOWN + _LABELS,
}


class GradientSharing(InitialModelSettings):
    """Train a model from the gradients that clients share.

    Reports the model's accuracy, the bytes sent, and the guarantees.
    """

    NAME, VERSION = "gradient_sharing", 5
    DONE, PHASE, SHOWS = "trained", "training", False
    TITLE = "Sharing gradients instead of images"
    PRESETS = {
        "quick": {},
        "tiny": {"clients": 4, "images_per_client": 40, "rounds": 2, "initial_epochs": 2},
        "private": {
            "company_share": 0.01,
            "clients": 1000,
            "images_per_client": 20,
            "dataset": "mnist",
            "noise_multiplier": 8.0,
            "fraction": 1.0,
            "server_learning_rate": 4.0,
        },
        "uneven": {"unevenness": 0.3},
        "shokri": {
            "dataset": "mnist",
            "company_share": 0.0,
            "clients": 100,
            "images_per_client": 600,
            "order": "asynchronous",
            "rounds": 40,
            "keep_rest": True,
        },
        "report": {
            "dataset": "folder:people-and-pets",
            "company_share": 0.5,
            "network": "efficientnet_lite0",
            "clients": 20,
        },
    }
    SERIES = {
        "arms": (
            "no update, 1 %, 10 %, 20 %, 100 %, each client alone, and all images in one place"
        ),
        "noises": "accuracy over ε: the same sharing under more and less noise",
        "policies": "which gradients: the largest, random ones, those above a threshold",
    }
    EXCLUSIVE = ("noise_multiplier", "target_epsilon")

    clients: int = parameter(
        "Clients",
        20,
        low=1,
        high=MOST_CLIENTS,
        scale="log",
        help="Number of clients that take part, each with its own images.",
    )
    images_per_client: int | None = parameter(
        "Images per client",
        None,
        low=1,
        high=100_000,
        scale="log",
        help="Empty: all images that are not the company's are distributed.",
    )
    unevenness: float | None = parameter(
        "Dirichlet α",
        None,
        low=0.01,
        high=1000.0,
        scale="log",
        help=(
            "How unevenly the images are distributed: each class in proportions drawn from a"
            " Dirichlet distribution. Small: a client has one or two classes, and some have no"
            " images. Empty: all have equally many, at random."
        ),
    )
    rounds: int = parameter(
        "Rounds",
        30,
        low=1,
        high=1000,
        scale="log",
        help="In each round, every client trains and uploads once.",
    )
    local_epochs: int = parameter(
        "Local epochs",
        1,
        low=1,
        high=50,
        scale="log",
        help="How often a client goes through its own images before it uploads.",
    )
    batch_size: int = parameters.batch_size(16, "Number of its own images in a step of a client.")
    learning_rate: float | None = parameters.learning_rate()
    server_learning_rate: float = parameter(
        "Server learning rate",
        1.0,
        low=0.01,
        high=100.0,
        scale="log",
        help="Size of the server's step along the mean upload, relative to a client's step.",
    )
    policy: str = parameter(
        "Which gradients",
        "largest",
        choices={
            "largest": "the largest",
            "random": "random ones",
            "threshold": "above a threshold",
        },
        pattern="^(largest|random|threshold)$",
        help=(
            "Random ones are drawn anew for each step of the server and are the same for all"
            " clients, so nobody needs to send their positions."
        ),
    )
    fraction: float = parameter(
        "Share of the gradients",
        0.1,
        low=0.0001,
        high=1.0,
        unit="fraction",
        scale="log",
        ends=("share less", "share all"),
        help="Share of all gradients that is uploaded.",
    )
    threshold: float = parameter(
        "Threshold",
        0.1,
        low=0.0,
        high=1e6,
        scale="log",
        help=(
            "For *above a threshold*: a gradient (the client's sum over a round) is uploaded if its"
            " magnitude is larger."
        ),
    )
    keep_rest: bool = parameter(
        "Keep what is not sent",
        False,
        help=(
            "What is not uploaded is added to the gradients of the next round (as in Lin et al."
            " 2018) instead of being dropped."
        ),
    )
    trained: str = parameter(
        "Layers trained",
        "all",
        choices={"all": "all layers", "last": "the last layer"},
        pattern="^(all|last)$",
        help="For the small CNN: which layers the clients train.",
    )
    order: str = parameter(
        "Order",
        "together",
        choices={
            "together": "all at once",
            "turns": "in turns",
            "asynchronous": "overlapping shifts",
        },
        pattern="^(together|turns|asynchronous)$",
        help=(
            "All at once: one step of the server per round. In turns: one client after the other,"
            " each starting from the last one's model. Overlapping shifts: four per round, each"
            " starting before the last one's uploads have arrived."
        ),
    )
    client_sampling_rate: float = parameter(
        "Client sampling rate",
        1.0,
        low=0.001,
        high=1.0,
        scale="log",
        help=(
            "Probability that a client is sampled in a round, independently of others. Who is"
            " sampled stays secret, which ε takes into account."
        ),
    )
    dropout: float = parameter(
        "Dropout rate",
        0.0,
        low=0.0,
        high=0.99,
        help=(
            "Share of the sampled clients that do not upload after all, at random. ε does not rely"
            " on it."
        ),
    )
    faulty: str = parameter(
        "Faulty client",
        "none",
        choices={
            "none": "none",
            "nan": "sends NaN",
            "huge": "sends a gradient of norm 10⁹",
        },
        pattern="^(none|nan|huge)$",
        help="What the first client sends.",
    )
    noise_multiplier: float | None = parameter(
        "Noise multiplier σ",
        0.0,
        low=0.0,
        high=2000.0,
        scale="log",
        ends=("more accurate", "more private"),
        help="Gaussian noise as a multiple of the clip norm. 0: no noise, no guarantee.",
    )
    target_epsilon: float | None = parameter(
        "Privacy budget ε",
        None,
        low=0.1,
        high=1000.0,
        scale="log",
        ends=("more private", "more accurate"),
        help=(
            "How much all rounds together may reveal about all images of one client. Instead"
            " of a noise multiplier."
        ),
    )
    max_grad_norm: float | None = parameter(
        "Clip norm",
        None,
        low=1e-4,
        high=1e4,
        scale="log",
        help=(
            "Largest norm of an upload (max_grad_norm, C); longer ones are clipped. Empty: no"
            " clipping, and 1 with noise."
        ),
    )
    noised_by: str = parameter(
        "Noise is added by",
        "server",
        choices={"server": "the server, to the sum", "client": "each client, to its own"},
        pattern="^(server|client)$",
        help=(
            "A trusted server adds noise once, to the sum. A client that trusts nobody adds as much"
            " to its own upload: the guarantee then holds against the server, too."
        ),
    )
    delta: float = parameters.delta(1e-5)
    arm: str = parameter(
        "Arm",
        "shared",
        choices=ARMS,
        pattern="^(shared|none|alone|centralised)$",
        help="What is compared.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_of_noise_and_budget(cls, values: dict) -> dict:
        """Let a budget replace the default noise multiplier.

        Raises Refused if both are given.
        """
        if values.get("target_epsilon") is None:
            return values
        if values.get("noise_multiplier"):
            raise Refused(
                "target_epsilon",
                "target_epsilon: give target_epsilon or noise_multiplier, not both; one follows"
                " from the other",
            )
        return values | {"noise_multiplier": None}

    @model_validator(mode="after")
    def _noise_or_budget(self) -> GradientSharing:
        if self.noise_multiplier is None and self.target_epsilon is None:
            raise Refused(
                "noise_multiplier",
                "noise_multiplier: none is not allowed without target_epsilon; give one of the two",
            )
        if self.noise_multiplier is not None and 0 < self.noise_multiplier < LEAST_NOISE:
            raise Refused(
                "noise_multiplier",
                f"noise_multiplier: {rounding.chosen(self.noise_multiplier)} is not allowed;"
                f" allowed: 0 (no promise), or a number from {LEAST_NOISE} to 2000",
            )
        return self

    # --- the clients' images ----------------------------------------------------------------------

    def fitting(self, shown) -> dict:
        """Limit the clients: each has at least one image, and all gradients fit in memory."""
        found = super().fitting(shown)
        left = shown.train_size - round(
            found.get("company_share", self.company_share) * shown.train_size
        )
        most = min(left, int(MOST_BYTES / BYTES_EACH / self.gradients(shown)))
        if 1 <= most < self.clients:
            found["clients"] = most
        each = left // found.get("clients", self.clients)
        return found | (
            {"images_per_client": each}
            if self.images_per_client is not None and 1 <= each < self.images_per_client
            else {}
        )

    def check(self, shown) -> None:
        """Raise Refused if the parameters do not fit the data set (shown: preview or images)."""
        super().check(shown)
        left = shown.train_size - round(self.company_share * shown.train_size)
        needed = self.clients * (self.images_per_client or 1)
        if self.clients > left:
            raise Refused(
                "clients",
                f"clients: {self.clients} is not allowed; {left} images of"
                f" {self.dataset} are not the company's, fewer than one a client",
            )
        if needed > left:
            raise Refused(
                "images_per_client",
                f"images_per_client: {self.images_per_client} is not allowed;"
                f" {self.clients} clients would need {needed}, and {left} images of"
                f" {self.dataset} are not the company's",
            )
        if self.clients * self.rounds > MOST_UPLOADS:
            raise Refused(
                "rounds",
                f"rounds: {self.rounds} is not allowed with {self.clients} clients; allowed: at"
                f" most {MOST_UPLOADS:,} uploads, that is {MOST_UPLOADS // self.clients} rounds",
            )
        if (size := self.clients * self.gradients(shown) * BYTES_EACH) > MOST_BYTES:
            raise Refused(
                "clients",
                f"clients: {self.clients} is not allowed; their gradients would take"
                f" {size / 1e9:.0f} GB of memory, and {MOST_BYTES / 1e9:.0f} GB are allowed; take"
                " fewer clients",
            )
        if self.backbone:
            self.backbone.check(shown)

    def gradients(self, shown) -> int:
        """The number of gradients in all layers."""
        classes = len(shown.classes)
        if self.backbone:
            return (DIMENSIONS[self.network] + 1) * classes
        size, channels = shown.test_images.shape[1], shown.test_images.shape[3]
        # after the second pooling (networks.report_cnn)
        side = (((size - 2) // 2 - 4) // 2 + 1) - 1
        return (
            64 * 16 * channels + 16 + 16 * 16 * 32 + 32 + 32 * side * side * 32 + 32 + 33 * classes
        )

    def owned(self, labels: np.ndarray) -> list[np.ndarray]:
        """The rows of the training images of each client. labels (n,)."""
        _, rest = self.split(len(labels))
        rng = np.random.default_rng([self.seed, 6])
        if self.images_per_client is not None:
            rest = np.sort(rng.permutation(rest)[: self.clients * self.images_per_client])
        return [rest[rows] for rows in shares(labels[rest], self.clients, self.unevenness, rng)]

    # --- arms and series --------------------------------------------------------------------------

    def _like(self, **changes) -> GradientSharing:
        return GradientSharing(
            **{name: getattr(self, name) for name in GradientSharing.model_fields} | changes
        )

    def _against(self, arm: str) -> GradientSharing:
        """An arm for comparison.

        Parameters that have no effect on it are at their defaults, so that it is trained only once.
        """
        matters = {
            *InitialModelSettings.model_fields,
            "clients",
            "images_per_client",
            "unevenness",
            "rounds",
            "local_epochs",
            "trained",
        } | ({"batch_size", "learning_rate"} if arm == "alone" else set())
        matters -= {"unevenness"} if arm == "centralised" else set()
        return GradientSharing(**{name: getattr(self, name) for name in matters}, arm=arm)

    def arms(self) -> dict[str, GradientSharing]:
        """All arms that the page compares: name → study."""
        policy = "largest" if self.policy == "threshold" else self.policy
        fractions = {
            percent(f): self._like(fraction=f, policy=policy)
            for f in sorted({*FRACTIONS, self.fraction})
        }
        shared = (
            {"above the threshold": self} | {percent(f): fractions[percent(f)] for f in FRACTIONS}
            if self.policy == "threshold"
            else fractions | {percent(self.fraction): self}
        )
        return (
            {ARMS["none"]: self._against("none"), ARMS["alone"]: self._against("alone")}
            | shared
            | {ARMS["centralised"]: self._against("centralised")}
        )

    def noises(self) -> dict[str, GradientSharing]:
        """The chosen sharing at several noise multipliers and without noise, clipped alike."""
        told, clip = self.noise_and_clip
        clip = clip or DEFAULT_MAX_GRAD_NORM

        def like(noise):
            return self._like(target_epsilon=None, noise_multiplier=noise, max_grad_norm=clip)

        chosen = [told] if told else []
        noised = {f"σ = {noise:.3g}": like(noise) for noise in sorted({*NOISES, *chosen})} | {
            f"σ = {noise:.3g}": self for noise in chosen
        }
        return {ARMS["none"]: self._against("none"), "clipped, no noise": like(0.0)} | noised

    def policies(self) -> dict[str, GradientSharing]:
        """The same fraction under each policy, with and without keeping the rest."""
        found = {
            "the largest": self._like(policy="largest", keep_rest=False),
            "the largest, the rest kept": self._like(policy="largest", keep_rest=True),
            "random ones": self._like(policy="random", keep_rest=False),
            "random ones, the rest kept": self._like(policy="random", keep_rest=True),
            "above a threshold": self._like(policy="threshold", keep_rest=False),
        }
        return (
            found if self in found.values() else found | {"above a threshold, the rest kept": self}
        )

    def needs(self) -> tuple:
        """The initial model, and the features that a last layer is trained on."""
        return (self.initial(), *super().needs())

    # --- running time -----------------------------------------------------------------------------

    def work(self) -> float:
        """Images processed in total, in units of one image of 28 × 28 pixels."""
        shown = registry.preview(self.dataset)
        rest = (
            shown.train_size * (1 - self.company_share)
            if self.images_per_client is None
            else self.clients * self.images_per_client
        )
        seen = {
            "none": 0.0,
            "shared": rest,
            "alone": rest * min(1.0, ALONE / self.clients),
            "centralised": rest + self.company_share * shown.train_size,
        }[self.arm]
        size = 0.3 if self.backbone else shown.test_images[0].size / 784
        return size * (
            self.rounds * self.local_epochs * seen * (2.0 if self.order == "turns" else 1.0)
            + len(shown.test_images) * (1 + self.rounds / 3)
        ) + (self.rounds * self.clients * 5.0 if self.arm == "shared" else 0.0)

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{'features' if self.backbone else 'cnn'}:{self.arm}:{self.order}"

    def typical(self) -> float:
        """Seconds on two cores, without the studies it needs."""
        return self.seconds_alone()

    def seconds_alone(self) -> float:
        """Seconds on two cores, without the studies it needs."""
        return 6.5e-5 * self.work()

    def charged(self, result: Result) -> Mechanism | None:
        """What publishing this arm's model is charged for; None without noise."""
        if result.guarantee.epsilon is None:
            return None
        return self.mechanism()

    def jointly(self, promises: list[Guarantee]) -> dict[str, str]:
        """The words of the guarantee of several published arms."""
        return {
            "mechanism": (
                f"{len(promises)} arms with noise on the same clients, each with draws of its own,"
                " all published"
            ),
            "note": (
                "Picking the best of several arms spends what all of them spend. Arms without"
                f" noise, beside them for comparison, must not be published. {promises[0].note}"
            ),
        }

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield accuracy and uploads round by round; return the curves and the final model."""
        import torch

        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        plan = self.plan()
        first = yield from lab.need(self.initial())
        task = yield from self.task(lab, images)
        start = torch.from_numpy(first.arrays["weights"]).to(lab.device)
        task, start = (
            task.last_layer(start)
            if self.trained == "last" and self.backbone is None
            else (task, start)
        )
        arm = {"none": _Nothing, "shared": _Shared, "alone": _Alone, "centralised": _Centralised}[
            self.arm
        ](self, plan, task, start, images)
        arm.known = first.warnings
        for number in range(self.rounds + 1):
            if number:
                arm.round()
            yield from arm.points(number)
            yield Phase("training", number, self.rounds)
        return arm.result()

    @property
    def noise_and_clip(self) -> tuple[float, float | None]:
        """The noise multiplier and the clip norm (None: no clipping).

        Raises Refused if a budget cannot be met.
        """
        noise, (moved, rate) = self.noise_multiplier, self.exposure
        if self.target_epsilon is not None:
            noise = moved * guarantees.noise_for(self.target_epsilon, rate, self.rounds, self.delta)
        assert noise is not None  # the budget is, if no noise is given
        clip = DEFAULT_MAX_GRAD_NORM if self.max_grad_norm is None and noise else self.max_grad_norm
        return noise, clip

    def plan(self) -> SharingPlan:
        """What clients upload and what the server makes of it. Raises Refused, and Missing."""
        noise, clip = self.noise_and_clip
        return SharingPlan(
            streams=self.streams(),
            noise_multiplier=noise,
            max_grad_norm=clip,
            **{name: getattr(self, name) for name in HANDED_ON},
        )

    def mechanism(self) -> Mechanism:
        """What the accountant counts; its noise multiplier is in units of the sensitivity."""
        (noise, clip), (moved, rate) = self.noise_and_clip, self.exposure
        clip = math.inf if clip is None else clip
        return Mechanism(noise / moved, moved * clip, rate, self.rounds)

    def derived(self) -> dict:
        """Also the clip norm, and the learning rate of the clients."""
        rate = {"learning_rate": RATES[self.learner]} if self.arm in ("alone", "shared") else {}
        return super().derived() | rate | {"max_grad_norm": self.noise_and_clip[1]}

    @property
    def exposure(self) -> tuple[float, float]:
        """Sensitivity in clip norms, and the sample rate per round, for the privacy accounting.

        The sensitivity is how far a client's data may move its upload; the sample rate is the
        probability that the client takes part in a round. Noise by the server: the client is
        blanked, which moves the sum by one clip norm, and who takes part stays secret. Noise by the
        client: its images are replaced by others, which moves its upload by up to two clip norms,
        and the server sees who uploads.
        """
        return (1.0, self.client_sampling_rate) if self.noised_by == "server" else (2.0, 1.0)

    def spent(self, rounds: int) -> float:
        """ε after a number of rounds; math.inf without noise.

        A fast upper bound (RDP), except where the exact value is as fast.
        """
        mechanism = self.mechanism()
        if rounds == 0:
            return 0.0
        if not mechanism.private:
            return math.inf
        if mechanism.sample_rate == 1:
            sigma = mechanism.noise_multiplier
            return privacy.gaussian_epsilon(sigma, self.delta, math.sqrt(rounds))
        return mechanism.epsilon_after(rounds, self.delta)

    def guarantee(self) -> Guarantee:
        """The guarantee for a client, covering all images on it together."""
        noise, clip = self.noise_and_clip
        if self.arm != "shared" or not noise:
            return self._no_guarantee(clip)
        server = self.noised_by == "server"
        noised = (
            "each upload, before it leaves the client"
            if not server
            else "the sum of a round's uploads"
            if self.order == "together"
            else "each sum of uploads that the server adds"
        )
        return guarantees.subsampled_gaussian(
            self.mechanism(),
            self.delta,
            unit=ONE_CLIENT,
            words=(
                f"each upload shortened to {clip:g}; Gaussian noise of"
                f" {rounding.described(noise)} times that on {noised}, {self.rounds} times"
            ),
            sampling=(
                "Poisson, by each client's own coin"
                if server and self.exposure[1] < 1
                else "none: every client in every round"
            ),
            neighbours=neighbours.ONE_PARTICIPANT if server else OTHER_IMAGES,
            against=AGAINST[self.noised_by],
            also_released=ALSO_RELEASED[self.noised_by],
            note=(
                "A simulation: the seed is known, so a real system would draw its noise from a"
                " secret source. The initial model's own images are not protected. Settings tried"
                " before on the same clients are not counted. ε does not shrink because only a"
                " fraction is sent."
            ),
        )

    def _no_guarantee(self, clip: float | None) -> Guarantee:
        """Why this arm promises nothing. clip: what uploads are clipped to, or None."""
        sent = (
            "the gradients above a threshold"
            if self.policy == "threshold"
            else f"{percent(self.fraction)} of the gradients"
        )
        how = ", as they are" if clip is None else f", shortened to {clip:g} and not noised"
        shared = self.arm == "shared"
        return guarantees.nothing(
            sent + how if shared else NOT_SHARED[self.arm][0],
            (
                "A fraction of the gradients promises nothing to anyone, however small it"
                " is: images can be rebuilt from it. Clipping alone promises nothing"
                " either: without noise, whoever knows all other uploads knows this one."
                if shared
                else NOT_SHARED[self.arm][1]
            ),
            unit=ONE_CLIENT,
            steps=self.rounds if shared else None,
        )

    def warnings(self, metrics: dict[str, float], finite: bool) -> list[str]:
        """Warnings to show with the result.

        finite: whether all weights are finite and no honest upload was refused.
        """
        noisy = self.arm == "shared" and self.noise_and_clip[0]
        found = [w for w in [privacy.delta_warning(self.delta, self.clients)] if w and noisy]
        if not finite:
            found.append(f"It diverged: weights or uploads ran away. {SMALLER}")
        if metrics.get("refused"):
            found.append(refusals(metrics, self.faulty))
        if (empty := metrics["clients_without_images"]) and self.arm in ("shared", "alone"):
            found.append(
                f"{empty} of {self.clients} clients have no images: they have nothing to send."
            )
        return found

    def sample(self) -> bytes:
        """PNG of the first images, as an example of what is on the clients."""
        return imaging.png(
            imaging.gallery(registry.preview(self.dataset).train_images[:40], columns=10), 0
        )

    def chance(self) -> float:
        """The accuracy of always predicting the most frequent test class."""
        return scores.guessing(registry.preview(self.dataset).test_labels)


def percent(fraction: float) -> str:
    """A fraction in percent: '10 %'."""
    return f"{100 * fraction:.3g} %"


def refusals(metrics: dict[str, float], faulty: str) -> str:
    """Why the server refused uploads. faulty: what the faulty client sends, if there is one."""
    honest, all_ = metrics["refused_honest"], metrics["refused"]
    what = {
        "nan": "it sends what is no number",
        "huge": "its gradient is far longer than the others'",
    }.get(faulty, "")
    told = []
    if all_ > honest:
        told.append(
            f"{all_ - honest} of {metrics['uploads'] + all_} uploads came from the broken "
            f"client and were refused: {what}."
        )
    if honest:
        told.append(
            f"{honest} uploads of clients that are not broken were refused: what they "
            "learned ran away. A smaller learning rate helps."
        )
    return " ".join([*told, "A refused upload counts as if nothing had been sent."])


def shares(
    labels: np.ndarray, clients: int, unevenness: float | None, rng: np.random.Generator
) -> list[np.ndarray]:
    """Split the rows among the clients without overlap. labels (n,).

    unevenness None: equal numbers, at random. Otherwise each class is split in proportions drawn
    from a Dirichlet distribution with this concentration (Yurochkin et al. 2019): the smaller it
    is, the more uneven the split, also in the number of images. A client may have a single class or
    no images.
    """
    if unevenness is None:
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), clients)]
    owned: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(rng.dirichlet(np.full(clients, unevenness))) * len(rows)).astype(
            int
        )
        for mine, part in zip(owned, np.split(rows, ends[:-1])):
            mine.append(part)
    return [np.sort(np.concatenate(mine)) for mine in owned]


# --- the arms -------------------------------------------------------------------------------------


class _Arm:
    """What all arms share: the initial model, and the measurements after each round."""

    def __init__(self, study: GradientSharing, plan: SharingPlan, task, start, images):
        self.study, self.plan, self.task, self.weights, self.images = (
            study,
            plan,
            task,
            start,
            images,
        )
        self.owned, self.start = study.owned(images.train_labels), start
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.known: list[str] = []  # warnings about the initial model
        self.begin()

    def begin(self) -> None:
        """Prepare for the first round."""

    def round(self) -> None:
        """Run one round."""

    def clients(self, owned: list[np.ndarray], batch_size: int):
        """The engine.studies.gradient_sharing.federation.Clients with these rows."""
        import torch

        from engine.core.streams import derive_seed
        from engine.studies.gradient_sharing import federation

        study = self.study
        shuffling = torch.Generator(self.task.train.device).manual_seed(
            derive_seed(f"shuffling of {study.arm}", study.seed)
        )
        self.rate = RATES[study.learner] if study.learning_rate is None else study.learning_rate
        return federation.Clients(
            self.task,
            owned,
            batch_size=batch_size,
            epochs=study.local_epochs,
            learning_rate=self.rate,
            shuffling=shuffling,
        )

    def points(self, number: int):
        """Measure after a round; add the values to the curves and yield them."""
        for name, value in self.measured(number).items():
            self.curves.setdefault(name, []).append((float(number), float(value)))
            yield Point(name, float(number), float(value))

    def measured(self, number: int) -> dict[str, float]:
        """The measurements after this round: name → value."""
        return {"test_accuracy": self.task.accuracy(self.weights)}

    def bytes_of_images(self) -> int:
        """Total size of the clients' images in bytes, uncompressed."""
        return sum(map(len, self.owned)) * self.images.train_images[0].size

    def more(self) -> tuple[dict, dict, dict]:
        """Additional metrics, arrays and facts."""
        return {}, {}, {}

    def result(self) -> Result:
        """The complete result."""
        study, finite = self.study, bool(self.weights.isfinite().all())
        metrics, arrays, facts = self.more()
        finite = finite and not metrics.get("refused_honest")
        start, loss, learned = self.learned()
        tests, classes = self.images.test_labels, self.images.classes
        sizes = [len(rows) for rows in self.owned]
        metrics |= {"clients_without_images": sizes.count(0)} | self.beside(tests)
        remedy = LESS if self.plan.noise_multiplier and study.arm == "shared" else SMALLER
        uniform = math.log(len(classes))
        runaway = cautions.divergence(loss, uniform, learned, start, remedy) if finite else []
        warnings = study.warnings(metrics, finite) + runaway + self.doubts(tests, classes)
        return Result(
            metrics={
                "test_accuracy": self.curves["test_accuracy"][-1][1],
                "initial_accuracy": self.curves["test_accuracy"][0][1],
                "gradients": int(self.weights.shape[-1]),
                "images_on_clients": sum(sizes),
                "bytes_of_images": self.bytes_of_images(),
            }
            | ({"train_loss": loss} if math.isfinite(loss) else {})
            | metrics,
            guarantee=study.guarantee(),
            curves=self.curves,
            arrays={"weights": self.weights.cpu().numpy(), "images": self._classes_owned()}
            | arrays,
            facts={
                "classes": list(classes),
                "per_class": self._per_class(),
                "diverged": not finite or bool(runaway),
                "warnings": warnings,
            }
            | facts,
        )

    def _classes_owned(self) -> np.ndarray:
        """(clients, classes) how many images of each class a client has."""
        labels, classes = self.images.train_labels, len(self.images.classes)
        return np.array([np.bincount(labels[rows], minlength=classes) for rows in self.owned])

    def _per_class(self) -> dict[str, float]:
        """The accuracy on each class that has test images; empty if there are several models."""
        if self.weights.dim() > 1:
            return {}
        tests = self.images.test_labels
        right = self.task.predictions(self.weights).cpu().numpy() == tests
        return scores.per_class(tests, right, self.images.classes)

    def learned(self) -> tuple[float, float, float]:
        """Loss on the clients' images before and after training, and the gain over guessing.

        Losses are mean cross-entropies (nats); the last value is cautions.beyond_guessing. With
        several models, the current values are means.
        """
        rows = np.concatenate(self.owned)
        models = self.weights if self.weights.dim() > 1 else self.weights[None]
        now = np.mean([self.task.learned(weights, rows) for weights in models], 0)
        return self.task.learned(self.start, rows)[0], float(now[0]), float(now[1])

    def doubts(self, tests: np.ndarray, classes: tuple[str, ...]) -> list[str]:
        """Warnings about too few images and about the initial model. tests (m,) true labels."""
        labels = self.images.train_labels[np.concatenate(self.owned)]
        own = [
            *cautions.too_few(labels, classes),
            *cautions.too_few(tests, classes, "test"),
            *scores.warnings(tests, classes),
        ]
        return own + [
            f"Of the initial model: {warning}" for warning in self.known if warning not in own
        ]

    def beside(self, tests: np.ndarray) -> dict[str, float]:
        """The accuracy of guessing, and balanced accuracy if classes are unbalanced.

        tests (m,) true labels; with several models, the mean.
        """
        models = self.weights if self.weights.dim() > 1 else self.weights[None]
        found = [
            scores.beside(tests, self.task.predictions(weights).cpu().numpy()) for weights in models
        ]
        return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


class _Nothing(_Arm):
    """The initial model without updates."""

    def measured(self, number: int) -> dict[str, float]:
        """The accuracy before the first round."""
        return {
            "test_accuracy": (
                self.curves["test_accuracy"][0][1]
                if self.curves
                else self.task.accuracy(self.weights)
            )
        }


class _Centralised(_Arm):
    """All images, the company's and the clients', in one place."""

    def begin(self) -> None:
        """Set up a single client that has all the images."""
        company, _ = self.study.split(len(self.images.train_images))
        self.everything = self.clients([np.concatenate([company, *self.owned])], CENTRAL_BATCH)

    def round(self) -> None:
        """Take as many passes as a client takes over its own images."""
        self.weights = self.weights - self.rate * self.everything.accumulated(self.weights, [0])[0]

    def more(self) -> tuple[dict, dict, dict]:
        """The bytes that sending all images would take."""
        return {"bytes": self.bytes_of_images()}, {}, {}


class _Alone(_Arm):
    """Some of the clients, each training a model of its own without sharing."""

    def begin(self) -> None:
        """Give each of them the same initial model."""
        self.count = min(ALONE, self.study.clients)
        self.each = self.clients(self.owned[: self.count], self.study.batch_size)
        self.weights = self.weights.expand(self.count, -1).clone()

    def round(self) -> None:
        """Train all of them."""
        self.weights = self.weights - self.rate * self.each.accumulated(
            self.weights, list(range(self.count))
        )

    def measured(self, number: int) -> dict[str, float]:
        """The mean, worst and best accuracy, in some of the rounds."""
        if number not in np.unique(np.linspace(0, self.study.rounds, ALONE_POINTS).round()):
            return {}
        found = [
            self.task.accuracy(weights)
            for weights in (self.weights if number else self.weights[:1])
        ]
        return {"test_accuracy": float(np.mean(found)), "worst": min(found), "best": max(found)}

    def more(self) -> tuple[dict, dict, dict]:
        """The number of clients trained, and how far apart they are."""
        return (
            {
                "clients_trained": self.count,
                "worst": self.curves["worst"][-1][1],
                "best": self.curves["best"][-1][1],
            },
            {},
            {},
        )


class _Shared(_Arm):
    """Clients that share gradients through a server."""

    def begin(self) -> None:
        """Set up the server, before any upload."""
        from engine.studies.gradient_sharing import federation

        self.federation = federation.Federation(
            self.plan, self.clients(self.owned, self.study.batch_size), self.weights
        )
        self.sent: list[np.ndarray] = []  # of each round, (clients,)
        self.bytes = 0

    def round(self) -> None:
        """Let all clients train and upload."""
        self.said = self.federation.round()
        self.weights = self.federation.weights
        self.sent.append(self.said)
        self.bytes += int(self.said.clip(min=0).sum())

    def measured(self, number: int) -> dict[str, float]:
        """Accuracy, bytes so far, ε so far, and what the first clients have sent."""
        found = {"test_accuracy": self.task.accuracy(self.weights), "bytes": self.bytes}
        if self.plan.noise_multiplier:
            found["epsilon"] = self.study.spent(number)
        # limits the number of events that a viewer who joins late has to catch up with
        told = (
            number
            and number % max(1, self.study.rounds // SHOWN_ROUNDS) == 0
            or number == self.study.rounds
        )
        return found | (
            {f"client {i}": said for i, said in enumerate(self.said[:SHOWN_CLIENTS])}
            if told
            else {}
        )

    def more(self) -> tuple[dict, dict, dict]:
        """Bytes, uploads, and refusals."""
        from engine.studies.gradient_sharing.federation import DROPPED, NOT_ASKED, REFUSED

        sent = np.array(self.sent)  # (rounds, clients)
        uploads = int((sent > 0).sum())
        # refused because of what was learned, not because the client is faulty
        honest = (sent == REFUSED)[:, 1 if self.study.faulty != "none" else 0 :]
        metrics = {
            "refused_honest": int(honest.sum()),
            "bytes": self.bytes,
            "bytes_a_day": self.bytes / self.study.rounds,
            "bytes_an_upload": float(sent[sent > 0].mean()) if uploads else 0.0,
            "uploads": uploads,
            "refused": int((sent == REFUSED).sum()),
            "dropped": int((sent == DROPPED).sum()),
            "not_asked": int((sent == NOT_ASKED).sum()),
            "noise_multiplier": self.plan.noise_multiplier,
            "clip": self.plan.max_grad_norm or 0.0,
        }
        return metrics, {"sent": sent}, {}
