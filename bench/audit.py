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
from engine.core.study import build
from engine.studies.dp_training.audit import CHEATS, Audit


def finish(run):
    """Run a generator to its end and return its Result."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def main() -> None:
    """Run the audits; prints a line for correct trainings and each error, and one per check."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--correct", type=int, default=20)
    asked.add_argument("--planted", type=int, default=10)
    asked.add_argument("--set", action="append", default=[], metavar="name=value")
    options = asked.parse_args()
    changes, lab = dict(one.split("=", 1) for one in options.set), Lab(open_store())
    print(device_name(), changes)
    for cheat in CHEATS:
        found, begun = [], time.perf_counter()
        for seed in range(options.correct if cheat == "none" else options.planted):
            found.append(
                finish(build(Audit, changes | {"cheat": cheat, "seed": str(seed)}).run(lab))
            )
        floors = [result.metrics["floor"] for result in found]
        names = [check["name"] for check in found[0].facts["checks"]]
        broken = {
            name: sum(
                not check["kept"]
                for result in found
                for check in result.facts["checks"]
                if check["name"] == name
            )
            for name in names
        }
        print(
            f"{cheat}: {len(found)} audits in {time.perf_counter() - begun:.0f} s; a violation is"
            f" reported in {sum(int(r.metrics['violated']) for r in found)}; floor"
            f" {rounding.at_least(min(floors), 2)} to {rounding.at_least(max(floors), 2)}, above"
            f" the ceiling {rounding.at_most(found[0].metrics['ceiling'])} in"
            f" {sum(f > r.metrics['ceiling'] for f, r in zip(floors, found))}"
        )
        for name, count in broken.items():
            ps = sorted(
                check["p"]
                for result in found
                for check in result.facts["checks"]
                if check["name"] == name
            )
            print(f"    {name}: broken in {count}; p from {ps[0]:.2g} to {ps[-1]:.2g}")


if __name__ == "__main__":
    main()
