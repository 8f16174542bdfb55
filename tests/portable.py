"""`python -m tests.portable [NAME ...]`: the numeric tests as other machines would compute them,
and a table of what came of it.

Sums in another order end in another last digit. Another processor, another library of matrix
products and another number of threads take sums in another order; environment variables make this
machine do so. Browser tests show no numbers of their own and are left out. What has run for the
files as they are now is not run again, so that it can be stopped and go on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from datetime import date
from pathlib import Path

from engine.core import settings

ROOT = Path(__file__).resolve().parent.parent
# of whoever runs this
ASIDE = ("OPENBLAS_", "MKL_", "OMP_NUM", "ATEN_", "ONEDNN_", "NPY_", "PYTHON_CPU_COUNT")


def threads(count: int) -> dict[str, str]:
    """A machine of so many cores, also where there are fewer."""
    names = ("PYTHON_CPU_COUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(count)) | {"MKL_DYNAMIC": "FALSE"}


def plain_numpy() -> dict[str, str]:
    """NumPy without the instructions that it chooses by the processor."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    here = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(here)} if here else {}


# MKL_ENABLE_INSTRUCTIONS is without effect on processors that are not Intel's; MKL_CBWR works on
# all.
MKL = {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE"}
ATEN, ONEDNN = {"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}
EMULATIONS = {
    "as-is": {},
    "aten-default": ATEN,
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-sse41": ONEDNN,
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "mkl-sse42": MKL,
    "one-thread": threads(1),
    "four-threads": threads(4),
    "unlike": ATEN | ONEDNN | MKL | threads(1) | {"OPENBLAS_CORETYPE": "Prescott"} | plain_numpy(),
}


def environment(name: str) -> dict[str, str]:
    """What the tests run with under an emulation: nothing of this machine's own settings."""
    kept = {n: value for n, value in os.environ.items() if not n.startswith(ASIDE)}
    return kept | EMULATIONS[name]


# --- what an emulation changes --------------------------------------------------------------------


def probe() -> dict[str, str]:
    """A hash of the exact bits of each kind of computation, on the same inputs everywhere."""
    import numpy as np
    import torch

    torch.set_num_threads(settings.cores())
    # whole numbers over a prime: the same everywhere, their sums rounded
    draws = np.random.default_rng(0)
    rows, more = (draws.integers(-1000, 1000, shape) / 251 for shape in ((257, 513), (513, 129)))
    images, kernels = (
        draws.integers(-99, 99, shape) / 61 for shape in ((32, 3, 28, 28), (16, 3, 5, 5))
    )

    def single(array):
        return torch.tensor(array, dtype=torch.float32)

    found = {
        "convolution": torch.nn.functional.conv2d(single(images), single(kernels)),
        "product": single(rows) @ single(more),
        "softmax": torch.softmax(single(rows), 1),
        "exp": single(rows).exp(),
        "sum": single(rows).sum(),
        "normal draws": torch.randn(1000, generator=torch.Generator().manual_seed(0)),
        "training": _trained(single(images)),
        "numpy's product": rows @ more,
        "numpy's exp": np.exp(rows),
        "numpy's sum": rows.sum(),
        "singular values": np.linalg.svd(rows)[1],
    }
    return {
        name: hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
        for name, value in found.items()
    }


def _trained(images):
    """(parameters,) the weights of a small network after five steps."""
    import torch
    from torch import nn

    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
    with torch.no_grad():
        for p in network.parameters():
            p.copy_((torch.arange(p.numel()) * 37 % 101 - 50).view_as(p) / 5000)
    steps = torch.optim.Adam(network.parameters())
    for _ in range(5):
        steps.zero_grad()
        nn.functional.cross_entropy(network(images), torch.arange(len(images)) % 10).backward()
        steps.step()
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def changed(name: str) -> list[str]:
    """The computations whose bits differ from those of this machine as it is."""
    command = [sys.executable, "-m", "tests.portable", "--probe"]
    usual, other = (
        json.loads(
            subprocess.run(
                command, cwd=ROOT, env=environment(each), check=True, capture_output=True, text=True
            ).stdout
        )
        for each in ("as-is", name)
    )
    return [what for what in usual if usual[what] != other[what]]


# --- running --------------------------------------------------------------------------------------


def state() -> str:
    """A hash of all files that are computed with."""
    files = sorted(
        p for folder in ("engine", "cache", "pages", "tests") for p in (ROOT / folder).rglob("*.py")
    )
    return hashlib.sha256(
        b"".join(p.read_bytes() for p in files if p.name != "portable.py")
    ).hexdigest()[:16]


def run(name: str, folder: Path, arguments: list[str], marks: str) -> dict:
    """Run the tests under an emulation; returns the row of the table and keeps it in `folder`.

    marks: those that pytest's -m selects.
    """
    report = folder / f"{name}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--ignore=tests/browser",
        "-m",
        marks,
        "--timeout=1800",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *arguments,
    ]
    begun = time.monotonic()
    code = subprocess.run(command, check=False, cwd=ROOT, env=environment(name)).returncode
    if code not in (0, 1):  # pytest's own words stand above
        raise SystemExit(f"{name}: pytest ended with {code}")
    row = {
        "state": state(),
        "tests": arguments,
        "marks": marks,
        "seconds": round(time.monotonic() - begun),
        "date": str(date.today()),
        "differs": changed(name),
        **counted(report),
    }
    (folder / f"{name}.json").write_text(json.dumps(row, indent=1))
    return row


def counted(report: Path) -> dict:
    """Of pytest's report: how many tests passed and were skipped, and the names of those that
    failed.
    """
    cases = list(xml.parse(report).getroot().iter("testcase"))
    kinds = [{child.tag for child in case} for case in cases]
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case, kind in zip(cases, kinds)
        if kind & {"failure", "error"}
    ]
    skipped = sum("skipped" in kind for kind in kinds)
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed}


