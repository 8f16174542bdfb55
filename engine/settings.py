"""Where Veil keeps things: three environment variables and their defaults."""

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
