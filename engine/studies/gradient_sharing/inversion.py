"""Study `inversion`: reconstruct an image from the gradients that a client would upload.

The attack is that of Geiping et al. 2020, as the server that receives the upload could run it. The
client has this one image and takes one step; its upload is selected, clipped and noised as the
parameters say. An image uploaded by a visitor is part of the study's parameters and is never
stored.
"""

from __future__ import annotations

import base64

import numpy as np
from pydantic import Field

from engine.core import parameters
from engine.core.errors import Failed
from engine.core.lab import Lab
from engine.core.parameters import parameter
from engine.core.streams import derive_seed
from engine.core.study import Guarantee, Image, Phase, Point, Refused, Result, Study
from engine.datasets import imaging, registry, source
from engine.evaluation import cautions
from engine.studies import guarantees
from engine.studies.fidelity import RealFeatures
from engine.studies.gradient_sharing.initial_model import InitialModelSettings
from engine.studies.synthesis import Classifier, taught

STEPS = {"cnn": 2000, "features": 400}  # steps of one attempt
TRIES = {"cnn": 2, "features": 1}
# standard deviations of the noise above which the attacker takes a gradient as sent
ABOVE_NOISE = 3.0
# Maximum number of classes tried if the upload does not reveal the label.
WITHOUT_HINT = 10
FRAMES = 24  # frames of the film
SHOWN = 252  # side length in pixels of the images shown
DEFENCES: dict[str, dict[str, object]] = {
    "everything": {},
    "10 %": {"leak_fraction": 0.1},
    "1 %": {"leak_fraction": 0.01},
    "random 10 %": {"leak_fraction": 0.1, "leak_policy": "random"},
    "clipped": {"leak_clip": 0.1},
    "noise 0.001": {"leak_clip": 1.0, "leak_noise": 0.001},
    "noise 0.01": {"leak_clip": 1.0, "leak_noise": 0.01},
    "noise 0.1": {"leak_clip": 1.0, "leak_noise": 0.1},
}
DEFAULT_MAX_GRAD_NORM = 1.0
# facts about the upload that are metrics of the result
OF_UPLOAD = ("gradients", "sent", "bytes", "gradient_norm", "upload_norm", "noise_to_signal")
# studies whose warnings are passed on, with the name used in them
OF_NEEDS = {"classifier": "the network that classifies", "initial_model": "the initial model"}


