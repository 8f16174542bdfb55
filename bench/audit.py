"""Measure how often the auditor is right, on correct trainings and on faulty ones.

Runs many audits of correct trainings and of trainings with each planted error, and prints a line
for each.

    python -m bench.audit [--correct 20] [--planted 10] [--set name=value ...]
"""

from __future__ import annotations

import argparse
import time

from engine.core import rounding
from engine.core.lab import Lab, device_name, open_store
from engine.core.study import Result, build
from engine.studies.dp_training.audit import BUGS, Audit


def finish(run):
    """Run a generator to its end and return its Result."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def audits(bug: str, count: int, changes: dict[str, str], lab: Lab) -> list[Result]:
    """The results of audits with one planted error, or none; the seeds are 0 to count − 1."""
    return [
        finish(build(Audit, changes | {"bug": bug, "seed": str(seed)}).run(lab))
        for seed in range(count)
    ]


def show(bug: str, found: list[Result], seconds: float) -> None:
    """Print what the audits found, and a line for each of their checks."""
    lower_bounds = [result.metrics["lower_bound"] for result in found]
    print(
        f"{bug}: {len(found)} audits in {seconds:.0f} s; a violation is"
        f" reported in {sum(int(r.metrics['violated']) for r in found)}; lower bound"
        f" {rounding.at_least(min(lower_bounds), 2)} to"
        f" {rounding.at_least(max(lower_bounds), 2)}, above"
        f" the upper bound {rounding.at_most(found[0].metrics['upper_bound'])} in"
        f" {sum(f > r.metrics['upper_bound'] for f, r in zip(lower_bounds, found))}"
    )
    checks: dict[str, list[dict]] = {}
    for result in found:
        for check in result.facts["checks"]:
            checks.setdefault(check["name"], []).append(check)
    for name, each in checks.items():
        broken, ps = sum(not check["kept"] for check in each), sorted(c["p"] for c in each)
        print(f"    {name}: broken in {broken}; p from {ps[0]:.2g} to {ps[-1]:.2g}")


def main() -> None:
    """Run the audits; prints a line for correct trainings and each error, and one per check."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--correct", type=int, default=20)
    asked.add_argument("--planted", type=int, default=10)
    asked.add_argument("--set", action="append", default=[], metavar="name=value")
    options = asked.parse_args()
    changes, lab = dict(one.split("=", 1) for one in options.set), Lab(open_store())
    print(device_name(), changes)
    for bug in BUGS:
        begun = time.perf_counter()
        found = audits(bug, options.correct if bug == "none" else options.planted, changes, lab)
        show(bug, found, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
