"""Store: results on disk under string keys, shared by threads and processes.

It handles bytes and knows nothing of studies.

    folder/cache.db   diskcache's SQLite table: key → file, size, last use. Only an index: it can
                      be rebuilt.
    folder/values/    one file per value (see codec), with its key inside
    folder/damaged/   values that failed their checksum, set aside
    folder/locks/     one empty file for each key that is being computed now

diskcache unpickles what it reads (CVE-2025-69872). Its Disk is therefore replaced by one that can
neither pickle nor unpickle: whatever the table contains, reading returns nothing but the bytes of a
file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, TypeVar

import diskcache
import numpy as np
from diskcache.core import DBNAME, MODE_BINARY, UNKNOWN

from cache import codec

DEFAULT_BYTES = 10 * 2**30
KEPT_DAMAGED = 100  # files kept in damaged/, the newest
# Seconds between two updates of a value's last use, so that reads seldom write.
USED_AFTER = 60.0
PATIENCE = 60.0  # seconds to wait for another process that is writing
# Modes of the guard lock: users share it, a process that rebuilds the index holds it exclusively.
SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX
Answer = TypeVar("Answer")
COMPLETE = 1  # SQLite's user_version of an index that holds all values on disk

# The journal file is persistent: its blocks exist already when the disk is full, so reading,
# deleting and opening still work then, which WAL cannot guarantee. No memory map: a truncated file
# would cause a SIGBUS. No waiting for the disk (synchronous 0): a process that dies loses nothing
# by that, and an index broken by a power failure is rebuilt. Eviction by least recent use is done
# here, because diskcache evicts ten entries at a time, including the new one.
SETTINGS = {
    "size_limit": 2**62,
    "cull_limit": 0,
    "eviction_policy": "least-recently-used",
    "statistics": 0,
    "disk_min_file_size": 0,
    "sqlite_journal_mode": "persist",
    "sqlite_mmap_size": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_synchronous": 0,
}

FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_SQLITE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
)
BUSY_SQLITE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
BROKEN_SQLITE = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_IOERR_SHORT_READ,
)


class Full(OSError):
    """The disk (or the store's own limit) has no room for a value.

    Values stored before stay readable.
    """

    strerror: str

    def __str__(self) -> str:
        return self.strerror


class Unusable(OSError):
    """The store's folder cannot be used; the message is written for the user."""

    strerror: str

    def __str__(self) -> str:
        return self.strerror


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


class Row(NamedTuple):
    """One entry of the index as read, not yet validated."""

    rowid: int
    key: Any
    raw: Any
    mode: Any
    filename: Any
    value: Any
    used: Any


# --- what diskcache is allowed to do --------------------------------------------------------------


class Placed(str):
    """The name of a value's file that is already in place, relative to the store's folder."""

    PATTERN = re.compile(r"values/[0-9a-f]{2}/[0-9a-f]{30}\.val")


class BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Text keys, and values that are files; refuses everything else on writing and on reading."""

    def put(self, key: Any) -> tuple[str, bool]:
        """Convert a key to a column; raises TypeError for a key that is not text."""
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """Convert a column to a key; raises codec.Damaged where diskcache would have unpickled."""
        if type(key) is not str or raw != 1:
            raise codec.Damaged("the key is not text")
        return key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str, None]:
        """Convert a placed file to columns (size, mode, filename, value).

        Raises TypeError for anything else.
        """
        if type(value) is not Placed:
            raise TypeError("values are files in their place")
        return os.path.getsize(self.path(value)), MODE_BINARY, str(value), None

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:
        """Convert columns to the file's bytes.

        Raises FileNotFoundError, and codec.Damaged for any other mode or place.
        """
        if mode != MODE_BINARY or value is not None or not self.owns(filename):
            raise codec.Damaged("the entry is not a file of bytes")
        try:
            return self.path(filename).read_bytes()
        except (IsADirectoryError, PermissionError) as error:
            raise codec.Damaged(f"the file cannot be read ({error.strerror})") from error

    def remove(self, file_path: Any) -> None:
        """Delete a value's file; anything else that the table may name is left alone."""
        if self.owns(file_path):
            with suppress(OSError):
                self.path(file_path).unlink()

    def write(self, raw: bytes) -> Placed:
        """Write bytes to a new file; raises OSError and leaves nothing half-written behind."""
        name = os.urandom(16).hex()
        placed = Placed(f"values/{name[:2]}/{name[2:]}.val")
        path = self.path(placed)
        path.parent.parent.mkdir(0o700, exist_ok=True)
        path.parent.mkdir(0o700, exist_ok=True)
        try:
            with os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(raw)
        except BaseException:
            self.remove(placed)
            raise
        return placed

    def owns(self, filename: Any) -> TypeGuard[str]:
        """Whether this class created the file name in the table (unlike, say, ../../etc/passwd)."""
        return isinstance(filename, str) and Placed.PATTERN.fullmatch(filename) is not None

    def path(self, filename: str) -> Path:
        """Return the full path of a value's file, named relative to the store's folder."""
        return Path(self._directory) / filename


class Index(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """diskcache's table and transactions, with read-only lookups and a safe eviction.

    Eviction never removes the newest value. Never call its methods with retry=True: on a full disk
    they would loop forever.
    """

    disk: BytesDisk
    COLUMNS = "SELECT rowid, key, raw, mode, filename, value, access_time FROM Cache"

    def find(self, key: str) -> Row | None:
        """Return the entry of a key, or None."""
        rows = self._sql(f"{self.COLUMNS} WHERE key = ? AND raw = 1", (key,)).fetchall()
        return Row(*rows[0]) if rows else None

    def rows(self) -> list[Row]:
        """Return all entries, ordered by rowid."""
        return [Row(*row) for row in self._sql(f"{self.COLUMNS} ORDER BY rowid").fetchall()]

    def bytes_of(self, row: Row) -> bytes:
        """Return the bytes of an entry; raises FileNotFoundError and codec.Damaged."""
        return self.disk.fetch(row.mode, row.filename, row.value, False)

    def content(self, row: Row) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return (plain, arrays) of an entry; raises FileNotFoundError and codec.Damaged."""
        return codec.decode(self.bytes_of(row), self.disk.get(row.key, row.raw))

    def whole(self, row: Row) -> bool:
        """Whether the value of an entry can be read and is intact."""
        try:
            self.content(row)
        except (FileNotFoundError, codec.Damaged):
            return False
        return True

    def drop(self, rowid: int) -> Row | None:
        """Remove a damaged entry from the index; its file stays.

        Returns None if it has been replaced by an intact one in the meantime.
        """
        with self._transact() as (sql, _):
            rows = sql(f"{self.COLUMNS} WHERE rowid = ?", (rowid,)).fetchall()
            if not rows or self.whole(Row(*rows[0])):
                return None
            sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
        return Row(*rows[0])

    def note_use(self, row: Row) -> None:
        """Set an entry's time of last use to now."""
        with self._transact() as (sql, _):
            sql("UPDATE Cache SET access_time = ? WHERE rowid = ?", (time.time(), row.rowid))

    def total(self) -> tuple[int, int]:
        """Return (number of entries, total bytes of their values)."""
        totals = self._sql("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM Cache").fetchall()
        entries_and_bytes: tuple[int, int] = totals[0]
        return entries_and_bytes

    def evict(self, limit: int, spared: str) -> None:
        """Delete the least recently used values until at most `limit` bytes are kept.

        The value just stored (`spared`) is never deleted.
        """
        if self.total()[1] <= limit:
            return
        with self._transact() as (sql, remove):
            excess = self.total()[1] - limit
            others = (
                "SELECT rowid, size, filename FROM Cache WHERE NOT (key = ? AND raw = 1) ORDER BY"
                " access_time"
            )
            for rowid, size, filename in sql(others, (spared,)).fetchall():
                if excess <= 0:
                    break
                sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                remove(filename)
                excess -= size

    def check(self) -> None:
        """Raise sqlite3.DatabaseError if the file is not, or no longer, an intact index."""
        self._sql(f"{self.COLUMNS} LIMIT 1").fetchall()
        if (answer := self._sql("PRAGMA integrity_check(1)").fetchall()) != [("ok",)]:
            raise sqlite3.DatabaseError(str(answer))

    def is_complete(self) -> bool:
        """Whether the index is marked as holding all values on disk."""
        rows: list[tuple[int]] = self._sql("PRAGMA user_version").fetchall()
        return rows == [(COMPLETE,)]

    def set_complete(self) -> None:
        """Mark the index as holding all values on disk."""
        self._sql(f"PRAGMA user_version = {COMPLETE}")


def _connect(folder: Path) -> Index:
    """Open the index in a folder.

    Raises sqlite3.Error, or nearly any exception if its settings were tampered with.
    """
    path = folder / DBNAME
    with suppress(OSError):  # create it first, since SQLite gives its journal the database's mode
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    with suppress(OSError):
        path.chmod(0o600)
    index = Index(str(folder), timeout=PATIENCE, disk=BytesDisk, **SETTINGS)
    try:
        index.check()
    except BaseException:
        index.close()
        raise
    return index


# --- taking turns ---------------------------------------------------------------------------------


class Turn:
    """The right to compute one key, held by one owner at a time on this machine.

    If the owner dies, the kernel releases it.
    """

    def __init__(self, path: Path):
        self.acquired, self._path = False, path
        self._file: int | None = None  # open while the turn is ours
        self.poll(0)

    def poll(self, seconds: float = 0.2) -> bool:
        """Try to get the turn, for at most that many seconds; returns whether it is ours."""
        end = time.monotonic() + seconds
        while not (self.acquired or self._try()) and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.02, left))
        return self.acquired

    def wait(self, check: Callable[[], object] = lambda: None, every: float = 0.2) -> None:
        """Wait until the turn is ours, calling `check` repeatedly.

        An exception raised by `check` ends the wait.
        """
        while not self.poll(every):
            check()

    def release(self) -> None:
        """Give the turn up; the file is deleted first, while it is still locked (see _try)."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
        self.acquired, self._file = False, None

    def _try(self) -> bool:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if error.errno not in FULL_ERRNO:
                raise
            # no room even for an empty file: better computed twice than not at all
            self.acquired = True
            return True
        if _flock(file, fcntl.LOCK_EX) and _is_at(file, self._path):
            self.acquired, self._file = True, file
        else:  # taken by another owner, or deleted by its owner between our open and our lock
            os.close(file)
        return self.acquired


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether a path still refers to an open file."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


# --- the store ------------------------------------------------------------------------------------


class Store:
    """Results by key.

    Safe to use from many threads and processes at once, and can be sent to another process.

    `Store(folder)` creates the folder (0700) if it is missing. The default limit is 10 GiB. Raises
    Unusable if the folder cannot be used; a broken index is silently set aside and rebuilt.
    """

    def __init__(self, folder: Path | str, size_limit_bytes: int | None = None):
        self.folder = Path(folder).absolute()
        self.limit = DEFAULT_BYTES if size_limit_bytes is None else int(size_limit_bytes)
        self._lock = threading.RLock()
        self._index, self._inode = self._open()

    def __reduce__(self) -> tuple[type[Store], tuple[Path, int]]:
        return Store, (self.folder, self.limit)

    def get(self, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """Return (plain, arrays), or None.

        A damaged value counts as a miss: it is set aside, and the others stay.
        """
        _check_key(key)
        # a file may be replaced or evicted between reading its entry and its bytes, so try again
        for _ in range(3):
            row = self._run(lambda index: index.find(key))
            if row is None:
                return None
            try:
                found = self._run(partial(Index.content, row=row))
            except (FileNotFoundError, codec.Damaged):
                self._set_aside(row)
                continue
            self._note_use(row)
            return found
        return None

    def put(self, key: str, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Store a value, replacing an older one.

        Evicts the least recently used values once the limit is exceeded.

        Raises Full (values stored before stay readable), and TypeError or ValueError for what
        cannot be stored.
        """
        raw = codec.encode(plain, arrays, _check_key(key))
        if len(raw) > self.limit:
            raise Full(
                errno.EFBIG,
                f"This result ({len(raw):,} bytes) is larger than all that the store may hold "
                f"({self.limit:,} bytes): it was not stored. Raise VEIL_CACHE_GB.",
            )
        self._run(lambda index: self._write(index, key, raw))
        self._run(lambda index: index.evict(self.limit, key))

    def delete(self, key: str) -> bool:
        """Delete a value; returns False if there was none."""
        _check_key(key)
        deleted: bool = self._run(lambda index: index.delete(key))
        return deleted

    def __contains__(self, key: str) -> bool:
        row = self._run(lambda index: index.find(_check_key(key)))
        return (
            row is not None
            and self._index.disk.owns(row.filename)
            and (self.folder / row.filename).exists()
        )

    def keys(self) -> list[str]:
        """Return the keys, oldest first."""
        return [row.key for row in self._run(Index.rows) if type(row.key) is str and row.raw == 1]

    def clear(self) -> int:
        """Delete everything, including damaged values; returns how many values there were."""
        for path in self._damaged():
            path.unlink(missing_ok=True)
        count: int = self._run(lambda index: index.clear())
        return count

    def stats(self) -> Stats:
        """Return how much is stored, and the limit."""
        entries, size = self._run(Index.total)
        return Stats(entries, size, self.limit, len(self._damaged()), self.folder)

    def verify(self) -> tuple[list[str], list[str]]:
        """Read every value; returns (keys of good values, keys of damaged ones, now set aside).

        Values on disk that have lost their index entry are first entered again.
        """
        self._run(self._salvage, ALONE)
        good, damaged = [], []
        for row in self._run(Index.rows):
            if self._run(partial(Index.whole, row=row)):
                good.append(row.key)
            elif self._set_aside(row):
                damaged.append(str(row.key))
        return good, damaged

    @contextmanager
    def computing(self, key: str) -> Iterator[Turn]:
        """Take the turn to compute a key; only one owner at a time holds it.

        Entering never blocks: check `turn.acquired`, then use `turn.poll()` or `.wait()`.

        The turn is released at the end of the block, and by the kernel when its owner dies (a
        forked child of the owner that is still alive keeps it). Look into the store again once the
        turn is yours: the value may be there by then.
        """
        turn = Turn(
            _private(self.folder / "locks") / hashlib.sha256(_check_key(key).encode()).hexdigest()
        )
        try:
            yield turn
        finally:
            turn.release()

    # --- the index, and what to do when it is broken ----------------------------------------------

    def _run(self, action: Callable[[Index], Answer], guard: int = SHARED) -> Answer:
        """Return action(index), run under the guard.

        If the index turns out to be broken, it is rebuilt and the action is tried again.

        Raises Full, Unusable, and whatever the action raises itself. Reading needs the guard too: a
        process that still has a replaced index open would mistake the new index's journal, which
        has the same name, for its own.
        """
        broken = ""
        for _ in range(6):  # it may break again, or another process may replace it, in the meantime
            index = self._current()
            try:
                with self._guard(guard):
                    if index is self._unless_replaced():
                        return action(index)
            except (sqlite3.Error, diskcache.Timeout) as error:
                index.close()  # rolls back whatever this thread had begun
                broken = _broken_or_raise(error, self.folder)
            else:
                continue  # another process or thread has rebuilt it in the meantime
            self._reopen(index)
        raise Unusable(
            errno.EIO, f"The index of {self.folder} breaks again and again: {broken or 'replaced'}"
        )

    def _write(self, index: Index, key: str, raw: bytes) -> None:
        try:
            placed = index.disk.write(raw)
        except OSError as error:
            raise (
                _full(self.folder) if error.errno in FULL_ERRNO else _unusable(self.folder, error)
            ) from error
        try:
            index.set(key, placed)
        except BaseException:
            index.disk.remove(placed)
            raise

    def _note_use(self, row: Row) -> None:
        """Record the last use if possible; on a full disk, values stay readable without it."""
        if not isinstance(row.used, float) or time.time() - row.used > USED_AFTER:
            with suppress(OSError):
                self._run(lambda index: index.note_use(row))

    def _unless_replaced(self) -> Index | None:
        """Return the open index, or None if the file on disk is a different one."""
        return self._index if self._inode_now() == self._inode else None

    def _current(self) -> Index:
        """Return the index on disk, reopened if it was replaced by another process or deleted."""
        index = self._unless_replaced()
        return self._reopen(None) if index is None else index

    def _reopen(self, broken: Index | None) -> Index:
        with self._lock:
            index = self._unless_replaced()
            if index is None or index is broken:
                self._index, self._inode = self._open(None if index is None else self._inode)
            return self._index

    def _open(self, broken: int | None = None) -> tuple[Index, int | None]:
        """Open the index; returns (index, its inode).

        A broken index, identified by its inode or found to be broken now, is set aside and rebuilt.
        """
        for name in (".", "values", "damaged", "locks"):
            _private(self.folder / name)
        with self._guard(ALONE):
            if broken is not None and broken == self._inode_now():
                self._set_index_aside()
            attempts = (self._connect_or_set_aside() for _ in range(3))
            if (index := next((index for index in attempts if index is not None), None)) is None:
                raise Unusable(errno.EIO, f"No index can be made in {self.folder}.")
            if not index.is_complete():
                self._salvage(index)
                index.set_complete()
            return index, self._inode_now()

    def _connect_or_set_aside(self) -> Index | None:
        try:
            return _connect(self.folder)
        except (OSError, MemoryError):
            raise
        # nearly any exception, if diskcache's settings were tampered with
        except Exception as error:
            _broken_or_raise(error, self.folder)
            self._set_index_aside()
            return None

    def _inode_now(self) -> int | None:
        try:
            inode: int = (self.folder / DBNAME).stat().st_ino
        except OSError:
            return None
        return inode

    @contextmanager
    def _guard(self, kind: int) -> Iterator[None]:
        """Hold the folder's guard, SHARED or ALONE; raises Unusable after a minute.

        Everyone passes through one gate first. A process that waits there for ALONE holds newcomers
        back, so they cannot starve it.
        """
        with self._lock_file("guard.lock") as guard:
            with self._lock_file("gate.lock") as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
                end = time.monotonic() + PATIENCE
                while not _flock(guard, kind):
                    if time.monotonic() > end:
                        raise Unusable(
                            errno.EBUSY,
                            f"Another process has been writing to {self.folder} for a minute.",
                        )
                    time.sleep(0.001)
            yield

    @contextmanager
    def _lock_file(self, name: str) -> Iterator[int]:
        """Open a file for locking; closing it releases the lock."""
        try:
            file = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        try:
            yield file
        finally:
            os.close(file)

    def _salvage(self, index: Index) -> None:
        """Enter values on disk that have no entry, a key's newest value last.

        Needs the guard ALONE.
        """
        known = {row.filename for row in index.rows()}
        names = {str(path.relative_to(self.folder)) for path in self.folder.glob("values/*/*.val")}
        lost = [Placed(name) for name in names - known if index.disk.owns(name)]
        salvaged = set()
        with index.transact():
            for placed in sorted(lost, key=lambda name: index.disk.path(name).lstat().st_mtime_ns):
                key = self._key_inside(index.disk.path(placed))
                if key is not None and (key in salvaged or index.find(key) is None):
                    index.set(key, placed)
                    salvaged.add(key)
                # left by a crash after an entry was changed and before the old file was deleted
                elif key is not None:
                    index.disk.remove(placed)

    def _key_inside(self, path: Path) -> str | None:
        """Return the key in a value's file; a file without a key is set aside."""
        try:
            with path.open("rb") as file:
                beginning = file.read(codec.HEADER + codec.LONGEST_KEY)
                return _check_key(codec.key_of(beginning, os.fstat(file.fileno()).st_size))
        except (OSError, ValueError):
            self._move_aside(path)
            return None

    # --- damaged values ---------------------------------------------------------------------------

    def _set_aside(self, row: Row) -> bool:
        """Remove a damaged value from the store but keep its bytes.

        Returns False if it has been replaced in the meantime.
        """
        dropped = self._run(lambda index: index.drop(row.rowid))
        if dropped is None:
            return False
        if self._index.disk.owns(dropped.filename):
            self._move_aside(self.folder / dropped.filename)
        elif isinstance(dropped.value, (bytes, str)):
            content = dropped.value.encode() if isinstance(dropped.value, str) else dropped.value
            with suppress(OSError):
                self._aside("value").write_bytes(content)
        return True

    def _set_index_aside(self) -> None:
        for ending in ("", "-journal", "-wal", "-shm"):
            self._move_aside(self.folder / (DBNAME + ending))

    def _move_aside(self, path: Path) -> None:
        try:
            path.rename(self._aside(path.name))
        except OSError:  # missing, or no room for another directory entry: then delete it
            with suppress(OSError):
                path.unlink()
        for old in self._damaged()[:-KEPT_DAMAGED]:
            with suppress(OSError):
                old.unlink()

    def _aside(self, name: str) -> Path:
        return self.folder / "damaged" / f"{time.time_ns()}-{name}"

    def _damaged(self) -> list[Path]:
        """Return the files that were set aside, oldest first."""
        return sorted((self.folder / "damaged").glob("*"))


