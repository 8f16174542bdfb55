"""Store: results on disk under string keys, shared by threads and processes.

It handles bytes and knows nothing of studies.

    folder/values/     one file per value (see codec), named by the SHA-256 of its key, which is
                       also inside; its modification time is its last use
    folder/index/      diskcache's table, key → size: to list, count and evict without reading files
    folder/damaged/    values that failed their checksum, set aside
    folder/locks/      one empty file for each key that is being computed now
    folder/new         a value that is being written, by whoever holds new.lock
    folder/store.lock  held by whoever uses the index, or moves or deletes a value

The files are the truth. A value is flushed to the disk before it is renamed to its place, so
readers, who need no lock, find the old value or the new one. The index can be lost: it is compared
with the files when a store is opened, and built anew from them if it is missing, broken or
different.

An older version kept values under random names, and its index in cache.db. When such a store is
first opened, its values are renamed and its other files are deleted (`Store._fill`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np

from cache import codec
from cache.index import BROKEN, FILE, PATIENCE, Index, is_full, is_key

DEFAULT_BYTES = 10 * 2**30
KEPT_DAMAGED = 100  # files kept in damaged/, the newest
OLD_FILES = ("cache.db*", "guard.lock", "gate.lock")  # of the older version, beside its values
Answer = TypeVar("Answer")
Content = tuple[dict[str, Any], dict[str, np.ndarray]]  # plain, arrays
FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unusable(OSError):
    """The store's folder cannot be used; the message is written for the user."""

    strerror: str

    def __str__(self) -> str:
        return self.strerror


class Full(Unusable):
    """The disk (or the store's own limit) has no room for a value; stored ones stay readable."""


@dataclass(frozen=True)
class Stats:
    """Size and limit of a store.

    entries: number of values stored.
    bytes: their total size.
    limit: in bytes.
    damaged: number of files set aside.
    """

    entries: int
    bytes: int
    limit: int
    damaged: int
    folder: Path


class Turn:
    """The right to compute one key, held by one owner at a time on this machine.

    If the owner dies, the kernel releases it.
    """

    def __init__(self, path: Path):
        self.acquired, self._path = False, path
        self._lock = filelock.FileLock(path, mode=0o600, thread_local=False, poll_interval=0.02)
        self.poll(0)

    def poll(self, seconds: float = 0.2) -> bool:
        """Try to get the turn, for at most that many seconds; returns whether it is ours."""
        if not self.acquired:
            try:
                self._lock.acquire(timeout=seconds)
            except filelock.Timeout:
                return False
            except OSError as error:
                # no room even for an empty file: better computed twice than not at all
                if error.errno not in FULL_ERRNO:
                    raise
            self.acquired = True
        return self.acquired

    def wait(self, check: Callable[[], object] = lambda: None, every: float = 0.2) -> None:
        """Wait until the turn is ours, calling `check` repeatedly.

        An exception raised by `check` ends the wait.
        """
        while not self.poll(every):
            check()

    def release(self) -> None:
        """Give the turn up; its file is deleted while it is still locked.

        filelock gives nobody a turn on a deleted file: who had opened it before opens a new one.
        """
        if self._lock.is_locked:
            _remove(self._path)
            self._lock.release()
        self.acquired = False


