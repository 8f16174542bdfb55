"""Record the results of this code, and compare them after a refactoring.

    python -m bench.golden write FILE
    python -m bench.golden compare FILE

A temporary tool for a change that must not alter any number; it is removed when that change is
done. It covers metrics, the guarantee, and hashes of arrays, images and curves of every study at
its smallest settings, and of every series. It uses one thread and one machine, because results on
another processor differ in the last digits. Random streams are named by purpose and seed only, so
that a renamed field, which changes the key, does not change the draws.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

TINY = {"noise": "quick"}  # presets of studies that have no `tiny`
QUICK = ("dp_training", "kmeans_labels", "noise")  # studies whose default settings are fast enough
REPORT = ("noise",)

VARIANTS: dict[str, list[dict[str, str]]] = {
    "noise": [
        {"epsilon": "10", "label_epsilon": "1"},
        {"calibration": "textbook", "sensitivity": "report"},
    ],
    "noisy_training": [
        {"labels": "kmeans"},
        {"labels": "randomised"},
        {"images": "raw"},
        {"network": "deep"},
        {
            "division": "as_published",
            "normalisation": "as_published",
            "label_noise": "as_published",
        },
    ],
    "kmeans_labels": [{"images": "raw"}, {"normalisation": "as_published"}],
    "iic": [{"images": "raw"}, {"releases": "as_published"}, {"heads": "alternating"}],
    "dp_training": [
        {"private": "false"},
        {"optimizer": "adam"},
        {"optimizer": "adagrad"},
        {"network": "cnn", "batch_size": "200", "epochs": "2"},
        {
            "network": "cnn",
            "activation": "relu",
            "norm": "group",
            "augmentations": "2",
            "momentum": "0.9",
            "averaging": "0.5",
            "epochs": "2",
        },
        {"network": "cnn", "private": "false", "epochs": "1"},
        {"target_epsilon": "", "noise_multiplier": "1"},
    ],
    "audit": [
        {"bug": "no clipping"},
        {"bug": "half the noise"},
        {"bug": "float32 noise"},
        {"bug": "shuffled batches"},
    ],
    "membership": [{"private": "false"}],
    "classifier": [{"private": "true"}],
    "bn_synthesis": [{"private": "true"}, {"class_wise": "true"}, {"forward": "batch"}],
    "student": [{"private": "true"}, {"soft_share": "1"}],
    "gan": [{"private": "false"}, {"labelled": "false"}],
    "dp_merf": [{"private": "false"}],
    "fidelity": [{"source": s} for s in ("dp_merf", "held-out", "copies", "noised", "untrained")],
    "initial_model": [{"optimizer": "sgd"}, {"optimizer": "rmsprop"}],
    "gradient_sharing": [
        {"arm": "none"},
        {"arm": "alone"},
        {"arm": "centralised"},
        {"policy": "random"},
        {"order": "turns"},
        {"order": "asynchronous", "keep_rest": "true"},
        {"noise_multiplier": "1", "participation": "0.5"},
        {"noise_multiplier": "1", "noised_by": "client"},
        {"unevenness": "0.5", "dropout": "0.3"},
    ],
    "inversion": [{"leak_noise": "0.01"}, {"leak_fraction": "0.1", "leak_policy": "random"}],
}
SPEEDS = ("images_per_second", "seconds")
SERIES = (
    "noisy_training walk",
    "dp_training optimizers",
    "dp_training clips",
    "student table",
    "fidelity table",
    "gradient_sharing arms",
    "initial_model table",
)


def first_of(*names: str):
    """The first of these modules that exists; names differ before and after the change."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"none of {', '.join(names)} is there")