def done(name: str, folder: Path, arguments: list[str], marks: str) -> dict | None:
    """What an earlier run of the same files and tests has left, or None."""
    path = folder / f"{name}.json"
    row = json.loads(path.read_text()) if path.exists() else {}
    wanted = {"state": state(), "tests": arguments, "marks": marks}
    return row if row.items() >= wanted.items() else None


def processor() -> str:
    """The processor's own name where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: dict[str, dict]) -> str:
    """Markdown."""
    lines = [
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "",
        "| emulation | computations with other bits | passed | failed | skipped | minutes | date |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {', '.join(row['differs']) or 'none'} | {row['passed']:,} |"
            f" {len(row['failed'])} | {row['skipped']} | {row['seconds'] / 60:.0f} |"
            f" {row['date']} |"
        )
    return "\n".join(
        lines + [f"\n{name}: {test}" for name, row in rows.items() for test in row["failed"]]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.portable", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "names", nargs="*", help=f"any of {', '.join(EMULATIONS)}; none: all of them"
    )
    parser.add_argument(
        "--tests", nargs="+", default=["tests"], help="files or tests, as pytest takes them"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the tests of make test, without those of test-full"
    )
    parser.add_argument(
        "--probe", action="store_true", help="only hash what is computed here, as it is"
    )
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(probe()))
        return 0
    if unknown := [name for name in options.names if name not in EMULATIONS]:
        parser.error(f"{unknown[0]} is not an emulation; there are {', '.join(EMULATIONS)}")
    folder, rows = settings.home() / "portable", {}
    which = options.tests, "not full and not hours" if options.quick else "not hours"
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.names or EMULATIONS:
        print(
            f"--- {name}:"
            f" {' '.join(f'{n}={v}' for n, v in EMULATIONS[name].items()) or 'this machine'}",
            flush=True,
        )
        rows[name] = done(name, folder, *which) or run(name, folder, *which)
        (folder / "table.md").write_text(table(rows) + "\n")
    print(f"\n{table(rows)}")
    return int(any(row["failed"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