class Store:
    """Results by key.

    Safe to use from many threads and processes at once, and can be sent to another process.

    `Store(folder)` creates the folder (0700) if it is missing. The default limit is 10 GiB. Raises
    Unusable if the folder cannot be used; a broken index is silently replaced.
    """

    def __init__(self, folder: Path | str, size_limit_bytes: int | None = None):
        self.folder = Path(folder).absolute()
        self.limit = DEFAULT_BYTES if size_limit_bytes is None else int(size_limit_bytes)
        self._index: Index | None = None
        self._inode = 0  # of the index's file
        self._run(len)

    def __reduce__(self) -> tuple[type[Store], tuple[Path, int]]:
        return Store, (self.folder, self.limit)

    def get(self, key: str) -> Content | None:
        """Return (plain, arrays), or None.

        A damaged value counts as a miss: it is set aside, and the others stay.
        """
        try:
            found = self._read(key)
        except (FileNotFoundError, codec.Damaged):
            return self._run(partial(self._read_or_set_aside, key=key))
        with suppress(OSError):  # it may have been deleted in the meantime
            _set_last_use(self._path(key))
        return found

    def put(self, key: str, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Store a value, replacing an older one.

        Evicts the least recently used values once the limit is exceeded.

        Raises Full (values stored before stay readable), and TypeError or ValueError for what
        cannot be stored.
        """
        _name(key)
        raw = codec.encode(plain, arrays, key)
        if len(raw) > self.limit:
            raise Full(
                errno.EFBIG,
                f"This result ({len(raw):,} bytes) is larger than all that the store may hold "
                f"({self.limit:,} bytes): it was not stored. Raise VEIL_CACHE_GB.",
            )
        # one writer at a time, so what a killed one leaves is overwritten by the next
        with self._explained(), self._lock("new.lock"):
            new = self.folder / "new"
            try:
                with open(new, "wb", opener=partial(os.open, mode=0o600)) as file:
                    file.write(raw)
                    file.flush()
                    os.fsync(file.fileno())
                self._run(partial(self._place, key=key, new=new))
            finally:
                _remove(new)

    def delete(self, key: str) -> bool:
        """Delete a value; returns False if there was none."""
        existed = key in self
        self._run(partial(self._drop, key=key))
        return existed

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def keys(self) -> list[str]:
        """Return the keys, in the order in which they were entered."""
        return self._run(list)

    def clear(self) -> int:
        """Delete everything, including damaged values; returns how many values there were."""
        count = len(self.keys())
        self._run(self._empty)
        return count

    def stats(self) -> Stats:
        """Return how much is stored, and the limit."""
        entries, size = self._run(Index.totals)
        return Stats(entries, size, self.limit, len(self._damaged()), self.folder)

    def verify(self) -> tuple[list[str], list[str]]:
        """Read every value; returns (keys of good values, keys of damaged ones, now set aside).

        Values on disk that have lost their index entry are entered again.
        """
        found: dict[str, bool | None] = {}
        for _ in range(2):  # the second time for what a new index may have found
            for key in self.keys():
                if key not in found:
                    found[key] = self._run(partial(self._is_good, key=key))
            self._run(self._compare)
        good = [key for key, is_good in found.items() if is_good]
        return good, [key for key, is_good in found.items() if is_good is False]

    @contextmanager
    def computing(self, key: str) -> Iterator[Turn]:
        """Take the turn to compute a key; only one owner at a time holds it.

        Entering never blocks: check `turn.acquired`, then use `turn.poll()` or `.wait()`.

        The turn is released at the end of the block, and by the kernel when its owner dies. Look
        into the store again once the turn is yours: the value may be there by then.
        """
        name = _name(key)
        with self._explained():
            turn = Turn(_private(self.folder / "locks") / name)
        try:
            yield turn
        finally:
            turn.release()

    # --- actions under the lock, which can be repeated with another index -------------------------

    def _place(self, index: Index, key: str, new: Path) -> None:
        """Move a new value to its place, and evict others if it is one too many."""
        path = self._path(key)
        _private(path.parent)
        index.set(key, new.stat().st_size)
        self._evict(index, spared=key)
        _set_last_use(new)
        new.replace(path)

    def _evict(self, index: Index, spared: str) -> None:
        """Delete the least recently used values, but never the spared one, down to the limit."""
        excess = index.totals()[1] - self.limit
        others = [key for key in index if key != spared] if excess > 0 else []
        for key in sorted(others, key=lambda key: _last_use(self._path(key))):
            if excess > 0:
                excess -= index.get(key, 0)
                self._drop(index, key)

    def _drop(self, index: Index, key: str) -> None:
        _remove(self._path(key))  # first: the index may need the room
        index.delete(key)

    def _empty(self, index: Index) -> None:
        for path in [*self._files(), *self._damaged()]:
            _remove(path)
        index.clear()

    def _is_good(self, index: Index, key: str) -> bool | None:
        """Whether a value is intact; None if it was deleted in the meantime."""
        return self._read_or_set_aside(index, key) is not None if key in index else None

    def _read_or_set_aside(self, index: Index, key: str) -> Content | None:
        """Read a value while nobody can replace it; a missing or damaged one leaves the index."""
        try:
            return self._read(key)
        except (FileNotFoundError, codec.Damaged):
            index.delete(key)
            self._set_aside(self._path(key))
            return None

    # --- files ------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        """Return where the value of a key is kept; raises ValueError for what is no key."""
        name = _name(key)
        return self.folder / "values" / name[:2] / f"{name[2:]}.val"

    def _read(self, key: str) -> Content:
        """Return a value; raises FileNotFoundError and codec.Damaged. Needs no lock."""
        try:
            raw = self._path(key).read_bytes()
        except (IsADirectoryError, PermissionError) as error:
            raise codec.Damaged(f"the file cannot be read ({error.strerror})") from error
        return codec.decode(raw, key)

    def _files(self) -> dict[Path, int]:
        """Return the values on disk, with their sizes."""
        return {path: path.lstat().st_size for path in self.folder.glob("values/*/*.val")}

    def _damaged(self) -> list[Path]:
        """Return the files that were set aside, oldest first."""
        return sorted((self.folder / "damaged").glob("*"))

    def _set_aside(self, path: Path) -> None:
        with suppress(OSError):  # missing, or no room for another directory entry: then delete it
            path.rename(self.folder / "damaged" / f"{time.time_ns()}-{path.name}")
        for each in (path, *self._damaged()[:-KEPT_DAMAGED]):
            _remove(each)

    # --- the lock and the index -------------------------------------------------------------------

    def _run(self, action: Callable[[Index], Answer]) -> Answer:
        """Return action(index), run under the lock.

        If the index turns out to be broken, it is built anew and the action is repeated. Raises
        Full, Unusable, and whatever else the action raises.
        """
        with self._explained(), self._lock("store.lock"):
            try:
                return action(self._opened())
            except BROKEN as error:
                if is_full(error):
                    raise
                _remove(self.folder / "index")
            return action(self._opened())

    def _lock(self, name: str) -> filelock.BaseFileLock:
        _private(self.folder)
        return filelock.FileLock(self.folder / name, PATIENCE, 0o600, poll_interval=0.005)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the system and of the index into Full and Unusable."""
        try:
            yield
        except Unusable:
            raise
        except filelock.Timeout as error:
            said = f"Another process has been writing to {self.folder} for a minute."
            raise Unusable(errno.EBUSY, said) from error
        except (OSError, *BROKEN) as error:
            code = getattr(error, "errno", errno.EIO)
            why = getattr(error, "strerror", None) or repr(error)
            if code in FULL_ERRNO or is_full(error):
                raise Full(
                    errno.ENOSPC,
                    "The disk is full: the result was not stored. Free some space where "
                    f"{self.folder} is, or delete stored results. What was stored before is still "
                    "there.",
                ) from error
            raise Unusable(
                code,
                f"Results cannot be kept in {self.folder}: {why}. Choose another folder with "
                "VEIL_HOME, or make this one writable.",
            ) from error

    def _opened(self) -> Index:
        """Return the index on disk; it is opened anew if somebody has replaced it."""
        database = self.folder / "index" / FILE
        is_new = not database.exists()
        if is_new:
            for name in ("values", "damaged", "locks", "index"):
                _private(self.folder / name)
            database.touch(0o600)  # SQLite gives its journal the same mode
        inode = database.stat().st_ino
        if is_new or self._index is None or inode != self._inode:
            self._inode = 0  # of none: this index is not used before it is complete
            self._index = Index(database.parent)
            if is_new:
                self._fill(self._index)
            else:
                self._compare(self._index)
            self._inode = inode
        return self._index

    def _compare(self, index: Index) -> None:
        """Raise sqlite3.DatabaseError unless the index has exactly the values on disk."""
        files = self._files()
        entries = {self._path(key): index.get(key) for key in index}
        if entries != files or index.totals() != (len(files), sum(files.values())):
            raise sqlite3.DatabaseError("the index does not agree with the values")

    def _fill(self, index: Index) -> None:
        """Enter all values on disk, those of an older version under their new names."""
        for pattern in OLD_FILES:
            for path in self.folder.glob(pattern):
                _remove(path)
        newest: dict[str, Path] = {}
        for path in sorted(self._files(), key=_last_use):
            if (key := self._key_inside(path)) is not None:
                if key in newest:
                    _remove(newest[key])
                newest[key] = path
        with index.transact():
            for key, path in newest.items():
                _private(self._path(key).parent)
                index.set(key, path.stat().st_size)
                path.replace(self._path(key))

    def _key_inside(self, path: Path) -> str | None:
        """Return the key in a value's file; a file without a key is set aside."""
        try:
            with path.open("rb") as file:
                beginning = file.read(codec.HEADER + codec.LONGEST_KEY)
            key = codec.key_of(beginning, path.stat().st_size)
            _name(key)
            return key
        except (OSError, ValueError):
            self._set_aside(path)
            return None


# --- small helpers --------------------------------------------------------------------------------


def _name(key: str) -> str:
    """Return the name of a key's files; raises ValueError for what is no key."""
    if not is_key(key):
        raise ValueError(f"not a key: {key!r:.60}")
    return hashlib.sha256(key.encode()).hexdigest()


def _set_last_use(path: Path) -> None:
    """Set a file's last use to now, which the clock of a file system knows less precisely."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def _last_use(path: Path) -> int:
    """Return when a file was last used, in nanoseconds; 0 if it is missing."""
    with suppress(OSError):
        return path.lstat().st_mtime_ns
    return 0


def _private(folder: Path) -> Path:
    """Create a folder that only its owner can enter; raises OSError."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 != 0o700:
        folder.chmod(0o700)
    return folder


def _remove(path: Path) -> None:
    """Delete a file or a folder, if possible."""
    shutil.rmtree(path, ignore_errors=True)  # does nothing to a file
    with suppress(OSError):
        path.unlink()
