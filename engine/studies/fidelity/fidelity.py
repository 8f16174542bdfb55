"""Study `fidelity`: how far a set of images is from real ones, and whether it copies them.

It computes every metric of engine/evaluation/metrics.py, beside the distances to held-out images.
Report 4 (Faber; see docs/fidelity.md) is the source. The set may come from a generator, from the
user's own folder, or from the controls (CONTROLS), whose answer is known; without them no such
number can be interpreted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engine.core.parameters import parameter
from engine.core.study import Phase, Refused, Result, Study
from engine.datasets import imaging, registry
from engine.evaluation import cautions
from engine.studies import guarantees
from engine.studies.fidelity.dp_merf import DPMERF, MERFSettings
from engine.studies.fidelity.drawing import GeneratorStudy
from engine.studies.fidelity.gan import GAN, NOT_COVERED, GANSettings
from engine.studies.fidelity.real_features import SECONDS

if TYPE_CHECKING:
    from engine.attacks.memorization import Copies

# name shown → source, private
GENERATORS = {
    "GAN without privacy": ("gan", False),
    "private GAN": ("gan", True),
    "private DP-MERF": ("dp_merf", True),
}
TRAINED = ("gan", "dp_merf")
CONTROLS = {
    "held-out": "unseen real images",
    "copies": "exact copies",
    "noised": "noised copies",
    "untrained": "untrained generator",
}
# Standard deviation of the noise on noised copies, as a share of the pixel range.
NOISED = 0.1
# maximum number of training images that sets are compared with; copies are searched among all that
# were used in training
REFERENCES = 10_000
SEARCHED = 60_000  # maximum number of training images searched for copies
MOST_YARDSTICK = 2000  # maximum number of held-out images whose own ratios are the reference
# A training image comes back if a ratio is below AGAIN times the 1 % quantile of the ratios of
# unseen images. The margin is needed because data sets contain duplicates.
AGAIN, UNSEEN_BELOW = 1 / 3, 0.01
# The test is not trusted if nearly all unseen images, duplicates aside, are at least this many
# times as far from the training images as from each other.
NEVER_SO_FAR = 10.0
# shares of training images that come back: the minimum for exact copies, the maximum for unseen
# images; otherwise no verdict is given
ALL_FOUND, NONE_FOUND = 0.9, 0.1
FOUND = 12  # images in the memorization finder
LEAST_HELD_OUT = 20


class FidelitySettings(GANSettings, MERFSettings):
    """The parameters of all sets of images on page Fidelity."""

    source: str = parameter(
        "Which images",
        "gan",
        pattern=r"^(gan|dp_merf|held-out|copies|noised|untrained|folder:[A-Za-z0-9_-]{1,64})$",
        help="one of "
        + ", ".join((*TRAINED, *CONTROLS))
        + ", or folder:NAME for images of your own",
    )

    def check(self, shown) -> None:
        """Raise Refused if the parameters do not fit the data set."""
        for generator in self.generators().values():
            generator.check(shown)
        if len(shown.test_images) < LEAST_HELD_OUT:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; it has {len(shown.test_images)} held-out"
                f" images, and fewer than {LEAST_HELD_OUT} are no yardstick for copies",
            )

    def generator(self) -> GeneratorStudy:
        """The training that makes these images."""
        return self.gan() if self.source == "gan" else self.dp_merf()

    def of(self, source: str, private: bool = True) -> Fidelity:
        """The study that measures one set.

        Parameters that have no effect go back to their defaults, so that a set is measured only
        once.
        """
        values = {name: getattr(self, name) for name in FidelitySettings.model_fields} | {
            "source": source,
            "private": private,
        }
        if source in TRAINED:
            trained = Fidelity(**values).generator()
            matters = {name: getattr(trained, name) for name in type(trained).model_fields}
        else:
            used = ("dataset", "size", "colour", "examples", "samples", "seed") + (
                ("latent", "generator_width", "labelled") if source == "untrained" else ()
            )
            matters = {name: values[name] for name in used}
        return Fidelity(**matters | {"source": source, "extractor": self.extractor})

    def table(self) -> dict[str, Fidelity]:
        """All sets compared: generators with and without privacy, and the controls."""
        return {words: self.of(*made) for words, made in GENERATORS.items()} | {
            words: self.of(name) for name, words in CONTROLS.items()
        }

    def generators(self) -> dict[str, GeneratorStudy]:
        """The trainings of the generators in the table."""
        return {words: self.of(*made).generator() for words, made in GENERATORS.items()}


class Fidelity(FidelitySettings):
    """Measure one set of images against the real ones."""

    NAME, VERSION = "fidelity", 8
    TITLE = "How far images are from real ones, and whether they copy"
    PRESETS = {
        "quick": {},
        "tiny": GAN.PRESETS["tiny"] | DPMERF.PRESETS["tiny"],
        "few": {"examples": 50},
        "fashion": {"dataset": "fashion-mnist"},
        "report": GAN.PRESETS["report"] | {"extractor": "inception64"},
    }
    SERIES = {"table": "generators with and without privacy, and all controls"}

    def needs(self) -> tuple[Study, ...]:
        """The generator, if there is one, and the features of the real images."""
        return ((self.generator(),) if self.source in TRAINED else ()) + (self.real(),)

    def reads(self) -> dict[str, str]:
        """The folder's fingerprint, if the images come from one."""
        return (
            {"source": registry.fingerprint(self.source)}
            if self.source.startswith("folder:")
            else {}
        )

    def work(self) -> float:
        """Seconds on two cores, without the generator's training.

        The images that the extractor sees (the set, and both sides of report 4's faulty
        computation), and the search for copies.
        """
        shown = registry.preview(self.dataset)
        searched = (
            min(SEARCHED, self.count(shown))
            * (self.samples + min(MOST_YARDSTICK, len(shown.test_images)))
            * float(self.side**2)
        )
        return 0.5 + (SECONDS[self.extractor] + 0.0002) * 5 * self.samples + 2.5e-11 * searched

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.extractor}"

    def typical(self) -> float:
        """Seconds on two cores, without the generator's training."""
        return self.work()

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield what is being measured; return all metrics and nearest neighbours.

        The neighbours are each image's nearest training and held-out images.
        """
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        real = yield from lab.need(self.real())
        made, promise, known = yield from self._images(lab, images)
        extract = yield from self.feature_extractor(lab)
        yield Phase("looking at the images", 1, 4)
        measuring = Measuring(self, images, real, made, extract(made), extract)
        metrics, warnings = measuring.distances()
        yield Phase("looking for copies", 2, 4)
        found, sheets, arrays = measuring.copies()
        yield Phase("making the report's mistake", 3, 4)
        warnings += [
            *blind(found),
            *(registry.everything(self.source)[1] if self.source.startswith("folder:") else ()),
        ]
        # A generator's own result has these warnings already.
        if self.source not in TRAINED:
            for count, part in (
                (len(images.train_labels), "training"),
                (len(images.test_labels), "held-out"),
            ):
                warnings += cautions.few(count, f"{part} images", "to compare with")
        metrics |= found | measuring.as_published()
        return Result(
            metrics=metrics,
            guarantee=promise,
            arrays=arrays,
            images=sheets | {"sample": imaging.png(imaging.gallery(made[:64], 8))},
            facts={
                "extractor": self.extractor,
                "warnings": known + warnings,
                "source": self.source,
            },
        )

    def _images(self, lab, images):
        """The set (n, side, side, c) uint8, its guarantee, and warnings about how it was made."""
        if self.source in TRAINED:
            trained = yield from lab.need(self.generator())
            promise = replace(trained.guarantee, also_released=NOT_COVERED)
            return trained.arrays["images"], promise, trained.warnings
        yield Phase("gathering the images")
        if self.source == "untrained":
            return self._untrained(images, lab.device), UNSEEN, []
        if self.source.startswith("folder:"):
            return (
                self._folder(lab),
                replace(
                    NOTHING,
                    mechanism="none known: images from a folder",
                    note=(
                        "Nothing is known here of how these images were made, so nothing is"
                        " promised."
                    ),
                ),
                [],
            )
        return self._real(images), replace(NOTHING, mechanism=f"none: {CONTROLS[self.source]}"), []

    def _real(self, images) -> np.ndarray:
        """Held-out images, or copies of training images."""
        draws = np.random.default_rng(self.seed)
        if self.source == "held-out":
            return self.canvas(
                images.test_images[draws.permutation(len(images.test_images))[: self.samples]]
            )
        # repeated if there are few, as a generator would
        learned = self.learned(images)
        copies = self.canvas(
            images.train_images[
                draws.choice(learned, self.samples, replace=len(learned) < self.samples)
            ]
        )
        if self.source == "copies":
            return copies
        return (
            (copies + draws.normal(0, 255 * NOISED, copies.shape))
            .clip(0, 255)
            .round()
            .astype(np.uint8)
        )

    def _untrained(self, images, device) -> np.ndarray:
        """Images of the GAN's generator before its first step."""
        import torch

        from engine.core.streams import derive_seed
        from engine.learning import networks
        from engine.studies.fidelity.generator import as_bytes

        channels = 1 if self.colour == "grey" else images.test_images.shape[3]
        conditions = len(images.classes) if self.labelled else 0
        generator, _ = networks.dcgan(
            self.usual("generator_width"),
            self.usual("generator_width"),
            channels,
            self.side,
            self.latent + conditions,
            1,
            derive_seed("init", self.seed),
        )
        noise = torch.randn(
            self.samples, self.latent, generator=torch.Generator().manual_seed(self.seed)
        )
        labels = (
            torch.eye(conditions)[torch.arange(self.samples) % conditions]
            if conditions
            else noise[:, :0]
        )
        with torch.no_grad():
            return np.concatenate(
                [
                    as_bytes(generator.to(device)(part.to(device)))
                    for part in torch.cat([noise, labels], 1).split(500)
                ]
            )

    def _folder(self, lab) -> np.ndarray:
        """All images of the user's folder, including duplicates: a generator may have made them."""
        both, real = (
            registry.everything(self.source)[0][: self.samples],
            registry.load(self.dataset).test_images,
        )
        if self.colour == "kept" and both.shape[3] != real.shape[3]:
            raise Refused(
                "colour",
                f"colour: kept is not allowed; the images of {self.source} have {both.shape[3]}"
                f" channel{'s' if both.shape[3] > 1 else ''}, those of {self.dataset}"
                f" {real.shape[3]}; compare them in grey",
            )
        if len(both) < 2:
            raise Refused(
                "source",
                f"source: {self.source} is not allowed; it holds {len(both)} image, and fewer"
                " than 2 have no spread to compare",
            )
        return self.canvas(both)


