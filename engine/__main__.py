"""Command line: runs the same studies as the pages, without a browser.

`python -m engine --help` lists the commands.

Exit codes: 0 success, 1 the run failed, 2 a wrong value (one line names the field or environment
variable, the value and what is allowed), 130 interrupted.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import sys
import time
from dataclasses import asdict

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
from engine.studies.image_study import fitted


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and run the command; an expected error becomes one line on stderr."""
    options = parser().parse_args(arguments)
    try:
        settings.check()
        return options.command(options) or 0
    except (
        Refused,
        source.Missing,
        settings.Wrong,
        Unusable,
        dask_cluster.Unreachable,
    ) as refused:
        print(refused, file=sys.stderr)
        return 2
    except (Failed, source.FetchFailed, OSError) as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was stored", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Build the parser with all commands and their options."""
    root = argparse.ArgumentParser(
        prog="python -m engine", description="Veil's studies without a browser."
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="the studies, their presets and parameters").set_defaults(
        command=list_studies
    )
    run = commands.add_parser("run", help="compute a study, or take it from the cache")
    run.set_defaults(command=run_study)
    series = commands.add_parser(
        "series", help="compute several of a study, such as a sweep: a line each"
    )
    series.set_defaults(command=run_series)
    for command in (run, series):
        command.add_argument("study")
        if command is series:
            command.add_argument("series", help="which one; `list` names them")
            command.add_argument(
                "--seeds",
                type=int,
                choices=range(1, 10),
                default=1,
                metavar="N",
                help="each at so many seeds, where the series has it: 1 to 9",
            )
        command.add_argument(
            "--preset", default="quick", help="quick, report or best, where the study has it"
        )
        command.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE", dest="changes"
        )
        command.add_argument(
            "--json",
            action="store_true",
            help="exactly one JSON object on stdout" + (" a line" if command is series else ""),
        )
    sets = commands.add_parser("data", help="which data sets are here, and how to get the rest")
    sets.add_argument("action", nargs="?", choices=["fetch"])
    sets.add_argument("name", nargs="?")
    sets.set_defaults(command=show_data)
    cache = commands.add_parser("cache", help="the stored results")
    cache.add_argument("action", nargs="?", choices=["stats", "clear", "verify"], default="stats")
    cache.set_defaults(command=manage_cache)
    return root


# --- list -----------------------------------------------------------------------------------------


def list_studies(_) -> None:
    """Print every study with its presets, series and parameters."""
    for study in STUDIES.values():
        print(f"{study.NAME}: {study.TITLE}\n  presets: {', '.join(study.PRESETS)}")
        for name, shows in study.SERIES.items():
            print(f"  series {name}: {shows}")
        for spec in parameters.specs(study).values():
            unit = f" {spec.unit}" if spec.unit else ""
            print(
                f"  {spec.name} = {spec.format(spec.default)}{unit}  ({spec.allowed})."
                f" {spec.title}: {spec.help}"
            )


# --- run ------------------------------------------------------------------------------------------


def run_study(options) -> None:
    """Run one study and print its result."""
    study = fit(chosen_study(options.study, options.preset, options.changes), options.changes)
    store, begun = open_store(), time.perf_counter()
    cached = load(store, key(study)) is not None
    result = compute(study, store)
    seconds = time.perf_counter() - begun
    (print_json if options.json else print_words)(study, result, seconds, cached)
    if "not_stored" in result.made:
        print(result.made["not_stored"], file=sys.stderr)


def run_series(options) -> None:
    """Run all studies of a series, together where possible; stored results are not recomputed."""
    base = fit(chosen_study(options.study, options.preset, options.changes), options.changes)
    if options.series not in base.SERIES:
        raise Refused(
            "series",
            f"series: {options.series[:40]!r} is not known; {base.NAME} has"
            f" {', '.join(base.SERIES) or 'none'}",
        )
    make = getattr(base, options.series)
    if options.seeds > 1 and "seeds" not in inspect.signature(make).parameters:
        raise Refused(
            "seeds",
            f"seeds: {options.seeds} is not allowed; {options.series} of {base.NAME} has one",
        )
    store, studies = open_store(), make(seeds=options.seeds) if options.seeds > 1 else make()
    if ahead := at_once(base, studies):
        try:
            compute(ahead, store)  # computes several at once; each is read from the store below
        except Failed as failed:  # the loop prints those that finished, then raises this again
            print(failed, file=sys.stderr)
    for words, study in studies.items():
        begun, cached = time.perf_counter(), load(store, key(study)) is not None
        result = compute(study, store)
        seconds = time.perf_counter() - begun
        if "not_stored" in result.made:
            print(result.made["not_stored"], file=sys.stderr)
        if options.json:
            print(
                json.dumps({"step": words} | described(study, result, seconds, cached)), flush=True
            )
        else:
            print(f"{words:40} {in_a_line(result)}  ({seconds:.1f} s)")
            print_warnings(result)


