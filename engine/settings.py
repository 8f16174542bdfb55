"""What the environment says: where Veil keeps things, and how many cores it may use."""

import os
from pathlib import Path


def home() -> Path:
    """Folder of the store and of all state (VEIL_HOME, default ./.veil)."""
    return Path(os.environ.get("VEIL_HOME") or ".veil").resolve()


def data_folder() -> Path:
    """Folder of the data sets (VEIL_DATA, default ./data)."""
    return Path(os.environ.get("VEIL_DATA") or "data").resolve()


def scheduler() -> str | None:
    """Address of a dask scheduler to join (VEIL_SCHEDULER), or None to start our own."""
    return os.environ.get("VEIL_SCHEDULER") or None


def cores() -> int:
    """How many cores to compute on, at least 1: as many as PYTHON_CPU_COUNT says, else those that
    this process may run on (which may be fewer than the machine has: a container's, taskset's).
    What os.process_cpu_count() says since Python 3.13. Not OMP_NUM_THREADS: dask sets that to 1.
    """
    asked = os.environ.get("PYTHON_CPU_COUNT", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1
