"""The one idea of Veil: a Study is a value.

Study, Event, Result, Guarantee and the key that joins them.

A Study's fields are all that can change its result and only that. `run(lab)` is a generator: it
yields Events (points of curves, pictures, phases) and returns a Result, which is enough to draw the
whole page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from engine.core import parameters, streams

# --- what a study says while it runs, and at the end ----------------------------------------------


@dataclass(frozen=True)
class Point:
    """One point of a curve: `curve` names it, x and y are plain numbers."""

    curve: str
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """One picture worth showing while the study runs, as PNG bytes."""

    name: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Phase:
    """What is being done, and how much of it is done: done and total in any one unit."""

    name: str
    done: float = 0.0
    total: float = 1.0


Event = Point | Picture | Phase
EVENTS = {kind.__name__: kind for kind in (Point, Picture, Phase)}


@dataclass(frozen=True)
class Guarantee:
    """What is promised to whom. `epsilon` is None where nothing is promised: then `note` says why.

    odds_mechanism: how often the best attacker on this mechanism guesses right whether (or which)
    one unit was in the data, with even odds before; odds_any: the same, for whatever satisfies
    (epsilon, delta). odds_undrawn: the same if the steps had no noise, so that only the luck of not
    being drawn protects, and whatever is released of all besides is as noised as it is; None where
    nobody is drawn. All in [0.5, 1].
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
    """Plain numbers, arrays and PNG bytes: all that a page needs, with no event seen."""

    metrics: dict[str, float]
    guarantee: Guarantee
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # JSON values: sizes, names, warnings
    # filled by the lab: seconds, device, versions, time
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What to know before believing the numbers: pages and command line show all of it."""
        return list(self.facts.get("warnings", []))

    def parts(self) -> tuple[dict, dict[str, np.ndarray]]:
        """(JSON-able dict, arrays): what the codec stores."""
        plain = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("arrays", "pictures", "guarantee")
        }
        pictures = {
            f"png:{name}": np.frombuffer(png, np.uint8) for name, png in self.pictures.items()
        }
        return plain | {"guarantee": asdict(self.guarantee)}, pictures | {
            f"array:{n}": a for n, a in self.arrays.items()
        }

    @classmethod
    def from_parts(cls, plain: dict, arrays: dict[str, np.ndarray]) -> Result:
        """The inverse of parts."""
        kept = {name[6:]: a for name, a in arrays.items() if name.startswith("array:")}
        pictures = {name[4:]: a.tobytes() for name, a in arrays.items() if name.startswith("png:")}
        curves = {
            name: [tuple(point) for point in points] for name, points in plain["curves"].items()
        }
        rest = plain | {"guarantee": Guarantee(**plain["guarantee"]), "curves": curves}
        return cls(**rest, arrays=kept, pictures=pictures)


# --- the study itself -----------------------------------------------------------------------------


class Study(BaseModel):
    """A frozen, keyword-only description of one computation. Subclasses add fields and `run`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        revalidate_instances="never",
    )

    NAME: ClassVar[str]
    VERSION: ClassVar[int] = 1  # raised whenever the same fields would give another result
    TITLE: ClassVar[str] = ""
    # numpy only and under two seconds: runs by itself, in the asking process
    INSTANT: ClassVar[bool] = False
    PRESETS: ClassVar[dict[str, dict]] = {"quick": {}}
    EXCLUSIVE: ClassVar[tuple[str, ...]] = ()  # fields of which one replaces the others
    # large, and asked for by many: the last one's Result stays in the memory of a process that
    # trains
    REMEMBERED: ClassVar[bool] = False
    # methods that give several of this study at once, words → study; and what each shows
    SERIES: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, values: Any) -> Any:
        """np.float64(1), np.int64(1) and 1 are one value."""
        return (
            {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
            if isinstance(values, dict)
            else values
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Study:
        """The study at a preset, with some fields changed.

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

    def run(self, lab) -> Generator[Event, None, Result]:
        """Yield Events, return the Result."""
        raise TypeError(f"{type(self).__name__} does not say how it runs")

    def work(self) -> float:
        """Size of the computation in any unit proportional to its seconds: used to estimate time,
        never in the key.
        """
        return 1.0

    def kind(self) -> str:
        """Studies of one kind take time in proportion to their work()."""
        return self.NAME

    def typical(self) -> float | None:
        """Seconds that it takes on the two processor cores where Veil was measured, where that is
        known: an estimate for a machine that has run none.
        """
        return None

    def needs(self) -> tuple[Study, ...]:
        """The studies that `run` asks the lab for, where they follow from the fields: a new version
        of theirs is a new key.
        """
        return ()

    def reads(self) -> dict[str, str]:
        """Fingerprints of the files that `run` reads besides its data set: another file is another
        key. Raises data.Missing.
        """
        return {}

    def content(self) -> dict[str, str]:
        """Fingerprints of the data that it learns from, by what they are of: part of its key."""
        return {}

    def stored(self) -> bool:
        """May its Result be kept on disk? Not where it holds what a visitor has uploaded."""
        return True

    def stream_name(self) -> str:
        """What random streams of this study are named by: its key, so that no other study shares a
        draw.

        A study that protects nobody may return "", so that runs with other settings draw alike.
        """
        return key(self)

    def derive_seed(self, purpose: str) -> int:
        """The seed of one random stream of this study; all that protects is drawn from such a
        stream.
        """
        return streams.derive_seed(purpose, self.seed, self.stream_name())

    def changed(self) -> dict[str, str]:
        """Fields that differ from their default, as text: what goes into a URL or after --set."""
        known = parameters.specs(type(self))
        return {
            n: s.format(getattr(self, n)) for n, s in known.items() if getattr(self, n) != s.default
        }


def key(study: Study) -> str:
    """SHA-256 (hex) of the study's canonical JSON. Raises data.Missing where its data set is not
    there.
    """
    return hashlib.sha256(
        json.dumps(canonical(study), sort_keys=True, allow_nan=False).encode()
    ).hexdigest()


def canonical(study: Study) -> dict:
    """Name, version, fields (nested studies by their own canonical form), the data set's
    fingerprint, and what it needs.
    """
    values = {name: _canonical(getattr(study, name)) for name in type(study).model_fields}
    prints = study.content()
    prints |= {"reads": study.reads()} if study.reads() else {}
    needs = {"needs": [canonical(other) for other in study.needs()]} if study.needs() else {}
    return {"study": study.NAME, "version": study.VERSION, "fields": values} | prints | needs


def _canonical(value: Any) -> Any:
    if isinstance(value, Study):
        return canonical(value)
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    return parameters.number(value)  # 1, 1.0 and np.float64(1) are one text


# --- wrong values, in the user's words ------------------------------------------------------------


class Failed(Exception):
    """A study that cannot end well, with the reason and the remedy in the user's words."""


class Refused(ValueError):
    """A parameter that is not allowed: the field, and one line that names field, value and allowed
    range.
    """

    def __init__(self, field: str, message: str):
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return self.message


def build(study: type[Study], values: dict[str, Any]) -> Study:
    """A validated study, or Refused for the first wrong value.

    Text is parsed first, as from a URL or --set.
    """
    known, parsed = parameters.specs(study), {}
    for name, value in values.items():
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
    """Text → value, or Refused in the user's words."""
    try:
        return spec.parse(text)
    except (ValueError, KeyError, OverflowError):
        raise refusal(spec, text) from None


def refusal(spec: parameters.Spec, value: Any) -> Refused:
    """The one sentence for a value out of its range, the same at the widget and in the terminal."""
    return Refused(
        spec.name,
        f"{spec.name}: {_short(value) or 'an empty field'} is not allowed; allowed: {spec.allowed}",
    )


def _refused(study: type[Study], error: ValidationError) -> Refused:
    first = error.errors()[0]
    if first["loc"]:
        return refusal(parameters.spec(study, str(first["loc"][0])), first["input"])
    cause = first.get("ctx", {}).get("error")
    return cause if isinstance(cause, Refused) else Refused("", first["msg"])


def _short(value: Any) -> str:
    """A value as it may be repeated to its author: printable, and never long."""
    text = (
        parameters.number(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else str(value)
    )
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= 40 else text[:37] + "…"