def everything() -> dict[str, object]:
    """Name of a case → its study."""
    studies = first_of("engine.studies").STUDIES
    found = {}
    for name, kind in studies.items():
        tiny = TINY.get(name, "tiny" if "tiny" in kind.PRESETS else "quick")
        found[f"{name} {tiny}"] = kind.preset(tiny)
        for changes in VARIANTS.get(name, []):
            words = " ".join(f"{n}={v}" for n, v in changes.items())
            found[f"{name} {tiny} {words}"] = kind.preset(tiny, **changes)
        for preset in [
            *(["quick"] if name in QUICK else []),
            *(["report"] if name in REPORT else []),
        ]:
            found[f"{name} {preset}"] = kind.preset(preset)
    for text in SERIES:
        name, series = text.split()
        for words, study in getattr(studies[name].preset("tiny"), series)().items():
            found[f"{name} series {series}: {words}"] = study
    return found


def record(result) -> dict:
    """The parts of a Result that must not change."""
    import numpy as np

    digest = lambda data: hashlib.sha256(data).hexdigest()[:20]  # noqa: E731
    arrays = {
        n: f"{a.dtype} {a.shape} {digest(np.ascontiguousarray(a).tobytes())}"
        for n, a in result.arrays.items()
    }
    images = {n: digest(png) for n, png in result.images.items()}
    curves = {
        n: digest(json.dumps(points).encode())
        for n, points in result.curves.items()
        if n not in SPEEDS
    }
    promised = {n: v for n, v in asdict(result.guarantee).items() if not isinstance(v, str)}
    return {
        "metrics": {n: v for n, v in result.metrics.items() if n not in SPEEDS},
        "guarantee": promised,
        "arrays": arrays,
        "images": images,
        "curves": curves,
    }


def compute(only: str) -> dict[str, dict]:
    """Name of a case → its record, or the text of its error.

    Run in a process with one thread.
    """
    streams = first_of("engine.core.streams", "engine.core.streams")
    named = streams.derive_seed
    earlier = {"real images": "real pictures"}
    streams.derive_seed = lambda purpose, seed, _="": named(earlier.get(purpose, purpose), seed)
    lab = first_of("engine.core.lab", "engine.core.lab")
    found = {}
    for name, study in everything().items():
        if only not in name:
            continue
        run = lab.Lab(lab.open_store(), threads=1).need(study)
        try:
            while True:
                next(run)
        except StopIteration as end:
            found[name] = record(end.value)
        except Exception as error:  # noqa: BLE001  # a refusal is a result, too
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        print(name, found[name].get("error", ""), file=sys.stderr, flush=True)
    return found


def in_one_thread(only: str) -> dict[str, dict]:
    """Run `compute` in a fresh process with an empty store."""
    with tempfile.TemporaryDirectory() as home:
        threads = dict.fromkeys(
            ("PYTHON_CPU_COUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
        )
        command = [sys.executable, "-m", "bench.golden", "compute", "-", "--only", only]
        done = subprocess.run(
            command,
            env=os.environ | threads | {"VEIL_HOME": home},
            check=True,
            stdout=subprocess.PIPE,
        )
        return json.loads(done.stdout)


def differences(old: dict, new: dict, path: str = "") -> list[str]:
    """The differences between two nested dicts, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = [f"{path} is gone: {n}" for n in old.keys() - new.keys()]
        lines += [f"{path} is new: {n}" for n in new.keys() - old.keys()]
        return lines + [
            line
            for n in old.keys() & new.keys()
            for line in differences(old[n], new[n], f"{path} / {n}")
        ]
    return [] if old == new else [f"{path}: {old} → {new}"]


def main() -> int:
    """Run one action; returns the exit status, 1 if a result differs from the stored one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.golden", description=__doc__.split("\n")[0]
    )
    parser.add_argument("action", choices=["write", "compare", "compute"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    options = parser.parse_args()
    if options.action == "compute":
        print(json.dumps(compute(options.only)))
        return 0
    found = in_one_thread(options.only)
    if options.action == "write":
        options.file.write_text(json.dumps(found, indent=1, sort_keys=True))
        return 0
    stored = {n: r for n, r in json.loads(options.file.read_text()).items() if options.only in n}
    lines = differences(stored, json.loads(json.dumps(found)))
    print("\n".join(sorted(lines)) or f"{len(found)} results are what they were")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