class Measuring:
    """A set of images with its features, and the real images with theirs."""

    def __init__(
        self, study: Fidelity, images, real: Result, made: np.ndarray, features: np.ndarray, extract
    ):
        learned = study.learned(images)
        self.study, self.made, self.features, self.extract = study, made, features, extract
        self.references = real.arrays["train"][:REFERENCES]
        self.train = {
            "features": real.arrays["train"][: len(learned)],
            "images": study.canvas(images.train_images[learned[:SEARCHED]]),
        }
        self.held = {
            "features": real.arrays["held"],
            "images": study.canvas(images.test_images[real.arrays["held_order"]]),
        }
        self.population, self.learned = (
            study.canvas(images.train_images[real.arrays["order"][: len(made)]]),
            len(learned),
        )

    def distances(self) -> tuple[dict[str, float], list[str]]:
        """All distances between the two sets of features, and warnings about them."""
        from engine.evaluation import metrics

        n, d = self.features.shape
        frechet = metrics.frechet_distance(
            metrics.moments(self.references), metrics.moments(self.features)
        )
        covered = (
            metrics.precision_and_recall(
                self.references[: max(n, 2 * metrics.NEIGHBOURS)], self.features
            )
            if min(n, len(self.references)) > metrics.NEIGHBOURS
            else None
        )
        found = {
            "frechet_distance": frechet,
            "kernel_distance": metrics.kernel_distance(self.references, self.features),
            "images": n,
            "dimensions": d,
            "references": len(self.references),
        }
        found |= {"precision": covered.precision, "recall": covered.recall} if covered else {}
        return found | self._memorised(), self._warnings(n, d)

    def _memorised(self) -> dict[str, float]:
        """Memorization-informed distances from the images used in training, all or a few."""
        from engine.evaluation import metrics

        try:
            train = self.train["features"]
            found = metrics.memorised(
                train,
                self.features,
                metrics.frechet_distance(metrics.moments(train), metrics.moments(self.features)),
            )
        # All features are zero, so there are no angles.
        except ValueError:
            return {}
        return {
            "mifid_torchmetrics": found.torchmetrics,
            "mifid_bai": found.bai,
            "cosine_real_to_made": found.torchmetrics_distance,
            "cosine_made_to_real": found.bai_distance,
        }

    def _warnings(self, n: int, d: int) -> list[str]:
        found = []
        if n <= d:
            found.append(
                f"{n:,} images are fewer than the {d:,} features, so their covariance is known in"
                " part only, and the Fréchet distance comes out too large. It still orders sets of"
                " the same size; the kernel distance and the distances to nearest images are"
                " valid as they are."
            )
        if np.ptp(self.made.reshape(len(self.made), -1), 0).max() == 0:
            found.append("All of these images are the same.")
        found += cautions.few(n, "images", "for any distance to say much")
        if n < self.study.samples:
            found.append(
                f"There are only {n:,} of these images, where {self.study.samples:,} were asked"
                " for: do not compare their distances with those of larger sets."
            )
        searched = min(len(self.train["images"]), len(self.train["features"]))
        if searched < self.learned:
            found.append(
                f"Copies are looked for among {searched:,} of the {self.learned:,} training"
                " images that were learned from."
            )
        return found

    # --- copies -----------------------------------------------------------------------------------

    def copies(self) -> tuple[dict[str, float], dict[str, bytes], dict[str, np.ndarray]]:
        """Shares of images that look like copies, by pixels and by features.

        Also sheets of the images that look most like copies, and the ratio of every image.
        """
        found: dict[str, float] = {}
        sheets: dict[str, bytes] = {}
        arrays: dict[str, np.ndarray] = {}
        for space in ("pixels", "features"):
            measures, sheet, copies = self._copies_by(space)
            found |= {f"{name}_{space}": value for name, value in measures.items()}
            sheets[f"nearest_{space}"] = sheet
            arrays |= {f"ratios_{space}": copies.ratios, f"yardstick_{space}": copies.yardstick}
        return found | {"learned": self.learned}, sheets, arrays

    def _copies_by(self, space: str) -> tuple[dict[str, float], bytes, Copies]:
        """The search for copies by pixels or by features: measures, the sheet, and the ratios."""
        from engine.attacks import memorization

        seen, train, held = (
            self._rows(space, part)
            for part in (
                {"features": self.features, "images": self.made},
                self.train,
                self.held,
            )
        )
        shown, others = self.made, self.held["images"]
        # one half against the other, to which it is unseen
        if self.study.source == "held-out":
            half = len(held) // 2
            seen, held = held[:half], held[half:]
            shown, others = others[:half], others[half:]
        copies = memorization.copies(seen, train, held, MOST_YARDSTICK)
        held = held[: copies.references]
        nearest, real = (
            memorization.nearest(seen, rows)[0].cpu().numpy() for rows in (train, held)
        )
        threshold = AGAIN * np.quantile(copies.yardstick, UNSEEN_BELOW)
        again = nearest[copies.ratios < threshold]
        measures = {
            "copies": copies.share,
            "ratio": copies.median,
            "threshold": copies.threshold,
            "again": len(np.unique(again)) if copies.conclusive else float("nan"),
            "distinct": len(np.unique(nearest)),
            "searched": len(train),
            "yardstick": len(copies.yardstick),
            "known": memorization.found_again(train[:MOST_YARDSTICK], held, threshold),
        }
        return measures, self._sheet(shown, nearest, others[real], copies.ratios), copies

    def _rows(self, space: str, part: dict[str, np.ndarray]):
        """(n, d) rows of images: features, or pixels normalised for brightness and contrast.

        Normalised because a pale copy is still a copy.
        """
        import torch

        if space == "features":
            return torch.tensor(part["features"])
        rows = torch.tensor(part["images"]).flatten(1).float().div_(255)
        rows -= rows.mean(1, keepdim=True)
        return rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(1e-6))

    def _sheet(
        self, made: np.ndarray, nearest: np.ndarray, held: np.ndarray, ratios: np.ndarray
    ) -> bytes:
        """PNG of the images that look most like copies, the closest first.

        Each group shows a generated image, its nearest training image and its nearest held-out
        image. The training images of the groups differ.
        """
        order = np.argsort(ratios, kind="stable")
        first = np.zeros(len(order), bool)
        first[np.unique(nearest[order], return_index=True)[1]] = True
        # repeat a training image only if there are no others
        rows = np.concatenate([order[first], order[~first]])[:FOUND]
        line = np.full((len(rows), made.shape[1], 1, made.shape[3]), 128, np.uint8)
        triples = np.concatenate(
            [made[rows], line, self.train["images"][nearest[rows]], line, held[rows]], 2
        )
        return imaging.png(imaging.gallery(triples, 2, gap=6), 2 * triples.shape[1] * FOUND // 2)

    # --- report 4's mistake -----------------------------------------------------------------------

    def as_published(self) -> dict[str, float]:
        """Report 4's two metrics, as its notebook computes them and corrected.

        Over equal numbers of real and generated images.
        """
        from engine.evaluation import metrics

        n = min(len(self.made), len(self.population))
        found: dict[str, float] = {"published_images": n}
        for name, change in (("published", wrapped), ("corrected", lambda images: images)):
            real, made = (
                self.extract(change(images[:n])) for images in (self.population, self.made)
            )
            frechet = metrics.frechet_distance(metrics.moments(real), metrics.moments(made))
            found[f"{name}_frechet_distance"] = frechet
            try:
                found[f"{name}_mifid"] = metrics.memorised(real, made, frechet).torchmetrics
            except ValueError:  # all features are zero
                continue
        return found


def blind(metrics: dict[str, float]) -> list[str]:
    """Warnings if the test for copies gives a wrong answer on images with a known answer."""
    spaces = {"pixels": "by pixels", "features": "by features"}
    missed = [
        f"The test for copies {by} cannot be trusted here: of exact copies of the images learned"
        f" from it finds {math.floor(100 * metrics[f'known_{space}'])} in 100, and should find all."
        " Images that stand in the training part and in the held-out part, or that all look"
        " alike, make it blind; no verdict on copies is given."
        for space, by in spaces.items()
        if metrics[f"known_{space}"] < ALL_FOUND
    ]
    # Unseen images are about as near to the training images as to each other, so few are much
    # nearer.
    wrong = [
        f"The test for copies {by} cannot be trusted here: nearly all unseen images are nearer to"
        " each other than to those learned from, as where each stands among them twice. So"
        " whatever is not one of them seems to be a copy; no verdict on copies is given."
        for space, by in spaces.items()
        if not metrics[f"threshold_{space}"] < NEVER_SO_FAR
    ]
    return missed + wrong


def doubt(copies: dict[str, float], unseen: dict[str, float]) -> str:
    """Why no verdict on copies can be given; empty if both controls give the right answer.

    From the metrics of exact copies and of unseen images.
    """
    again, distinct = copies["again_pixels"], copies["distinct_pixels"]
    # written so that NaN fails, too
    if not (again >= ALL_FOUND * distinct and copies["known_pixels"] >= ALL_FOUND):
        return (
            f"of exact copies, whose answer is known, only {again:,} of {distinct:,} are found,"
            " where all should be"
        )
    if not unseen["again_pixels"] <= NONE_FOUND * unseen["distinct_pixels"]:
        return (
            f"of unseen real images, whose answer is known, {unseen['again_pixels']:,} of"
            f" {unseen['distinct_pixels']:,} look like near-duplicates, where hardly any should"
        )
    return ""


def wrapped(images: np.ndarray) -> np.ndarray:
    """Images as report 4's metric saw them, uint8 → uint8.

    The pixels were scaled to [−1, 1] where [0, 1] is expected, multiplied by 255 and cast to a
    byte, so negative values wrap around.
    """
    return ((2 * images.astype(np.int64) - 255) % 256).astype(np.uint8)  # (u / 127.5 − 1) · 255


NOTHING = guarantees.nothing(
    "real images as they are",
    "Nothing is promised: these images stand here for comparison.",
    unit="one training image",
)
UNSEEN = replace(
    NOTHING,
    mechanism="none: a generator that has seen no image",
    note="It has learned nothing of anyone. Nothing is released of the data.",
)
