"""Single definition of every parameter: name, range, default, unit, scale and help text.

A study declares its fields with the functions below. The widgets, the command line, the URL and the
validation all read the same `Spec` with `spec(StudyClass, name)`.
"""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

from pydantic import BaseModel, Field

_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 1,925 as the pages write it
_COMMA = re.compile(r"\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)  # decimal comma: 0,5
# Earlier names of parameters, which addresses, --set and the commands of stored results may hold.
ALIASES: dict[str, str] = {
    "together": "synthesis_batch_size",
    "rate": "synthesis_learning_rate",
    "student_batch": "student_batch_size",
    "student_rate": "student_learning_rate",
    "width": "generator_width",
    "judge_width": "discriminator_width",
    "generator_rate": "generator_learning_rate",
    "discriminator_rate": "discriminator_learning_rate",
    "imitator_width": "merf_width",
    "imitator_steps": "merf_steps",
    "imitator_batch": "merf_batch_size",
    "imitator_rate": "merf_learning_rate",
    "participants": "clients",
    "pictures_each": "images_per_client",
    "participation": "client_sampling_rate",
    "server_rate": "server_learning_rate",
    "initial_rate": "initial_learning_rate",
    "tries": "restarts",
    "cheat": "bug",
}
# Earlier value of a choice → present value, by the parameter's present name
EARLIER_CHOICES: dict[tuple[str, str], str] = {("noised_by", "phone"): "client"}
# No parameter needs longer text, so a URL with 10,000 characters is refused before it is parsed.
MAX_TEXT = 80


@dataclass(frozen=True)
class Spec:
    """Complete description of one parameter of one study."""

    name: str
    title: str
    kind: str  # "int", "float", "choice", "switch" or "text"
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    unit: str = ""
    help: str = ""
    scale: str = "linear"  # or "log"
    ends: tuple[str, str] = ("", "")
    optional: bool = False

    @property
    def allowed(self) -> str:
        """The allowed range, worded for widgets and terminals alike."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "switch":
            return "true or false"
        if self.kind == "text":
            return self.help or "a short text"
        noun = "a whole number" if self.kind == "int" else "a number"
        words = f"{noun} from {number(self.low)} to {number(self.high)}"
        return words + (", or empty" if self.optional else "")

    def label(self, choice: str) -> str:
        """Return the words a visitor sees for a choice."""
        return dict(zip(self.choices, self.labels)).get(choice, choice)

    def parse(self, text: str) -> Any:
        """Parse text from a URL, a widget or a command line into a value, not yet validated.

        Raises ValueError, or KeyError for a switch.
        """
        if len(text) > MAX_TEXT or "\x00" in text:
            raise ValueError("too long" if len(text) > MAX_TEXT else "a null byte")
        if self.optional and text.strip().lower() in ("", "none", "null"):
            return None
        if self.kind == "switch":
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        if self.kind in ("int", "float"):
            value = numeral(text)
            return (
                int(value)
                if math.isfinite(value) and value == int(value) and self.kind == "int"
                else value
            )
        return text if text in self.choices else EARLIER_CHOICES.get((self.name, text), text)

    def format(self, value: Any) -> str:
        """Format a value as the shortest text that parses back to it: the inverse of parse."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        return number(value) if isinstance(value, (int, float)) else str(value)


def numeral(text: str) -> float:
    """Parse a number as people write it: 1925, 1,925, 0.5, 0,5 or 1e-5.

    Raises ValueError, also for Python-only syntax such as 1_0.
    """
    text = text.strip()
    if "_" in text:
        raise ValueError("an underscore")
    return float(
        text.replace(",", "")
        if _GROUPED.fullmatch(text)
        else text.replace(",", ".")
        if _COMMA.fullmatch(text)
        else text
    )


def number(value: float | None) -> str:
    """Return a number's shortest exact text: 8.0 → '8', 1e-05 → '1e-05', 200000.0 → '200000'."""
    if value is None:
        return ""
    whole = isinstance(value, int) or (
        math.isfinite(value) and value == int(value) and abs(value) < 1e15
    )
    return str(int(value)) if whole else repr(float(value))


def parameter(  # noqa: PLR0913  one argument for each thing that is said of a field
    title: str,
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: dict[str, str] | None = None,
    unit: str = "",
    help: str = "",
    scale: str = "linear",
    ends: tuple[str, str] = ("", ""),
    pattern: str | None = None,
) -> Any:
    """Declare one field of a study.

    `choices` maps each allowed value, as text, to the words a visitor sees.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "scale": scale,
        "ends": list(ends),
        "choices": choices or {},
    }
    return Field(
        default,
        title=title,
        ge=low,
        le=high,
        description=help,
        pattern=pattern,
        max_length=MAX_TEXT if pattern else None,
        json_schema_extra=extra,
    )


def _spec(study: type[BaseModel], name: str) -> Spec:
    """Read a parameter's Spec from the study class that declares it."""
    info = study.model_fields[name]
    extra = cast("dict[str, Any]", info.json_schema_extra)  # as `parameter` made it
    bounds = {type(m).__name__: m for m in info.metadata}
    members = typing.get_args(info.annotation) if _is_union(info.annotation) else (info.annotation,)
    inner = next(m for m in members if m is not type(None))
    return Spec(
        name=name,
        title=cast("str", info.title),  # `parameter` always gives one
        kind=_kind(inner, extra["choices"]),
        default=info.default,
        low=getattr(bounds.get("Ge"), "ge", None),
        high=getattr(bounds.get("Le"), "le", None),
        choices=tuple(extra["choices"]),
        labels=tuple(extra["choices"].values()),
        unit=extra["unit"],
        help=info.description or "",
        scale=extra["scale"],
        ends=tuple(extra["ends"]),
        optional=type(None) in members,
    )


def spec(study: type[BaseModel], name: str) -> Spec:
    """Return a parameter of a study or of a study that it holds."""
    return specs(study)[name]


def specs(study: type[BaseModel]) -> dict[str, Spec]:
    """Return all parameters of a study and of the studies that it holds, in declaration order.

    A name stands for one parameter only, wherever it is held.
    """
    return {name: _spec(owner, name) for name, (owner, _) in _places(study).items()}


def paths(study: type[BaseModel]) -> dict[str, str]:
    """Return where each parameter is held: its name → a path such as `training.epochs`."""
    return {name: ".".join((*way, name)) for name, (_, way) in _places(study).items()}


def held(study: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the fields of a study that are studies themselves, and their classes."""
    return {
        name: info.annotation
        for name, info in study.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }


def known_as(study: type[BaseModel], name: str) -> str:
    """Return the present name of a parameter: itself, for a path its last part, or by ALIASES.

    What stands for no parameter of the study is returned as it is.
    """
    known = _places(study)
    if name in known:
        return name
    if name in (places := {path: last for last, path in paths(study).items()}):
        return places[name]
    return ALIASES[name] if ALIASES.get(name) in known else name


def nested(study: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Hand parameters of held studies on to them: {"epochs": 3} → {"training": {"epochs": 3}}.

    A held study that is given as a whole keeps its other values.
    """
    found = dict(values)
    for name, kind in held(study).items():
        known = _places(kind)
        given = {n: found.pop(n) for n in values if n in known}
        if given:
            whole = found.get(name, {})
            found[name] = (values_of(whole) if isinstance(whole, BaseModel) else whole) | given
    return found


def values_of(study: BaseModel) -> dict[str, Any]:
    """Return the values of all parameters of a study and of the studies that it holds."""
    return {name: attrgetter(path)(study) for name, path in paths(type(study)).items()}


@functools.cache
def _places(study: type[BaseModel]) -> dict[str, tuple[type[BaseModel], tuple[str, ...]]]:
    """Name of a parameter → the class that declares it, and the fields that lead to it."""
    found: dict[str, tuple[type[BaseModel], tuple[str, ...]]] = {}
    for name, info in study.model_fields.items():
        new = (
            {n: (owner, (name, *way)) for n, (owner, way) in _places(held(study)[name]).items()}
            if name in held(study)
            else {name: (study, ())}
            if info.json_schema_extra
            else {}
        )
        if twice := found.keys() & new.keys():
            raise TypeError(f"{study.__name__} has two parameters called {', '.join(twice)}")
        found |= new
    return found


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _kind(inner: type, choices: dict[str, str]) -> str:
    if choices:
        return "choice"
    return {bool: "switch", int: "int", float: "float"}.get(inner, "text")


# --- the parameters that several studies share ----------------------------------------------------

DATASETS = {
    "mnist-5k": "MNIST digits, the bundled 5,000",
    "mnist": "MNIST digits, all 70,000",
    "fashion-mnist": "Fashion-MNIST clothes, 70,000",
    "cifar10": "CIFAR-10 photographs, 60,000",
    "celeba": "CelebA faces, 202,599",
}


def dataset(default: str = "mnist-5k") -> Any:
    """Declare the data set: a name in DATASETS, or folder:NAME for the user's own images."""
    return parameter(
        "Data set",
        default,
        pattern=rf"^({'|'.join(DATASETS)}|folder:[A-Za-z0-9_-]{{1,64}})$",
        help="one of "
        + ", ".join(DATASETS)
        + ", or folder:NAME for a folder of your own (letters, digits, - and _)",
    )


def seed(default: int = 0) -> Any:
    """Declare the seed that fixes every random draw of a run."""
    return parameter(
        "Seed",
        default,
        low=0,
        high=2**31 - 1,
        help=(
            "Fixes every random draw, so that the same settings give the same result on the same"
            " kind of machine. Whoever knows the seed can remove the noise: a seeded run only"
            " simulates a private one."
        ),
    )


def epochs(default: int, help: str = "How often each image is used.") -> Any:
    """Declare the number of passes over the training data."""
    return parameter(
        "Epochs", default, low=1, high=200, unit="passes over the data", scale="log", help=help
    )


def batch_size(default: int, help: str = "Number of images in a step.") -> Any:
    """Declare the number of images per training step."""
    return parameter(
        "Batch size", default, low=1, high=16384, unit="images", scale="log", help=help
    )


def learning_rate(default: float | None = None) -> Any:
    """Declare the learning rate; None stands for the optimizer's usual one."""
    return parameter(
        "Learning rate",
        default,
        low=1e-5,
        high=100.0,
        scale="log",
        help="How far each step changes the weights. Empty: the usual rate of the optimizer.",
    )


def max_grad_norm(default: float | None) -> Any:
    """Declare the clip norm C of the per-example gradients."""
    return parameter(
        "Clip norm",
        default,
        low=1e-3,
        high=100.0,
        scale="log",
        help="Largest norm of one image's gradient; longer ones are clipped (max_grad_norm, C).",
    )


def noise_multiplier(default: float | None) -> Any:
    """Declare the noise multiplier σ: the noise's standard deviation in units of the clip norm."""
    return parameter(
        "Noise multiplier σ",
        default,
        low=0.0,
        high=1000.0,
        scale="log",
        ends=("more accurate", "more private"),
        help="Noise as a multiple of the clip norm (σ). 0: no noise, no privacy.",
    )


def target_epsilon(default: float | None, *, low: float = 0.1, high: float = 1000.0) -> Any:
    """Declare the target ε, the privacy budget of the published result."""
    return parameter(
        "Privacy budget ε",
        default,
        low=low,
        high=high,
        scale="log",
        ends=("more private", "more accurate"),
        help=(
            "How much the finished network may reveal about any one image. Smaller is more private."
        ),
    )


def delta(default: float = 1e-5) -> Any:
    """Declare the δ of the (ε, δ) guarantee."""
    return parameter(
        "δ",
        default,
        low=1e-12,
        high=0.1,
        scale="log",
        help=(
            "Failure probability of the guarantee. Keep it well below one divided by the number of"
            " images."
        ),
    )
