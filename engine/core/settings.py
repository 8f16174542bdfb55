"""Environment variables: where Veil stores things, and how many cores it may use.

The command line and the server call `check` once at start-up, so a mistyped variable is reported in
one line instead of causing a failure later.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from engine.core import parameters

CACHE_GIB = 10.0
ADDRESS = re.compile(r"((tcp|tls|ws|wss)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MOST_CORES = 1024  # with many more threads, a process ends without a message
# OpenMP accepts a list, one number per nesting level.
COUNTS = re.compile(r"\s*[1-9]\d{0,5}\s*(,\s*[1-9]\d{0,5}\s*)*")


class Wrong(ValueError):
    """An environment variable has a value that is not allowed; the message is one line."""

    def __init__(self, name: str, problem: str):
        text = os.environ.get(name, "")
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
        super().__init__(
            f"{name}: {text if len(text) <= 60 else text[:57] + '…'} is not allowed; {problem}"
        )


def home() -> Path:
    """Return the folder of the store and all other state (VEIL_HOME, default ./.veil)."""
    return Path(os.environ.get("VEIL_HOME") or ".veil").resolve()


def data_folder() -> Path:
    """Return the folder of the data sets (VEIL_DATA, default ./data)."""
    return Path(os.environ.get("VEIL_DATA") or "data").resolve()


def scheduler() -> str | None:
    """Return the address of a dask scheduler to join (VEIL_SCHEDULER), or None to start our own.

    Raises Wrong.
    """
    address = (os.environ.get("VEIL_SCHEDULER") or "").strip()
    found = ADDRESS.fullmatch(address)
    if address and not (found and 0 < int(found[4]) < 2**16):
        raise Wrong(
            "VEIL_SCHEDULER", "allowed: the address of a dask scheduler, such as tcp://host:8786"
        )
    return address or None


def cache_limit() -> int:
    """Return the most bytes that stored results may take (VEIL_CACHE_GB, in GiB, default 10).

    Raises Wrong.
    """
    text = os.environ.get("VEIL_CACHE_GB") or str(CACHE_GIB)
    try:
        limit = int(parameters.numeral(text) * 2**30)
    except (ValueError, OverflowError):  # no number, or infinite
        limit = 0
    if limit <= 0:
        raise Wrong("VEIL_CACHE_GB", "allowed: a number of GiB above 0, such as 10 or 0.5")
    return limit


def check() -> None:
    """Raise Wrong for the first invalid environment variable; creates and changes nothing."""
    cache_limit()
    scheduler()
    _check_folder("VEIL_HOME", home, os.R_OK | os.W_OK | os.X_OK, "write to")
    _check_folder("VEIL_DATA", data_folder, os.R_OK | os.X_OK, "read")
    for name in THREADS:
        if (text := os.environ.get(name)) and not (COUNTS.fullmatch(text) and _few(text)):
            raise Wrong(name, f"allowed: a whole number of threads, from 1 to {MOST_CORES}")
    asked = os.environ.get("PYTHON_CPU_COUNT")
    if asked and asked != "default" and not (asked.isdecimal() and int(asked) and _few(asked)):
        raise Wrong(
            "PYTHON_CPU_COUNT",
            f"allowed: a whole number of cores, from 1 to {MOST_CORES}, or default",
        )


def _few(text: str) -> bool:
    """Whether no number in the list exceeds MOST_CORES."""
    return all(int(part) <= MOST_CORES for part in text.split(","))


def _check_folder(name: str, folder: Callable[[], Path], access: int, what: str) -> None:
    """Raise Wrong unless the path is a folder, or can become one, with the access that we need."""
    try:
        path = folder()
        there = path.exists()
        nearest = next(above for above in (path, *path.parents) if above.exists())
        if not nearest.is_dir():
            raise Wrong(name, f"{nearest} is a file; allowed: a folder")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: circular links
        raise (
            error
            if isinstance(error, Wrong)
            else Wrong(name, f"{getattr(error, 'strerror', None) or error}; allowed: a folder")
        ) from None
    needed = access if there else os.W_OK | os.X_OK
    if (there or name == "VEIL_HOME") and not os.access(nearest, needed):
        raise Wrong(
            name, f"we may not {what} {nearest}; allowed: a folder that this user may {what}"
        )


def cores() -> int:
    """Return how many cores to compute on, at least 1.

    PYTHON_CPU_COUNT if it is set, otherwise the cores that this process may use, which can be fewer
    than the machine has (containers, taskset). This is what os.process_cpu_count() returns since
    Python 3.13. OMP_NUM_THREADS is ignored because dask sets it to 1.
    """
    asked = os.environ.get("PYTHON_CPU_COUNT", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1
