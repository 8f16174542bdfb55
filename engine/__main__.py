"""Command line: runs the same studies as the pages, without a browser.

`python -m engine --help` lists the commands; COMMANDS, at the end of this file, is their table.
Where Veil is installed, `veil` is the same program.

Exit codes: 0 success, 1 the run failed, 2 a wrong value (one line names the field or environment
variable, the value and what is allowed), 130 interrupted.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

from cache.store import Unusable
from engine.core import parameters, rounding, settings
from engine.core.errors import Failed
from engine.core.lab import Lab, load, open_store
from engine.core.study import Phase, Point, Refused, Result, Study, key
from engine.datasets import folder, registry, source
from engine.runtime import dask_cluster
from engine.studies import STUDIES
from engine.studies.ensemble import Ensemble
from engine.studies.fidelity import Fidelity
from engine.studies.image_study import ImageStudy, fitted

WRONG = (Refused, source.Missing, settings.Wrong, Unusable, dask_cluster.Unreachable)


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and run the command; an expected error becomes one line on stderr."""
    options = parser().parse_args(arguments)
    try:
        settings.check()
        options.run(options)
    except WRONG as refused:
        print(refused, file=sys.stderr)
        return 2
    except (Failed, source.FetchFailed, OSError) as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was stored", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser from the table of commands."""
    name = "veil" if Path(sys.argv[0]).name == "veil" else "python -m engine"
    root = Parser(prog=name, description="Veil's studies without a browser.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.name, help=command.help, description=command.help)
        added.set_defaults(run=command.run)
        for names, how in command.arguments:
            added.add_argument(*names, **how)
    return root


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, as all other wrong values are reported."""

    def error(self, message: str):
        """Print the error and how to get help, and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` says what there is)\n")


# --- list -----------------------------------------------------------------------------------------


def list_studies(options: argparse.Namespace) -> None:
    """Print the studies with their presets, series and parameters."""
    for study in studies_of(options.name):
        print(f"{study.NAME}: {study.TITLE}\n  presets: {', '.join(study.PRESETS)}")
        for name, shows in study.SERIES.items():
            print(f"  series {name}: {shows}")
        for spec in parameters.specs(study).values():
            unit = f" {spec.unit}" if spec.unit else ""
            print(
                f"  {spec.name} = {spec.format(spec.default)}{unit}  ({spec.allowed})."
                f" {spec.title}: {spec.help}"
            )


def studies_of(name: str | None) -> list[type[Study]]:
    """Return all studies, those of a topic, or the one of that name; raises Refused for others.

    Some topics are named like one of their studies: the name stands for the topic.
    """
    topics = list(dict.fromkeys(map(topic, STUDIES.values())))
    if name is None:
        return list(STUDIES.values())
    if name in topics:
        return [study for study in STUDIES.values() if topic(study) == name]
    if name in STUDIES:
        return [STUDIES[name]]
    raise Refused(
        "name",
        f"name: {name[:40]!r} is not known; allowed: a topic ({', '.join(topics)}) or a study"
        f" ({', '.join(STUDIES)})",
    )


def topic(study: type[Study]) -> str:
    """Return the topic of a study: the folder of engine/studies that it is in."""
    return study.__module__.split(".")[2]


# --- run ------------------------------------------------------------------------------------------


def run_study(options: argparse.Namespace) -> None:
    """Run one study and print its result."""
    run = run_timed(chosen_and_fitted(options), open_store())
    (print_json if options.json else print_words)(run)


def run_series(options: argparse.Namespace) -> None:
    """Run all studies of a series, together where possible; stored results are not recomputed."""
    base, store = chosen_and_fitted(options), open_store()
    studies = members(base, options.series, options.seeds)
    if ahead := at_once(base, studies):
        try:
            compute(ahead, store)  # computes several at once; each is read from the store below
        except Failed as failed:  # the loop prints those that finished, then raises this again
            print(failed, file=sys.stderr)
    for step, study in studies.items():
        run = run_timed(study, store)
        if options.json:
            print_json(run, step=step)
        else:
            print(f"{step:40} {in_a_line(run.result)}  ({run.seconds:.1f} s)")
            print_warnings(run.result)


def chosen_and_fitted(options: argparse.Namespace) -> ImageStudy:
    """Build the study that the options describe, with defaults that fit its images."""
    return fit(chosen_study(options.study, options.preset, options.changes), options.changes)


def chosen_study(name: str, preset: str, changes: list[str]) -> ImageStudy:
    """Build the study that the arguments name; raises Refused if they do not name one."""
    if name not in STUDIES:
        raise Refused("study", f"study: {name[:40]!r} is not known; there are {', '.join(STUDIES)}")
    pairs = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise Refused("--set", f"--set: {change[:40]!r} is not FIELD=VALUE")
        pairs[field] = value
    return STUDIES[name].preset(preset, **pairs)


def fit(study: ImageStudy, changes: list[str]) -> ImageStudy:
    """Adjust a study's defaults to its images.

    Prints on stderr which defaults changed, and the notes about a folder of the user's own.
    """
    for note in notes(study):
        print(f"{study.dataset}: {note}", file=sys.stderr)
    study, said = fitted(study, {change.partition("=")[0] for change in changes})
    for sentence in said:
        print(f"{sentence}.", file=sys.stderr)
    return study


def members(base: ImageStudy, series: str, seeds: int) -> dict[str, ImageStudy]:
    """Return the studies of a series, by label; raises Refused if the study has no such series."""
    if series not in base.SERIES:
        raise Refused(
            "series",
            f"series: {series[:40]!r} is not known; {base.NAME} has"
            f" {', '.join(base.SERIES) or 'none'}",
        )
    make = getattr(base, series)
    if seeds == 1:
        return make()
    if "seeds" not in inspect.signature(make).parameters:
        raise Refused("seeds", f"seeds: {seeds} is not allowed; {series} of {base.NAME} has one")
    return make(seeds=seeds)


def at_once(base: ImageStudy, studies: dict[str, ImageStudy]) -> Ensemble | None:
    """Combine a series into one study that computes its members together.

    Returns None where that is no faster than running them one after the other.
    """
    members = base.generators() if isinstance(base, Fidelity) else studies
    if all(hasattr(study, "charged") for study in members.values()):
        return Ensemble(members=tuple(members.values()))
    return None


@dataclass(frozen=True)
class Run:
    """A study that has run here or was taken from the store (cached), and the seconds it took."""

    study: ImageStudy
    result: Result
    seconds: float
    cached: bool


def run_timed(study: ImageStudy, store) -> Run:
    """Run a study; says on stderr why its result could not be stored, if it could not."""
    begun, cached = time.perf_counter(), load(store, key(study)) is not None
    result = compute(study, store)
    seconds = time.perf_counter() - begun
    if "not_stored" in result.made:
        print(result.made["not_stored"], file=sys.stderr)
    return Run(study, result, seconds, cached)


def compute(study: Study, store) -> Result:
    """Run a study in this process, or on the cluster at VEIL_SCHEDULER."""
    if not settings.scheduler():
        return show_progress(Lab(store).need(study))
    from engine.runtime.runner import Runner

    logging.getLogger("veil").setLevel(logging.CRITICAL)  # an error is reported once, below
    runner = Runner(store)
    try:
        run = runner.submit(study)
        for event in runner.following(run.key, seconds=math.inf):
            show(event)
        if run.state != "done" or run.result is None:
            raise runner.unreachable or Failed(run.message)
        return run.result
    finally:
        runner.close()


# --- what is printed ------------------------------------------------------------------------------


def show_progress(run: Iterator) -> Result:
    """Run a generator to its Result, with a progress line on stderr."""
    while True:
        try:
            show(next(run))
        except StopIteration as end:
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr)
            return end.value


def show(event) -> None:
    """Print a progress bar for phases (terminals only) and a line per point of test accuracy."""
    if isinstance(event, Phase) and sys.stderr.isatty():
        filled = int(30 * event.done / event.total) if event.total else 0
        bar = f"{'#' * filled}{'.' * (30 - filled)}"
        print(f"\r\033[K{event.name} [{bar}]", end="", file=sys.stderr, flush=True)
    elif isinstance(event, Point) and event.curve == "test_accuracy":
        start = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{start}epoch {event.x:g}: {event.curve} {event.y:.4f}", file=sys.stderr)


def print_json(run: Run, **more: str) -> None:
    """Print exactly one JSON object, on one line."""
    print(json.dumps(more | described(run)), flush=True)


def described(run: Run) -> dict[str, Any]:
    """Describe a run as JSON values, without images and arrays."""
    found = {
        "study": run.study.NAME,
        "key": key(run.study),
        "params": run.study.values(),
        "used": run.study.used(run.result),
        "metrics": run.result.metrics,
        "guarantee": asdict(run.result.guarantee),
        "warnings": run.result.warnings,
        "notes": notes(run.study),
        "seconds": run.seconds,
        "cached": run.cached,
    }
    return strict(found)


def notes(study: ImageStudy) -> list[str]:
    """List what to know about a folder of the user's own: skipped files, duplicates.

    The pages show the same notes.
    """
    return list(registry.preview(study.dataset).notes)


def strict(value):
    """Replace infinities and NaN by null, since JSON has neither."""
    if isinstance(value, dict):
        return {k: strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_words(run: Run) -> None:
    """Print metrics and guarantee as text."""
    cached = "  (cached)" if run.cached else ""
    print(f"{run.study.NAME}  {key(run.study)[:16]}  {run.seconds:.2f} s{cached}")
    for name, value in run.result.metrics.items():
        print(f"  {name:28} {rounding.formatted(name, value)}")
    for name, value in asdict(run.result.guarantee).items():
        print(f"  guarantee.{name:18} {value}")
    print_warnings(run.result)


def in_a_line(result: Result) -> str:
    """Format one line of a series: the guarantee (ε rounded up), then the metrics."""
    promise = result.guarantee
    slack = "" if promise.delta is None else f" at delta {rounding.chosen(promise.delta)}"
    found = (f"{name} {rounding.formatted(name, value)}" for name, value in result.metrics.items())
    return "  ".join([f"epsilon {rounding.epsilon(promise.epsilon)}{slack}", *found])


def print_warnings(result: Result) -> None:
    """Print the result's warnings, one per line, as the pages show them."""
    for warning in result.warnings:
        print(f"  warning: {warning}", flush=True)


# --- data, cache and dashboard --------------------------------------------------------------------


def show_data(options: argparse.Namespace) -> None:
    """List the data sets, their sizes and how to get missing ones; or fetch one."""
    if options.action == "fetch":
        return fetch(options.name)
    print(f"data folder: {settings.data_folder()}")
    for found in registry.available(thorough=True):
        state = (
            f"{found.count:,} images, {found.bytes / 1e6:.1f} MB"
            if found.present
            else found.how_to_get()
        )
        print(f"  {found.name:16} {found.title}: {state}")
        for note in found.notes:
            print(f"  {'':16} {note}")
    for name in folder.unnamed():
        print(f"  {name:16} is passed over: {folder.NAMES}")


def fetch(name: str | None) -> None:
    """Download a data set, showing progress; its checksum is verified."""
    if not name:
        raise Refused("name", f"name: missing; allowed: one of {', '.join(parameters.DATASETS)}")

    def progress(done: int, total: int) -> None:
        print(f"\r{done / 1e6:.1f} of {total / 1e6:.1f} MB", end="", file=sys.stderr)

    registry.fetch(name, progress)
    print(f"\n{name} is here.", file=sys.stderr)


def manage_cache(options: argparse.Namespace) -> None:
    """Show, clear or verify the store."""
    store = open_store()
    if options.action == "clear":
        print(f"{store.clear()} results removed")
    elif options.action == "verify":
        good, damaged = store.verify()
        print(f"{len(good)} good, {len(damaged)} damaged and set aside")
    else:
        for name, value in asdict(store.stats()).items():
            print(f"  {name:10} {value}")


def serve_dashboard(options: argparse.Namespace) -> None:
    """Become Streamlit's server, with the settings beside app.py, whatever the working folder."""
    serve = ["-m", "streamlit", "run", str(app())]
    where = [f"--server.port={options.port}", f"--server.address={options.address}"]
    # -P: a folder of the user's that is called engine or pages is not taken for ours
    os.execv(sys.executable, [sys.executable, "-P", *serve, *where])


def app() -> Path:
    """Return where app.py is: in the project's folder, or where pip has put it."""
    beside = Path(__file__).resolve().parents[1] / "app.py"
    if beside.is_file():
        return beside
    installed = files("veil") or []  # None where pip has kept no list of them
    return next(Path(file.locate()) for file in installed if file.name == "app.py").resolve()


# --- the table of commands ------------------------------------------------------------------------

Argument = tuple[tuple[str, ...], dict[str, Any]]


def argument(*names: str, **how: Any) -> Argument:
    """Describe one argument, in the terms of argparse's add_argument."""
    return names, how


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers in a range, for an argument's `type`."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(
                f"{text[:40]} is not allowed; allowed: a whole number from {low} to {high}"
            )
        return int(text)

    return parse


@dataclass(frozen=True)
class Command:
    """A command: its name, what it is for, the function that runs it, and its arguments."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], None]
    arguments: tuple[Argument, ...] = ()


STUDY = argument("study", help="a study, as `list` names it")
OPTIONS = (
    argument("--preset", default="quick", help="one of the study's presets (default: quick)"),
    argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="changes",
        help="a parameter and its value; may be given several times",
    ),
    argument("--json", action="store_true", help="print a JSON object on one line"),
)
COMMANDS = (
    Command(
        "list",
        "List the studies with their presets and parameters.",
        list_studies,
        (argument("name", nargs="?", help="only this topic, or only this study"),),
    ),
    Command("run", "Run a study, or take its result from the cache.", run_study, (STUDY, *OPTIONS)),
    Command(
        "series",
        "Run several variants of a study, such as a sweep, and print one line for each.",
        run_series,
        (
            STUDY,
            argument("series", help="a series of the study, as `list` names it"),
            *OPTIONS,
            argument(
                "--seeds",
                type=whole(1, 9),
                default=1,
                metavar="N",
                help="how many seeds to run each variant with, 1 to 9, if the series allows it",
            ),
        ),
    ),
    Command(
        "data",
        "List the data sets and how to get those that are missing, or fetch one.",
        show_data,
        (
            argument("action", nargs="?", choices=["fetch"], help="download a data set"),
            argument("name", nargs="?", help="the data set to download"),
        ),
    ),
    Command(
        "cache",
        "Show how much is stored, check the stored results, or remove them.",
        manage_cache,
        (argument("action", nargs="?", choices=["stats", "clear", "verify"], default="stats"),),
    ),
    Command(
        "dashboard",
        "Start the web dashboard.",
        serve_dashboard,
        (
            argument(
                "--port", type=whole(1, 65535), default=8501, metavar="N", help="default: 8501"
            ),
            argument(
                "--address",
                default="127.0.0.1",
                help="where to listen (default: 127.0.0.1, only this machine; 0.0.0.0: everywhere)",
            ),
        ),
    ),
)


if __name__ == "__main__":
    sys.exit(main())
