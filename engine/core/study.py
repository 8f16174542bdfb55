"""The central idea of Veil: a Study is a value.

Defines Study, Event, Result, Guarantee and the key under which a Result is stored.

A Study's fields are exactly what can change its result. `run(lab)` is a generator: it yields Events
(points of curves, images, phases) and returns a Result, which is enough to draw the whole page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from engine.core import parameters
from engine.core.streams import Streams

if TYPE_CHECKING:
    from engine.core.lab import Lab

# --- what a study yields while it runs, and returns at the end ------------------------------------


@dataclass(frozen=True)
class Point:
    """One point of a curve; `curve` is its name, x and y are plain numbers."""

    curve: str
    x: float
    y: float


@dataclass(frozen=True)
class Image:
    """One image worth showing while the study runs, as PNG bytes."""

    name: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Phase:
    """Current activity and its progress; done and total share any one unit."""

    name: str
    done: float = 0.0
    total: float = 1.0


Event = Point | Image | Phase
EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in (Point, Image, Phase)}


@dataclass(frozen=True)
class Guarantee:
    """What is guaranteed, and for which unit.

    epsilon: None where nothing is guaranteed; `note` then says why.
    odds_mechanism: how often the best attacker on this mechanism guesses correctly whether (or
    which) one unit was in the data, with even prior odds.
    odds_any: the same for any mechanism that satisfies (epsilon, delta).
    odds_undrawn: the same if the steps had no noise, so that only the chance of not being sampled
    protects, while any additional release that uses all units keeps its noise; None without
    sampling.

    All odds are in [0.5, 1].
    """

    unit: str
    epsilon: float | None
    delta: float | None
    mechanism: str
    accountant: str
    sampling: str
    sample_rate: float | None
    steps: int | None
    note: str
    neighbours: str = ""
    against: str = ""
    also_released: str = ""
    odds_any: float | None = None
    odds_mechanism: float | None = None
    odds_undrawn: float | None = None


@dataclass(frozen=True)
class Result:
    """Plain numbers, arrays and PNG bytes: all that a page needs, even if it saw no event."""

    metrics: dict[str, float]
    guarantee: Guarantee
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # JSON values: sizes, names, warnings
    # filled in by the lab: seconds, device, versions, time
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What to know before trusting the numbers; pages and command line show all of it."""
        return list(self.facts.get("warnings", []))

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Split into a JSON-able dict and arrays, which is what the codec stores."""
        plain = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("arrays", "images", "guarantee")
        }
        images = {f"png:{name}": np.frombuffer(png, np.uint8) for name, png in self.images.items()}
        return plain | {"guarantee": asdict(self.guarantee)}, images | {
            f"array:{n}": a for n, a in self.arrays.items()
        }

    @classmethod
    def from_parts(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> Result:
        """Rebuild a Result: the inverse of parts."""
        kept = {name[6:]: a for name, a in arrays.items() if name.startswith("array:")}
        images = {name[4:]: a.tobytes() for name, a in arrays.items() if name.startswith("png:")}
        curves = {
            name: [tuple(point) for point in points] for name, points in plain["curves"].items()
        }
        rest = plain | {"guarantee": Guarantee(**plain["guarantee"]), "curves": curves}
        return cls(**rest, arrays=kept, images=images)


# --- the study itself -----------------------------------------------------------------------------


class Seeded(Protocol):
    """A study with a seed among its fields."""

    @property
    def seed(self) -> int:
        """The seed that fixes every random draw of a run."""

    def streams(self) -> Streams:
        """Return its random streams, as Study does."""

    def stream_name(self) -> str:
        """Return the name of the random streams, as Study does."""


class Study(BaseModel):
    """A frozen, keyword-only description of one computation; subclasses add fields and `run`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        revalidate_instances="never",
    )

    NAME: ClassVar[str]
    VERSION: ClassVar[int] = 1  # increased whenever the same fields would give another result
    TITLE: ClassVar[str] = ""
    # numpy only and under two seconds: starts without a button, in the web process
    INSTANT: ClassVar[bool] = False
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"quick": {}}
    # Fields that replace each other: setting one drops the preset's values of the others.
    EXCLUSIVE: ClassVar[tuple[str, ...]] = ()
    # For a large Result that many studies need: a training process keeps the last one in memory.
    REMEMBERED: ClassVar[bool] = False
    # In an ensemble: what a finished member is called, the phase in which it spends its time, and
    # whether its images are shown while it runs.
    DONE: ClassVar[str] = "computed"
    PHASE: ClassVar[str] = ""
    SHOWS: ClassVar[bool] = False
    # Methods that return several studies of this kind (label → study), and what each series shows.
    SERIES: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, values: Any) -> Any:
        """Convert numpy scalars: np.float64(1), np.int64(1) and 1 are the same value.

        Parameters of held studies may be given by their names alone.
        """
        if not isinstance(values, dict):
            return values
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        return parameters.nested(cls, plain)

    def values(self) -> dict[str, Any]:
        """Return the values of all parameters, by name, those of held studies included."""
        return parameters.values_of(self)

    def replace(self, **changes: Any) -> Self:
        """Return the same study with some parameters changed, validated."""
        return type(self)(**self.values() | changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Build the study from a preset, with some fields changed.

        Raises Refused for a wrong name or value.
        """
        if name not in cls.PRESETS:
            raise Refused(
                "preset",
                f"preset: {_short(name)} is not known for {cls.NAME}; it has"
                f" {', '.join(cls.PRESETS)}",
            )
        dropped = cls.EXCLUSIVE if set(cls.EXCLUSIVE) & set(changes) else ()
        return build(
            cls, {k: v for k, v in cls.PRESETS[name].items() if k not in dropped} | changes
        )

    def run(self, lab: Lab) -> Generator[Event, None, Result]:
        """Yield Events and return the Result."""
        raise TypeError(f"{type(self).__name__} does not say how it runs")

    def check(self, shown: Any) -> None:
        """Raise Refused, before anything is computed, if the settings do not fit the data set.

        shown: a preview of the data set.
        """

    def sample(self) -> bytes | None:
        """Return a PNG of what it learns from, to show before the first result."""
        return None

    def chance(self) -> float | None:
        """Return the accuracy of always predicting the most frequent class, if it classifies."""
        return None

    def work(self) -> float:
        """Return the amount of computation, in any unit proportional to its seconds.

        Used to estimate time; never part of the key.
        """
        return 1.0

    def kind(self) -> str:
        """Return the kind; studies of one kind take time in proportion to their work()."""
        return self.NAME

    def typical(self) -> float | None:
        """Return the seconds it takes on the two processor cores where Veil was measured, if known.

        Used as an estimate on a machine that has not run any study of this kind.
        """
        return None

    def needs(self) -> tuple[Study, ...]:
        """Return the studies that `run` requests from the lab, where the fields determine them.

        They enter the key, so a new version of one of them gives a new key.
        """
        return ()

    def idle(self) -> frozenset[str]:
        """Return the parameters that have no effect, given the values of the others.

        They do not enter the key, so equivalent settings share one result.
        """
        held = (getattr(self, name) for name in parameters.held(type(self)))
        return frozenset(name for study in held for name in study.idle())

    def settled(self) -> Self:
        """Return the same study with parameters that have no effect at their defaults."""
        known, values = parameters.specs(type(self)), self.values()
        changes = {n: known[n].default for n in self.idle() if values[n] != known[n].default}
        return self.replace(**changes) if changes else self

    def reads(self) -> dict[str, str]:
        """Return fingerprints of the files that `run` reads in addition to its data.

        They enter the key, so another file gives another key. Raises source.Missing.
        """
        return {}

    def content(self) -> dict[str, str]:
        """Return fingerprints of the data it learns from, by name; they enter the key."""
        return {}

    def stored(self) -> bool:
        """Whether its Result may be kept on disk; False if it contains a visitor's upload."""
        return True

    def stream_name(self) -> str:
        """Return the name of the random streams: the study's key, so studies share no draws.

        A study that protects nobody may return "", so that runs with other settings share their
        draws.
        """
        return key(self)

    def streams(self: Seeded) -> Streams:
        """Return this study's random streams.

        All randomness that protects must come from one of them.
        """
        return Streams(self.seed, self.stream_name())

    def derive_seed(self: Seeded, purpose: str) -> int:
        """Derive the seed of one random stream of this study."""
        return self.streams().derive_seed(purpose)

    def derived(self) -> dict[str, Any]:
        """Return the values that stand for fields left empty, by field, where the study has any."""
        return {}

    def used(self, result: Result) -> dict[str, Any]:
        """Return what a run used where fields were left empty (None), if it used anything.

        The values are those of `derived`, and of metrics with a field's name. Never part of the
        key.
        """
        known = self.derived() | result.metrics
        empty = [name for name, value in self.values().items() if value is None]
        return {name: known[name] for name in empty if known.get(name) is not None}

    def changed(self) -> dict[str, str]:
        """Return the non-default fields as text, for a URL or for --set."""
        known, values = parameters.specs(type(self)), self.values()
        return {n: s.format(values[n]) for n, s in known.items() if values[n] != s.default}


def key(study: Study) -> str:
    """Return the SHA-256 (hex) of the study's canonical JSON.

    Raises source.Missing if its data set is not available.
    """
    return hashlib.sha256(
        json.dumps(canonical(study), sort_keys=True, allow_nan=False).encode()
    ).hexdigest()


def canonical(study: Study) -> dict[str, Any]:
    """Return what the key covers, as JSON values.

    That is the name, version, fields (nested studies in canonical form), the data set's
    fingerprint, the files it reads and the studies it needs.
    """
    study = study.settled()
    values = {name: _canonical(getattr(study, name)) for name in type(study).model_fields}
    prints: dict[str, Any] = study.content()
    prints |= {"reads": study.reads()} if study.reads() else {}
    held = [getattr(study, name) for name in parameters.held(type(study))]
    others = [canonical(other) for other in study.needs() if other not in held]
    needs = {"needs": others} if others else {}
    return {"study": study.NAME, "version": study.VERSION, "fields": values} | prints | needs


def _canonical(value: Any) -> Any:
    if isinstance(value, Study):
        return canonical(value)
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    return parameters.number(value)  # 1, 1.0 and np.float64(1) give the same text


# --- wrong values, reported to the user -----------------------------------------------------------


class Refused(ValueError):
    """A parameter value is not allowed.

    Carries the field, and one line that names the field, the value and the allowed range.
    """

    def __init__(self, field: str, message: str):
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return self.message


S = TypeVar("S", bound=Study)


def build(study: type[S], values: dict[str, Any]) -> S:
    """Build a validated study; raises Refused for the first wrong value.

    Text values are parsed first, as from a URL or --set.
    """
    known, parsed = parameters.specs(study), {}
    for given, value in values.items():
        name = parameters.known_as(study, given)
        if name not in known:
            raise Refused(
                _short(name),
                f"{_short(name)}: {study.NAME} has no such parameter; it has {', '.join(known)}",
            )
        parsed[name] = parse(known[name], value) if isinstance(value, str) else value
    try:
        return study(**parsed)
    except ValidationError as error:
        raise _refused(study, error) from None


def parse(spec: parameters.Spec, text: str) -> Any:
    """Parse text into a value; raises Refused with a message for the user."""
    try:
        return spec.parse(text)
    except (ValueError, KeyError, OverflowError):
        raise refusal(spec, text) from None


def refusal(spec: parameters.Spec, value: Any) -> Refused:
    """Build the Refused for a value out of range; widgets and terminal show the same sentence."""
    return Refused(
        spec.name,
        f"{spec.name}: {_short(value) or 'an empty field'} is not allowed; allowed: {spec.allowed}",
    )


def _refused(study: type[Study], error: ValidationError) -> Refused:
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Refused):
        return cause
    name = str(first["loc"][-1]) if first["loc"] else ""
    known = parameters.specs(study)
    return refusal(known[name], first["input"]) if name in known else Refused("", first["msg"])


def _short(value: Any) -> str:
    """Format a value so that it can be echoed to its author: printable and short."""
    text = (
        parameters.number(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else str(value)
    )
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= 40 else text[:37] + "…"