def in_a_line(result: Result) -> str:
    """Format one line of a series: the guarantee (ε rounded up), then the metrics."""
    promise = result.guarantee
    slack = "" if promise.epsilon is None else f" at delta {rounding.chosen(promise.delta)}"
    found = (f"{name} {rounding.told(name, value)}" for name, value in result.metrics.items())
    return "  ".join([f"epsilon {rounding.epsilon(promise.epsilon)}{slack}", *found])


def fit(study: Study, changes: list[str]) -> Study:
    """Adjust a study's defaults to its images.

    Prints on stderr which defaults changed, and the notes about a folder of the user's own.
    """
    for note in registry.preview(study.dataset).notes:
        print(f"{study.dataset}: {note}", file=sys.stderr)
    study, said = fitted(study, {change.partition("=")[0] for change in changes})
    for sentence in said:
        print(f"{sentence}.", file=sys.stderr)
    return study


def at_once(base: Study, studies: dict[str, Study]) -> Study | None:
    """Combine a series into one study that computes its members together.

    Returns None where that is no faster than running them one after the other.
    """
    members = base.generators() if isinstance(base, Fidelity) else studies
    if all(hasattr(study, "charged") for study in members.values()):
        return Ensemble(members=tuple(members.values()))
    return None


def chosen_study(name: str, preset: str, changes: list[str]) -> Study:
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
        if run.state != "done":
            raise runner.unreachable or Failed(run.message)
        return run.result
    finally:
        runner.close()


def show_progress(run) -> Result:
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
        print(
            f"\r\033[K{event.name} [{'#' * filled}{'.' * (30 - filled)}]",
            end="",
            file=sys.stderr,
            flush=True,
        )
    elif isinstance(event, Point) and event.curve == "test_accuracy":
        start = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{start}epoch {event.x:g}: {event.curve} {event.y:.4f}", file=sys.stderr)


def print_json(study: Study, result: Result, seconds: float, cached: bool) -> None:
    """Print exactly one JSON object."""
    print(json.dumps(described(study, result, seconds, cached)))


def described(study: Study, result: Result, seconds: float, cached: bool) -> dict:
    """Describe a study and its result as JSON values, without images and arrays."""
    found = {
        "study": study.NAME,
        "key": key(study),
        "params": study.values(),
        "metrics": result.metrics,
        "guarantee": asdict(result.guarantee),
        "warnings": result.warnings,
        "notes": notes(study),
        "seconds": seconds,
        "cached": cached,
    }
    return strict(found)


def notes(study: Study) -> list[str]:
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


def print_words(study: Study, result: Result, seconds: float, cached: bool) -> None:
    """Print metrics and guarantee as text."""
    print(f"{study.NAME}  {key(study)[:16]}  {seconds:.2f} s{'  (cached)' if cached else ''}")
    for name, value in result.metrics.items():
        print(f"  {name:28} {rounding.told(name, value)}")
    for name, value in asdict(result.guarantee).items():
        print(f"  guarantee.{name:18} {value}")
    print_warnings(result)


def print_warnings(result: Result) -> None:
    """Print the result's warnings, one per line, as the pages show them."""
    for warning in result.warnings:
        print(f"  warning: {warning}", flush=True)


# --- data and cache -------------------------------------------------------------------------------


def show_data(options) -> None:
    """List the data sets, their sizes and how to get missing ones; or fetch one."""
    if options.action == "fetch":
        return fetch(options.name)
    print(f"data folder: {settings.data_folder()}")
    for found in registry.available(thorough=True):
        state = (
            f"{found.count:,} pictures, {found.bytes / 1e6:.1f} MB"
            if found.present
            else found.told()
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
    registry.fetch(
        name,
        lambda done, total: print(
            f"\r{done / 1e6:.1f} of {total / 1e6:.1f} MB", end="", file=sys.stderr
        ),
    )
    print(f"\n{name} is here.", file=sys.stderr)


def manage_cache(options) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
