"""The store's index, key → size: diskcache's SQLite table, with keys and sizes in it alone.

diskcache unpickles what it reads (CVE-2025-69872). Its Disk is therefore replaced by one that can
neither pickle nor unpickle, and opens no file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DBNAME as FILE

__all__ = ["BROKEN", "FILE", "PATIENCE", "Index", "KeysAndSizes", "is_full", "is_key"]

PATIENCE = 60.0  # seconds to wait for another process that is writing

# The journal file is persistent: its blocks exist already when the disk is full, so deleting and
# opening still work then, which WAL cannot guarantee. No memory map: a truncated file would cause a
# SIGBUS. No waiting for the disk (synchronous 0): an index broken by a power failure is rebuilt.
# Eviction is done here, because diskcache evicts ten entries at a time, including the new one.
SETTINGS = {
    "cull_limit": 0,
    "eviction_policy": "none",
    "sqlite_journal_mode": "persist",
    "sqlite_mmap_size": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_synchronous": 0,
}
FULL_SQLITE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
)
BROKEN = (sqlite3.Error, diskcache.Timeout)  # what diskcache raises for a full disk, too


class KeysAndSizes(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """What the index may hold: keys of text, and numbers of bytes.

    Anything else is a TypeError on writing and a broken index on reading.
    """

    def put(self, key: Any) -> tuple[str, bool]:
        """Convert a key to a column."""
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """Convert a column to a key, where diskcache would unpickle it."""
        if not is_key(key):
            raise sqlite3.DatabaseError("a key in the index is not text")
        return str(key)

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[Any, ...]:
        """Convert a size to columns, the first of which is what diskcache adds up."""
        if type(value) is not int:
            raise TypeError("values are sizes")
        return value, *super().store(value, read)[1:]

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> int:
        """Convert columns to a size, where diskcache would open a file or unpickle it."""
        if type(value) is not int:
            raise sqlite3.DatabaseError("a size in the index is not a number")
        return value

    def remove(self, file_path: Any) -> None:
        """Delete nothing: the index names no files."""


class Index(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """A table in a folder of its own; where it is broken, it raises one of BROKEN."""

    def __init__(self, folder: Path):
        try:
            super().__init__(str(folder), timeout=PATIENCE, disk=KeysAndSizes, **SETTINGS)
        except (OSError, MemoryError, sqlite3.Error):
            raise
        except Exception as error:  # nearly any, if the settings in the table were tampered with
            raise sqlite3.DatabaseError(f"{type(error).__name__}: {error}") from error

    def totals(self) -> tuple[int, int]:
        """Return the number of values and of their bytes, which SQLite's triggers keep."""
        return len(self), self.reset("size")


def is_full(error: BaseException | None) -> bool:
    """Whether an SQLite error is about a full disk.

    diskcache hides it behind a Timeout, or behind a ROLLBACK that also failed.
    """
    while isinstance(error, BROKEN):
        if getattr(error, "sqlite_errorcode", None) in FULL_SQLITE:
            return True
        error = error.__context__
    return False


def is_key(key: Any) -> bool:
    """Whether a key is one short printable line."""
    return type(key) is str and 0 < len(key) <= 500 and key.isprintable()