class Inversion(InitialModelSettings):
    """Attack one upload; return the reconstruction step by step and its similarity to the image."""

    NAME, VERSION = "inversion", 5
    TITLE = "An image rebuilt from gradients"
    PRESETS = {"quick": {}, "tiny": {"attack_steps": 60, "restarts": 1, "company_share": 0.0}}
    SERIES = {"defences": "the same image under the usual ways to share less"}

    category: int = parameter(
        "Class", 3, low=0, high=299, help="Class of the image, counted from 0."
    )
    index: int = parameter(
        "Index", 0, low=0, high=99_999, help="Number of the image in its class, counted from 0."
    )
    model: str = parameter(
        "Model attacked",
        "untrained",
        choices={"untrained": "untrained", "initial": "initial model"},
        pattern="^(untrained|initial)$",
        help=(
            "The model whose gradients are uploaded. A trained model has small gradients on most"
            " images, and they reveal less."
        ),
    )
    layers: str = parameter(
        "Layers uploaded",
        "all",
        choices={"all": "all layers", "last": "the last layer"},
        pattern="^(all|last)$",
        help="For the small CNN.",
    )
    leak_policy: str = parameter(
        "Which gradients of the upload",
        "largest",
        choices={
            "largest": "the largest",
            "random": "random ones",
            "threshold": "above a threshold",
        },
        pattern="^(largest|random|threshold)$",
        help="Of this one upload.",
    )
    leak_fraction: float = parameter(
        "Share of the gradients uploaded",
        1.0,
        low=0.0001,
        high=1.0,
        unit="fraction",
        scale="log",
        ends=("share less", "share all"),
        help="Share of the gradients in this one upload.",
    )
    leak_threshold: float = parameter(
        "Threshold of the upload",
        0.01,
        low=0.0,
        high=1e6,
        scale="log",
        help="For *above a threshold*: a gradient is sent if its magnitude is larger.",
    )
    leak_clip: float | None = parameter(
        "Clip norm of the upload",
        None,
        low=1e-4,
        high=1e4,
        scale="log",
        help="Largest norm of this upload. Empty: no clipping, and 1 with noise.",
    )
    leak_noise: float = parameter(
        "Noise on the upload, σ",
        0.0,
        low=0.0,
        high=2000.0,
        scale="log",
        ends=("no noise", "more private"),
        help=(
            "Gaussian noise on each gradient, in units of the clip norm, added before the upload"
            " leaves the client."
        ),
    )
    delta: float = parameters.delta(1e-5)
    attack_steps: int | None = parameter(
        "Attacker's steps",
        None,
        low=10,
        high=20_000,
        scale="log",
        help="Steps of each attempt. Empty: the usual.",
    )
    restarts: int | None = parameter(
        "Attacker's attempts",
        None,
        low=1,
        high=10,
        help="Each starts from other noise; the one that fits best counts. Empty: the usual.",
    )
    smoothness: float = parameter(
        "Smoothness",
        0.01,
        low=0.0,
        high=10.0,
        scale="log",
        help="How strongly the attacker prefers smooth images: the weight of total variation.",
    )
    # a visitor's own image as base64-encoded pixels; not for URLs or the command line
    image: str = Field(default="", max_length=100_000)

    # --- the image attacked -----------------------------------------------------------------------

    def with_image(self, image: np.ndarray) -> Inversion:
        """The same attack on a visitor's own image.

        image: (h, w, c) uint8, in the format of the data set.
        """
        return self.model_copy(
            update={"image": base64.b64encode(image.tobytes()).decode(), "index": 0}
        )

    def stored(self) -> bool:
        """False if the study contains a visitor's own image."""
        return not self.image

    def fitting(self, shown) -> dict:
        """Also limit the class and the index to what the data set has."""
        category = source.tested_class(shown, self.category)
        found = {
            "category": category,
            "index": min(self.index, int((shown.test_labels == category).sum()) - 1),
        }
        return super().fitting(shown) | {
            name: value for name, value in found.items() if value != getattr(self, name)
        }

    def pick(self, images) -> tuple[np.ndarray, int]:
        """The image (h, w, c) uint8 and its label.

        Raises Refused if the class has no such image.
        """
        if self.category >= len(images.classes):
            raise Refused(
                "category",
                f"category: {self.category} is not allowed; {self.dataset} has the classes 0 to"
                f" {len(images.classes) - 1}",
            )
        if self.image:
            shape = images.test_images.shape[1:]
            pixels = np.frombuffer(base64.b64decode(self.image), np.uint8)
            if pixels.size != np.prod(shape):
                raise Refused(
                    "dataset",
                    f"dataset: {self.dataset} is not allowed with this image; it has another"
                    " format",
                )
            return pixels.reshape(shape), self.category
        rows = np.flatnonzero(images.test_labels == self.category)
        if not len(rows):
            raise Refused(
                "category",
                f"category: {self.category} is not allowed; {self.dataset} has no test image of"
                f" class {images.classes[self.category]}",
            )
        if self.index >= len(rows):
            raise Refused(
                "index",
                f"index: {self.index} is not allowed; class {images.classes[self.category]} of"
                f" {self.dataset} has the images 0 to {len(rows) - 1}",
            )
        return images.test_images[rows[self.index]], self.category

    def shown(self, images) -> bytes:
        """PNG of the true image."""
        return imaging.png(self.pick(images)[0], SHOWN)

    # --- needed studies ---------------------------------------------------------------------------

    def classifier(self) -> Classifier:
        """The network that classifies the reconstruction, trained on all training images.

        It is not part of the attack.
        """
        return RealFeatures(dataset=self.dataset).classifier(
            registry.preview(self.dataset).train_size
        )

    def needs(self) -> tuple:
        """The classifier, and the initial model if that is attacked.

        With a backbone, only the scale of its features is used, which comes from the company's
        images.
        """
        return (
            (self.classifier(),)
            + ((self.initial(),) if self.model == "initial" else ())
            + super().needs()
        )

    def usual(self, name: str) -> int:
        """The number of steps or attempts: the chosen one, or the usual one."""
        chosen = {"attack_steps": self.attack_steps, "restarts": self.restarts}[name]
        return (
            {"attack_steps": STEPS, "restarts": TRIES}[name]["features" if self.backbone else "cnn"]
            if chosen is None
            else chosen
        )

    def work(self) -> float:
        """Steps, weighted by the pixels processed."""
        return (
            self.usual("attack_steps")
            * self.usual("restarts")
            * (20.0 if self.backbone else registry.preview(self.dataset).test_images[0].size / 784)
        )

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{'features' if self.backbone else 'cnn'}"

    def typical(self) -> float:
        """Seconds on two cores, without the studies it needs."""
        return 3.5e-3 * self.work()

    @property
    def clip(self) -> float | None:
        """The clip norm (max_grad_norm) of the upload; None without clipping."""
        return (
            DEFAULT_MAX_GRAD_NORM if self.leak_clip is None and self.leak_noise else self.leak_clip
        )

    def derived(self) -> dict:
        """The clip norm, the attacker's effort, and the rate of the attacked model if trained."""
        trained = super().derived() if self.model == "initial" else {}
        efforts = {name: self.usual(name) for name in ("attack_steps", "restarts")}
        return trained | efforts | {"leak_clip": self.clip}

    def defences(self) -> dict[str, Inversion]:
        """The same image under the usual ways to share less."""
        plain: dict[str, object] = {
            "leak_policy": "largest",
            "leak_fraction": 1.0,
            "leak_clip": None,
            "leak_noise": 0.0,
        }
        return {name: self.model_copy(update=plain | changes) for name, changes in DEFENCES.items()}

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield the reconstruction as it develops; return it with the true image."""
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        image, label = self.pick(images)
        # the classifier was trained on all of them
        warnings = cautions.of(images)
        for need in self.needs():
            found = yield from _retold(need, lab)
            if who := OF_NEEDS.get(need.NAME):
                said = [warning for warning in found.warnings if warning not in warnings]
                warnings += [f"Of {who}: {warning}" for warning in said]
        # The order of sums changes where an attempt ends, so one thread is used: results are then
        # the same on machines of the same kind, whatever their number of cores.
        alone = Lab(lab.store, threads=1)
        classifier = yield from self._classifier(alone, images)
        yield Phase("computing what the client uploads")
        leak, facts = yield from self._leak(alone, images, image, label)
        attack = _Attack(
            self, leak, facts | {"warnings": warnings}, image, images.classes, classifier
        )
        yield from attack.all()
        return attack.result()

    def _classifier(self, lab, images):
        """The classifier as a function: (n, h, w, c) uint8 → (n, classes) probabilities."""
        import torch

        from engine.learning import supervised

        study, (h, _, channels) = self.classifier(), images.test_images.shape[1:]
        network, scale = taught(study, (yield from lab.need(study)), channels, h, lab.device)
        return lambda pixels: (
            supervised.outputs(network, torch.tensor(pixels).to(lab.device), scale)
            .softmax(1)
            .cpu()
            .numpy()
        )

    def _leak(self, lab, images, image: np.ndarray, label: int):
        """What the attacker holds, and some facts about it.

        Noise on the upload is drawn by engine.privacy.noise.
        """
        import torch

        from engine.attacks import gradient_inversion
        from engine.studies.gradient_sharing import wire

        network, shared = yield from self._model(lab, images)
        blank = gradient_inversion.Leak(network, shared, torch.empty(0), torch.empty(0))
        true = torch.tensor(image, device=lab.device).permute(2, 0, 1)[None] / 255
        gradient = blank.gradient(true, torch.tensor([label], device=lab.device)).detach()
        n, known = len(gradient), self._public_positions(len(gradient), lab.device)
        exact, sent = self._selected(gradient, known)
        upload, sent = self._noised(exact, sent, known) if self.leak_noise else (exact, sent)
        message = wire.pack(upload.cpu().numpy(), sent.cpu().numpy(), known is not None)
        noise = self.leak_noise * (self.clip or 0.0) * int(sent.sum()) ** 0.5
        facts = {
            "gradients": n,
            "sent": int(sent.sum()),
            "bytes": len(message),
            "gradient_norm": float(gradient.norm()),
            "upload_norm": float(upload.norm()),
            "noise_to_signal": noise / max(float(exact.norm()), 1e-12),
        }
        read = torch.from_numpy(
            wire.unpack(message, n, None if known is None else known.cpu().numpy())
        ).to(upload)
        kept = sent if known is not None or not self.leak_noise else self._signal(read)
        return gradient_inversion.Leak(network, shared, read * kept, kept), facts

    def _public_positions(self, n: int, device):
        """(n,) bool: the gradients that everybody knows to be sent; None if the policy has none."""
        import torch

        from engine.studies.gradient_sharing import federation

        if self.leak_policy != "random":
            return None
        public = torch.Generator().manual_seed(self.derive_seed("public"))
        return federation.public_positions(n, self.leak_fraction, public).to(device)

    def _selected(self, gradient, known):
        """The upload before the noise, (n,), clipped, and which of it is sent, (n,) bool.

        Raises Failed if nothing is.
        """
        from engine.studies.gradient_sharing import federation

        chosen = federation.selected(
            gradient[None], self.leak_policy, self.leak_fraction, self.leak_threshold, known
        )
        if not bool(chosen.any()):
            raise Failed(
                "Nothing is above this threshold, so nothing is uploaded, and there is nothing to"
                " rebuild an image from. Take a smaller threshold."
            )
        return federation.clipped(gradient[None] * chosen, self.clip)[0], chosen[0]

    def _noised(self, upload, sent, known):
        """The upload with noise, (n,), and which of it is sent: all, unless positions are public.

        The noise comes from engine.privacy.noise. Which gradients were selected would otherwise
        tell something that no noise covers.
        """
        import torch

        from engine.privacy.noise import GaussianNoise

        sent = sent if known is not None else torch.ones_like(sent)
        assert self.clip is not None  # the noise is in units of it
        noise = GaussianNoise(self.derive_seed("noise"), upload.device)
        noised = noise.added_to(upload, self.leak_noise * self.clip).to(upload.dtype)
        return torch.where(sent, noised, upload), sent

    def _signal(self, read):
        """(n,) bool: gradients of a noised upload that the attacker takes to be more than noise.

        Such an upload contains all gradients. The attacker applies the policy, which is public.
        """
        from engine.studies.gradient_sharing import federation

        assert self.clip is not None  # as in _noised
        threshold = max(self.leak_threshold, ABOVE_NOISE * self.leak_noise * self.clip)
        kept = federation.selected(read[None], self.leak_policy, self.leak_fraction, threshold)[0]
        return kept if bool(kept.any()) else read != 0

    def _model(self, lab, images):
        """The network as the attacker can run it, and the parameters whose gradients are uploaded.

        The network maps (1, c, h, w) in [0, 1] to logits.
        """
        import torch

        from engine.learning import feature_extractors

        task = yield from self.task(lab, images)
        if self.model == "initial":
            first = yield from lab.need(self.initial())
            torch.nn.utils.vector_to_parameters(
                torch.from_numpy(first.arrays["weights"]).to(lab.device), task.network.parameters()
            )
        if self.backbone is None:
            shared = list(task.network.parameters())[-2 if self.layers == "last" else 0 :]
            return lambda x: task.network(x * 2 - 1), shared
        extract = feature_extractors.backbone(self.network, lab.device)
        return lambda x: task.network(task.prepare(extract(x.expand(-1, 3, -1, -1) * 255))), list(
            task.network.parameters()
        )

    # --- the guarantee ----------------------------------------------------------------------------

    def guarantee(self) -> Guarantee:
        """The guarantee that this one upload gives the image and its label."""
        unit = "the one image at the client, with its label"
        if not self.leak_noise:
            return guarantees.nothing(
                "the gradients are sent as they are",
                "Sending fewer gradients, or shorter ones, promises nothing. That one attack"
                " fails does not mean that all do.",
                unit=unit,
                steps=1,
            )
        return guarantees.gaussian(
            # replacing the image moves the clipped upload by up to two clip norms
            self.leak_noise / 2,
            self.delta,
            unit=unit,
            words=(
                f"the upload shortened to {self.clip:g}, and Gaussian noise of {self.leak_noise:g}"
                " times that on each gradient sent, once"
            ),
            sampling="none: one upload",
            neighbours="the image and its label replaced by any others",
            against="everyone who sees this upload, the server included",
            note=(
                "For a single upload; every further one adds to it. A simulation: the seed is"
                " known. That one attack fails says less than this number: another may succeed."
            ),
        )


def _retold(need: Study, lab):
    """A needed study's Result, with its phases in this page's words.

    Its own phases are worded for another page.
    """
    run, title = lab.need(need), type(need).TITLE
    while True:
        try:
            event = next(run)
        except StopIteration as end:
            return end.value
        told = isinstance(event, Phase)
        name = f"training what is needed: {title[0].lower()}{title[1:]}"
        yield Phase(name, event.done, event.total) if told else event


class _Attack:
    """The attempts, one after the other, and what is kept of them."""

    def __init__(
        self,
        study: Inversion,
        leak,
        facts: dict,
        image: np.ndarray,
        classes: tuple[str, ...],
        classifier,
    ):
        from engine.attacks import gradient_inversion

        self.study, self.leak, self.facts, self.image, self.classes, self.classifier = (
            study,
            leak,
            facts,
            image,
            classes,
            classifier,
        )
        self.ranked = gradient_inversion.labels_of(
            leak.upload, leak.kept, len(classes), leak.shared[-2].shape[1]
        )
        self.guessed = self.ranked[0] if self.ranked else None
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.films: list[list[tuple[int, bytes]]] = []
        self.best: np.ndarray | None = None  # None before the first attempt has ended
        self.loss, self.which = float("inf"), 0

    def all(self):
        """Run every attempt."""
        import torch

        from engine.attacks import gradient_inversion

        study = self.study
        steps, restarts = study.usual("attack_steps"), study.usual("restarts")
        # without a hint of the label, try one class after the other
        labels = (
            [self.ranked[0]] * restarts
            if self.ranked
            else list(range(min(WITHOUT_HINT, len(self.classes))))
        )
        restarts = len(labels)
        for number, label in enumerate(labels):
            draws = torch.Generator().manual_seed(derive_seed(f"attempt {number}", study.seed))
            attempt = gradient_inversion.Attempt(
                self.leak,
                label,
                (self.image.shape[2], *self.image.shape[:2]),
                steps,
                study.smoothness,
                draws,
            )
            frames = set(np.unique(np.geomspace(1, steps, FRAMES).round().astype(int)))
            self.films.append([])
            for step in range(1, steps + 1):
                apart = attempt.step()
                if step in frames:
                    yield from self._show(number * steps + step, step, apart, attempt)
                yield Phase("rebuilding", number * steps + step, restarts * steps)
            if self.best is None or attempt.loss < self.loss:
                self.best, self.loss, self.which = _pixels(attempt.best), attempt.loss, number

    def _show(self, at: int, step: int, apart: float, attempt):
        """Show the reconstruction after a step."""
        now = _pixels(attempt.image.detach())
        png = imaging.png(now, SHOWN)
        self.films[-1].append((step, png))
        for name, value in {
            "psnr_db": imaging.psnr(self.image, now),
            "ssim": imaging.ssim(self.image, now),
            "apart": apart,
        }.items():
            self.curves.setdefault(name, []).append((float(at), float(value)))
            yield Point(name, float(at), float(value))
        yield Image("rebuilt", png, f"attempt {len(self.films)}")

    @property
    def rebuilt(self) -> np.ndarray:
        """The reconstruction that fits the upload best, after at least one attempt."""
        assert self.best is not None
        return self.best

    def result(self) -> Result:
        """The attempt that fits the upload best, which is all that the attacker can go by."""
        study, said = self.study, self.classifier(np.stack([self.image, self.rebuilt]))
        true, rebuilt = (int(row.argmax()) for row in said)
        return Result(
            metrics={name: self.facts[name] for name in OF_UPLOAD}
            | self._similarity()
            | {
                "loss": self.loss,
                "restarts": len(self.films),
                "steps": study.usual("attack_steps"),
                "label_found": float(self.guessed == study.category),
                "named_the_same": float(true == rebuilt),
                "sureness": float(said[1, rebuilt]),
            },
            guarantee=study.guarantee(),
            curves=self.curves,
            arrays={"rebuilt": self.rebuilt},
            images=self._images(),
            facts={
                "classes": list(self.classes),
                "label": self.classes[study.category],
                "guessed": None if self.guessed is None else self.classes[self.guessed],
                "true_named": self.classes[true],
                "rebuilt_named": self.classes[rebuilt],
                "warnings": self.facts["warnings"],
            },
        )

    def _similarity(self) -> dict[str, float]:
        """How similar the best reconstruction is, and an image of a single colour at best."""
        flat = [
            np.broadcast_to(colour, self.image.shape)
            for colour in (self.image.mean((0, 1)).round().astype(np.uint8), np.uint8(0))
        ]
        return {
            "psnr_db": imaging.psnr(self.image, self.rebuilt),
            "ssim": imaging.ssim(self.image, self.rebuilt),
            "psnr_flat": max(imaging.psnr(self.image, each) for each in flat),
            "ssim_flat": max(imaging.ssim(self.image, each) for each in flat),
        }

    def _images(self) -> dict[str, bytes]:
        """PNGs of the true image, of the best reconstruction, and of the way to it."""
        best = imaging.png(self.rebuilt, SHOWN)
        film = {f"film_{step:06d}": png for step, png in self.films[self.which]}
        # end with the image that is measured: that of the best-fitting step
        film[max(film)] = best
        return {"true": imaging.png(self.image, SHOWN), "rebuilt": best} | film


def _pixels(image) -> np.ndarray:
    """(1, c, h, w) in [0, 1] → (h, w, c) uint8."""
    return (image[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