# --- small helpers --------------------------------------------------------------------------------


def _check_key(key: str) -> str:
    """Return the key; raises ValueError unless it is one short printable line."""
    if type(key) is not str or not 0 < len(key) <= 500 or not key.isprintable():
        raise ValueError(f"not a key: {key!r:.60}")
    return key


def _private(folder: Path) -> Path:
    """Create a folder that only its owner can enter; raises Unusable."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o777 != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise _unusable(folder, error) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    return folder


def _full(folder: Path) -> Full:
    return Full(
        errno.ENOSPC,
        f"The disk is full: the result was not stored. Free some space where {folder} is, or "
        "delete stored results. What was stored before is still there.",
    )


def _unusable(folder: Path, error: OSError) -> Unusable:
    return Unusable(
        error.errno,
        f"Results cannot be kept in {folder}: {error.strerror}. Choose another folder with "
        "VEIL_HOME, or make this one writable.",
    )


def _broken_or_raise(error: Exception, folder: Path) -> str:
    """Return why an index must be rebuilt; raises Full or Unusable for any other error."""
    origin = _origin(error)
    code = getattr(origin, "sqlite_errorcode", None)
    primary = sqlite3.SQLITE_CORRUPT if code is None else code & 0xFF
    if code in FULL_SQLITE or primary == sqlite3.SQLITE_FULL:
        raise _full(folder) from error
    if primary in BUSY_SQLITE:
        raise Unusable(
            errno.EBUSY, f"Another process has been writing to {folder} for a minute."
        ) from error
    if (
        {code, primary} & set(BROKEN_SQLITE)
        or not os.access(folder / DBNAME, os.R_OK | os.W_OK)
        or (folder / DBNAME).is_dir()
    ):
        return str(origin)
    raise _unusable(folder, OSError(errno.EIO, str(origin))) from error


def _origin(error: BaseException) -> BaseException:
    """Return the first SQLite error of a chain.

    diskcache hides it behind a Timeout, or behind a ROLLBACK that also failed.
    """
    while isinstance(error.__context__, (sqlite3.Error, diskcache.Timeout)):
        error = error.__context__
    return error
