"""What the environment says: where Veil keeps things, how many cores it may use, and one line for
each variable that is wrong.

`check` is asked once, when the command line or the server starts: whoever has mistyped a variable
reads that, and not what breaks later on its account.
"""

import os
import re
from pathlib import Path

from engine.core import parameters

CACHE_GIB = 10.0
ADDRESS = re.compile(r"((tcp|tls|ws|wss)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MOST_CORES = 1024  # many more threads than that end a process without a word
# OpenMP takes several: one for each level
COUNTS = re.compile(r"\s*[1-9]\d{0,5}\s*(,\s*[1-9]\d{0,5}\s*)*")


class Wrong(ValueError):
    """An environment variable that cannot be what it says, in one line."""

    def __init__(self, name: str, problem: str):
        text = os.environ.get(name, "")
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
        super().__init__(
            f"{name}: {text if len(text) <= 60 else text[:57] + '…'} is not allowed; {problem}"
        )


def home() -> Path:
    """Folder of the store and of all state (VEIL_HOME, default ./.veil)."""
    return Path(os.environ.get("VEIL_HOME") or ".veil").resolve()


def data_folder() -> Path:
    """Folder of the data sets (VEIL_DATA, default ./data)."""
    return Path(os.environ.get("VEIL_DATA") or "data").resolve()


def scheduler() -> str | None:
    """Address of a dask scheduler to join (VEIL_SCHEDULER), or None to start our own.

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
    """The most bytes that stored results may take (VEIL_CACHE_GB, in GiB, default 10).

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
    """Raises Wrong for the first environment variable that is wrong. Nothing is made or changed."""
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
    """No number among them is above MOST_CORES."""
    return all(int(part) <= MOST_CORES for part in text.split(","))


def _check_folder(name: str, folder, access: int, what: str) -> None:
    """Raises Wrong where it is no folder and cannot become one, or where we may not do with it what
    we must.
    """
    try:
        path = folder()
        there = path.exists()
        nearest = next(above for above in (path, *path.parents) if above.exists())
        if not nearest.is_dir():
            raise Wrong(name, f"{nearest} is a file; allowed: a folder")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
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
    """How many cores to compute on, at least 1: as many as PYTHON_CPU_COUNT says, else those that
    this process may run on (which may be fewer than the machine has: a container's, taskset's).
    What os.process_cpu_count() says since Python 3.13. Not OMP_NUM_THREADS: dask sets that to 1.
    """
    asked = os.environ.get("PYTHON_CPU_COUNT", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1
