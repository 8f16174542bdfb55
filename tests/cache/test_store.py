"""The store on a real disk, with real processes: what goes in comes out, nothing that is broken
runs or stays.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import diskcache
import filelock
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cache import Store, codec
from cache import store as store_module
from cache.index import Index
from cache.store import Full, Unusable
from tests.conftest import ROOT

PLAIN = {"metrics": {"accuracy": 0.5}, "curves": {"loss": [[0, 1.5], [1, 0.5]]}, "note": "Größe ε"}
ARRAYS = {
    "array:x": np.arange(12, dtype=np.float32).reshape(3, 4),
    "png:p": np.frombuffer(b"\x89PNG", np.uint8),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder) -> Store:
    return Store(folder)


def python(code: str, *arguments, prefix=(), **options) -> subprocess.Popen:
    """Another process that runs `code` with the project importable."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def output(process: subprocess.Popen, seconds: float = 40) -> str:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


INDEX = Path("index/cache.db")


def database(folder: Path, statement: str, *values) -> list:
    connection = sqlite3.connect(folder / INDEX, isolation_level=None)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def value_file(folder: Path, key: str) -> Path:
    name = hashlib.sha256(key.encode()).hexdigest()
    return folder / "values" / name[:2] / f"{name[2:]}.val"


def same(found, plain=PLAIN, arrays=ARRAYS) -> bool:
    return (
        found is not None
        and found[0] == plain
        and set(found[1]) == set(arrays)
        and all(
            np.array_equal(found[1][n], a) and found[1][n].dtype == a.dtype
            for n, a in arrays.items()
        )
    )


# --- codec: round trips ---------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
DTYPES = st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(), hnp.byte_string_dtypes())
ARRAY = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))


def equal(a, b) -> bool:
    """Equality in which NaN equals NaN and 0.0 differs from -0.0."""
    return repr(a) == repr(b)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text(max_size=10), JSON, max_size=5),
    st.dictionaries(st.text(max_size=10), ARRAY, max_size=4),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_round_trip(plain, arrays, key):
    raw = codec.encode(plain, arrays, key)
    found, members = codec.decode(raw, key)
    assert equal(found, plain) and list(members) == list(arrays)
    for name, array in arrays.items():
        assert members[name].dtype == array.dtype and members[name].shape == array.shape
        assert members[name].tobytes() == array.tobytes()
    assert codec.encode(found, members, key) == raw and codec.key_of(raw[:3000], len(raw)) == key


def test_nan_and_infinities_survive():
    plain, _ = codec.decode(
        codec.encode({"a": [float("nan"), float("inf"), float("-inf"), -0.0]}, {})
    )
    assert repr(plain["a"]) == "[nan, inf, -inf, -0.0]"


def test_numpy_numbers_and_tuples_become_plain():
    plain, _ = codec.decode(
        codec.encode({"a": np.int64(3), "b": np.float32(0.5), "c": (1, np.bool_(True))}, {})
    )
    assert plain == {"a": 3, "b": 0.5, "c": [1, True]}


def test_array_names_that_would_upset_npz():
    arrays = {
        name: np.arange(3)
        for name in ("file", "allow_pickle", "a/b", "../up", "", "x.npy", "arr_0")
    }
    assert list(codec.decode(codec.encode({}, arrays))[1]) == list(arrays)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}]),
        np.zeros(2, [("a", "O")]),
        np.ma.zeros(3),
        [1, 2],
        np.float64(1),
        np.array(["a"], np.dtypes.StringDType()),
    ],
)
def test_what_only_pickle_could_store_is_refused(array, store):
    with pytest.raises(TypeError):
        codec.encode({}, {"x": array})
    with pytest.raises(TypeError):
        store.put("k", {}, {"x": array})
    assert store.keys() == [] and not list(store.folder.glob("values/*/*"))


@pytest.mark.parametrize(
    "plain",
    [
        {1: "a"},
        {"a": {None: 1}},
        {"a": [{2: 3}]},
        {"a": object()},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": np.zeros(2)},
    ],
)
def test_what_would_come_back_changed_is_refused(plain):
    with pytest.raises(TypeError):
        codec.encode(plain, {})


# --- codec: damage --------------------------------------------------------------------------------

RAW = codec.encode(PLAIN, ARRAYS, "key")


def test_truncation_at_every_byte_is_damage():
    for length in range(len(RAW)):
        with pytest.raises(codec.Damaged):
            codec.decode(RAW[:length])


def test_a_flipped_bit_anywhere_is_damage():
    for position in range(len(RAW)):
        changed = bytearray(RAW)
        changed[position] ^= 1 << position % 8
        with pytest.raises(codec.Damaged):
            codec.decode(bytes(changed))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_damage(raw, with_magic):
    with pytest.raises(codec.Damaged):
        codec.decode(codec.MAGIC + raw if with_magic else raw)


@pytest.mark.parametrize(
    "raw", [b"", RAW + b"x", b"VEIL\r\n\x00\x02" + RAW[8:], pickle.dumps(PLAIN), RAW[8:]]
)
def test_other_formats_are_damage(raw):
    with pytest.raises(codec.Damaged):
        codec.decode(raw)


def sealed(text: bytes, packed: bytes) -> bytes:
    """A value with a right checksum and any content."""
    body = codec.LENGTHS.pack(0, len(text), len(packed)) + text + packed
    return codec.MAGIC + hashlib.sha256(body).digest() + body


def npz(*arrays) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    return buffer.getvalue()


def test_content_that_does_not_parse_is_damage():
    for text, packed in [
        (b"{", npz()),
        (b"[]", npz()),
        (b'{"plain": {}}', npz()),
        (b'{"plain":{},"names":["a"]}', npz()),
        (b'{"plain":{},"names":[]}', npz(np.ones(1))),
        (b'{"plain":{},"names":[]}', b""),
        (b'{"plain":{},"names":[]}', b"PK\x03\x04junk"),
        (b"[" * 100_000, npz()),
    ]:
        with pytest.raises(codec.Damaged):
            codec.decode(sealed(text, packed))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_an_object_array_with_a_right_checksum_is_damage_and_does_not_run(tmp_path):
    trap = tmp_path / "ran"
    packed = npz(np.array([Malicious(trap)], dtype=object))
    with pytest.raises(codec.Damaged):
        codec.decode(sealed(b'{"plain":{},"names":["a"]}', packed))
    assert not trap.exists()


# --- store ----------------------------------------------------------------------------------------


def test_put_get_replace_delete(store):
    assert store.get("k") is None and "k" not in store
    store.put("k", PLAIN, ARRAYS)
    assert same(store.get("k")) and "k" in store and store.keys() == ["k"]
    store.put("k", {"other": 1}, {})
    assert store.get("k") == ({"other": 1}, {}) and store.keys() == ["k"]
    assert len(list(store.folder.glob("values/*/*"))) == 1
    assert store.delete("k") and not store.delete("k") and "k" not in store
    assert not list(store.folder.glob("values/*/*"))


def test_another_process_reads_what_this_one_wrote(store, folder):
    store.put("k", PLAIN, ARRAYS)
    code = (
        "import sys; from cache import Store;"
        " print(Store(sys.argv[1]).get('k')[1]['array:x'].sum())"
    )
    assert output(python(code, folder)) == "66.0\n"


def test_a_store_travels_to_another_process(store):
    store.put("k", PLAIN, ARRAYS)
    other = pickle.loads(pickle.dumps(store))
    assert same(other.get("k")) and other.limit == store.limit


def test_clear_and_stats(store):
    for i in range(3):
        store.put(f"k{i}", PLAIN, ARRAYS)
    size = sum(p.stat().st_size for p in store.folder.glob("values/*/*"))
    stats = store.stats()
    assert (stats.entries, stats.bytes, stats.limit, stats.damaged, stats.folder) == (
        3,
        size,
        10 * 2**30,
        0,
        store.folder,
    )
    assert store.clear() == 3
    assert store.stats().entries == store.stats().bytes == 0 and store.keys() == []


@pytest.mark.parametrize("key", ["", 1, b"k", None, ("a",), "a\nb", "x" * 501, "\ud800"])
def test_keys_are_short_text(store, key):
    with pytest.raises(ValueError):
        store.put(key, {}, {})
    with pytest.raises(ValueError):
        store.get(key)


def test_folder_and_files_are_private(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o777)
    old = os.umask(0)
    try:
        store = Store(folder)
        store.put("k", PLAIN, ARRAYS)
        with store.computing("k"):
            modes = {p: stat.S_IMODE(p.stat().st_mode) for p in [folder, *folder.rglob("*")]}
    finally:
        os.umask(old)
    assert {m for p, m in modes.items() if p.is_dir()} == {0o700}
    assert {m for p, m in modes.items() if p.is_file()} == {0o600}


def test_the_limit_is_ten_gibibytes_unless_told_otherwise(folder):
    assert Store(folder).limit == 10 * 2**30 and Store(folder, 1000).limit == 1000


# --- eviction -------------------------------------------------------------------------------------


def blob(kilobytes: int) -> dict:
    return {"x": np.random.default_rng(kilobytes).integers(0, 256, kilobytes * 1000, np.uint8)}


def test_the_limit_evicts_what_was_unused_for_longest(folder):
    store = Store(folder, 1_000_000)
    for i in range(9):
        store.put(f"k{i}", {}, blob(100))
    assert len(store.keys()) == 9
    assert store.get("k0") is not None  # used again: now k1 is the one unused for longest
    for i in range(9, 11):
        store.put(f"k{i}", {}, blob(100))
    assert store.keys() == ["k0", *(f"k{i}" for i in range(3, 11))]
    assert store.stats().bytes <= 1_000_000
    assert sum(p.stat().st_size for p in folder.glob("values/*/*")) == store.stats().bytes
    store.put("large", {}, blob(950))
    assert store.keys() == ["large"] and store.get("large") is not None


def test_the_value_just_stored_is_spared_even_when_the_clock_was_set_back(folder):
    store = Store(folder, 1_000_000)
    for i in range(9):
        store.put(f"k{i}", {}, blob(100))
    for path in folder.glob("values/*/*"):
        os.utime(path, (time.time() + 3600,) * 2)
    store.put("new", {}, blob(200))
    assert len(store.keys()) == 8 and store.get("new") is not None


def test_a_value_larger_than_the_limit_is_refused_and_nothing_is_lost(folder):
    store = Store(folder, 100_000)
    store.put("small", PLAIN, ARRAYS)
    with pytest.raises(Full, match="VEIL_CACHE_GB"):
        store.put("large", {}, blob(200))
    assert same(store.get("small"))


# --- damaged values -------------------------------------------------------------------------------

DAMAGE = {
    "flipped": lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
    "magic": lambda raw: b"NOTVEIL!" + raw[8:],
    "empty": lambda raw: b"",
    "header only": lambda raw: raw[: codec.HEADER],
    "half": lambda raw: raw[: len(raw) // 2],
    "one byte short": lambda raw: raw[:-1],
    "pickle": lambda raw: pickle.dumps({"a": 1}),
    "another key's": lambda raw: codec.encode(PLAIN, ARRAYS, "other"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_value_is_a_miss_set_aside_and_the_others_stay(store, folder, damage):
    for key in ("bad", "good"):
        store.put(key, PLAIN, ARRAYS)
    path = value_file(folder, "bad")
    path.write_bytes(damage(path.read_bytes()))
    changed = path.read_bytes()
    assert (
        store.get("bad") is None
        and "bad" not in store
        and store.keys() == ["good"]
        and same(store.get("good"))
    )
    assert (
        store.stats().damaged == 1 and next((folder / "damaged").iterdir()).read_bytes() == changed
    )
    store.put("bad", PLAIN, ARRAYS)
    assert same(store.get("bad"))


def test_a_value_without_its_file_is_a_miss(store, folder):
    store.put("k", PLAIN, ARRAYS)
    value_file(folder, "k").unlink()
    assert "k" not in store and store.get("k") is None and store.keys() == []


def test_a_file_that_became_a_folder_is_a_miss(store, folder):
    store.put("k", PLAIN, ARRAYS)
    path = value_file(folder, "k")
    path.unlink()
    path.mkdir()
    assert store.get("k") is None and store.keys() == []


def test_only_the_newest_damaged_files_are_kept(store, folder, monkeypatch):
    monkeypatch.setattr(store_module, "KEPT_DAMAGED", 3)
    for i in range(6):
        store.put("k", PLAIN, ARRAYS)
        value_file(folder, "k").write_bytes(b"%d" % i)
        assert store.get("k") is None
    assert sorted(p.read_bytes() for p in (folder / "damaged").iterdir()) == [b"3", b"4", b"5"]
    store.clear()
    assert store.stats().damaged == 0


def test_verify_reports_and_mends(store, folder):
    for key in ("good", "flipped", "gone", "lost"):
        store.put(key, PLAIN, ARRAYS)
    flipped = value_file(folder, "flipped")
    flipped.write_bytes(flipped.read_bytes()[:-1])
    value_file(folder, "gone").unlink()
    database(folder, "DELETE FROM Cache WHERE key = 'lost'")
    (folder / "values" / "ab").mkdir(exist_ok=True)
    (folder / "values" / "ab" / ("0" * 30 + ".val")).write_bytes(b"left by a crash")
    assert store.keys() == ["good", "flipped", "gone"]
    good, damaged = store.verify()
    assert good == ["good", "lost"] and damaged == ["flipped", "gone"]
    assert same(store.get("lost")) and store.stats().damaged == 2
    assert store.verify() == (["good", "lost"], [])


# --- no pickle, whatever the table says -----------------------------------------------------------


@pytest.fixture
def trap(tmp_path) -> Path:
    return tmp_path / "the pickle ran"


@pytest.fixture(autouse=True)
def no_unpickling(monkeypatch):
    """diskcache's own pickle calls fail the test even where they would do no harm."""
    import diskcache.core

    class NoPickle:
        HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL

        def __getattr__(self, name):
            raise AssertionError(f"diskcache called pickle.{name}")

    monkeypatch.setattr(diskcache.core, "pickle", NoPickle())


def test_a_pickle_in_place_of_a_value_does_not_run(store, folder, trap):
    for key in ("bad", "good"):
        store.put(key, PLAIN, ARRAYS)
    payload = pickle.dumps(Malicious(trap))
    value_file(folder, "bad").write_bytes(payload)
    database(folder, "UPDATE Cache SET mode = 4 WHERE key = 'bad'")
    assert store.get("bad") is None and store.keys() == ["good"] and same(store.get("good"))
    assert not trap.exists() and store.stats().damaged == 1
    assert next((folder / "damaged").iterdir()).read_bytes() == payload


def test_a_pickle_in_the_table_does_not_run(folder, trap):
    """Eviction reads sizes from the table; one that is none costs the table, not the values."""
    store = Store(folder, 250_000)
    for key in ("bad", "good"):
        store.put(key, {}, blob(100))
    payload = pickle.dumps(Malicious(trap))
    database(folder, "UPDATE Cache SET mode = 4, value = ? WHERE key = 'bad'", payload)
    assert store.get("bad") is not None and store.keys() == ["bad", "good"]
    store.put("new", {}, blob(100))
    assert sorted(store.keys()) == ["bad", "new"] and store.get("bad") is not None
    assert not trap.exists() and store.verify()[1] == []


def test_a_pickled_key_does_not_run(store, folder, trap):
    for key in ("bad", "good"):
        store.put(key, PLAIN, ARRAYS)
    database(
        folder, "UPDATE Cache SET key = ?, raw = 0 WHERE key = 'bad'", pickle.dumps(Malicious(trap))
    )
    index = Index(folder / "index")
    with pytest.raises(sqlite3.DatabaseError):  # diskcache's own iteration is closed too
        list(index)
    index.close()
    assert store.keys() == ["bad", "good"] and store.stats().entries == 2
    assert same(store.get("bad")) and store.verify() == (["bad", "good"], [])
    assert not trap.exists()


def test_diskcaches_own_get_is_closed_too(store, folder, trap):
    store.put("k", PLAIN, ARRAYS)
    payload = pickle.dumps(Malicious(trap))
    (folder / "index" / "evil").write_bytes(payload)
    index = Index(folder / "index")
    for value, filename in ((payload, None), (None, "evil")):
        database(folder, "UPDATE Cache SET mode = 4, value = ?, filename = ?", value, filename)
        for read in (lambda: index.get("k"), lambda: index["k"], index.peekitem):
            with pytest.raises(sqlite3.DatabaseError):
                read()
    for wrong in ({"a": 1}, "text", 1.5, True, b"bytes", None):
        with pytest.raises(TypeError):
            index.set("k", wrong)
    with pytest.raises(TypeError):
        index.set(("a", 1), 3)
    assert not trap.exists()


@pytest.mark.parametrize("mode", [0, 1, 3, 5, None, "2", -1])
def test_the_mode_in_the_table_says_nothing(folder, mode):
    store = Store(folder, 250_000)
    for key in ("old", "k"):
        store.put(key, {}, blob(100))
    database(folder, "UPDATE Cache SET mode = ?", mode)
    assert store.get("old") is not None and store.verify() == (["old", "k"], [])
    store.put("new", {}, blob(100))
    assert store.keys() == ["old", "new"] and store.stats().damaged == 0


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/hostname", "values/../../secret", None, 7, b"x", "cache.db"]
)
def test_a_file_name_from_the_table_never_leads_outside(store, folder, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_bytes(codec.encode({"secret": 1}, {}, "k"))
    store.put("k", PLAIN, ARRAYS)
    database(folder, "UPDATE Cache SET filename = ?", name)
    assert same(store.get("k")) and secret.exists() and (folder / INDEX).exists()
    store.put("k", PLAIN, ARRAYS)
    database(folder, "UPDATE Cache SET filename = ?", name)
    store.put("k", PLAIN, ARRAYS)  # where diskcache would delete the older value's file
    database(folder, "UPDATE Cache SET filename = ?", name)
    assert store.delete("k")
    store.put("k", PLAIN, ARRAYS)
    database(folder, "UPDATE Cache SET filename = ?", name)
    store.clear()
    assert secret.exists() and (folder / INDEX).exists()


# --- a broken index -------------------------------------------------------------------------------


def filled(folder: Path, count: int = 40) -> None:
    store = Store(folder)
    for i in range(count):
        store.put(f"k{i}", {"i": i}, ARRAYS)
    store._index.close()


def unnamed(folder: Path, raw: bytes) -> Path:
    """A file among the values under a name that is not its key's."""
    name = os.urandom(16).hex()
    path = folder / "values" / name[:2] / f"{name[2:]}.val"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


BREAK = {
    "garbage": lambda raw: os.urandom(len(raw)),
    "empty": lambda raw: b"",
    "text": lambda raw: b"hello\n",
    "header only": lambda raw: raw[:100],
    "one page": lambda raw: raw[:4096],
    "half": lambda raw: raw[: len(raw) // 2],
    "a byte short": lambda raw: raw[:-1],
    "zeros in the middle": lambda raw: raw[:4096] + bytes(8192) + raw[12288:],
    "garbage at the end": lambda raw: raw[:-6000] + os.urandom(6000),
    "schema": lambda raw: raw.replace(b"CREATE TABLE Cache", b"CREATE TABLX Cache"),
}


@pytest.mark.parametrize("damage", BREAK.values(), ids=BREAK)
def test_a_broken_index_is_built_anew_from_the_values(folder, damage):
    filled(folder)
    path = folder / INDEX
    path.write_bytes(damage(path.read_bytes()))
    store = Store(folder)
    assert sorted(store.keys()) == sorted(f"k{i}" for i in range(40))
    assert all(store.get(f"k{i}")[0] == {"i": i} for i in range(40))
    store.put("new", PLAIN, ARRAYS)
    assert same(Store(folder).get("new"))


def test_an_index_truncated_anywhere_never_stops_the_start(folder):
    filled(folder, 12)
    path = folder / INDEX
    whole = path.read_bytes()
    for length in range(0, len(whole), 2500):
        path.write_bytes(whole[:length])
        store = Store(folder)
        assert len(store.keys()) == 12 and store.get("k3")[0] == {"i": 3}, length
        store._index.close()


def test_an_index_with_any_page_garbled_keeps_no_wrong_entry(folder):
    filled(folder, 12)
    path = folder / INDEX
    whole, garbage = path.read_bytes(), np.random.default_rng(5).bytes(4096)
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + garbage + whole[start + 4096 :])
        store = Store(folder)
        store.put("k3", {"i": 3}, ARRAYS)
        store.put("k3", {"i": 3}, ARRAYS)
        assert sorted(store.keys()) == sorted(f"k{i}" for i in range(12)), start
        sizes = [p.stat().st_size for p in folder.glob("values/*/*")]
        assert (store.stats().entries, store.stats().bytes) == (12, sum(sizes)), start
        store._index.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE Cache",
        "DROP TABLE Settings",
        "ALTER TABLE Cache RENAME COLUMN mode TO modus",
        "INSERT INTO Settings VALUES ('disk_evil', 1)",
        "INSERT INTO Settings VALUES ('_sql', 1)",
        "UPDATE Settings SET value = 'x' WHERE key = 'size'",
        "INSERT INTO Settings VALUES ('eviction_policy2', x'00')",
        "DELETE FROM Cache",
        "UPDATE Cache SET key = CAST(x'ff' AS TEXT) WHERE key = 'k1'",
    ],
)
def test_a_table_that_was_tampered_with_never_stops_the_start(folder, statement):
    filled(folder, 5)
    database(folder, statement)
    store = Store(folder)
    store.verify()
    assert len(store.keys()) == 5 and store.get("k2")[0] == {"i": 2}
    store.put("new", PLAIN, ARRAYS)
    assert same(store.get("new"))


def test_an_index_that_is_a_folder_or_is_deleted(folder):
    filled(folder, 3)
    (folder / INDEX).unlink()
    assert len(Store(folder).keys()) == 3
    (folder / INDEX).unlink()
    (folder / INDEX).mkdir()
    assert len(Store(folder).keys()) == 3


def test_an_index_that_breaks_while_it_is_open(folder):
    """Two open stores: both go on, and see each other's values."""
    filled(folder, 12)
    one, two = Store(folder), Store(folder)
    path = folder / INDEX
    with open(path, "r+b") as file:  # in place: the inode stays
        file.write(os.urandom(path.stat().st_size))
    one.put("new", PLAIN, ARRAYS)
    assert same(two.get("new")) and len(one.keys()) == len(two.keys()) == 13


def test_an_index_deleted_or_built_anew_by_another_is_noticed(folder):
    filled(folder, 3)
    one, two = Store(folder), Store(folder)
    for i, (first, second) in enumerate([(one, two), (two, one)]):
        shutil.rmtree(folder / "index")
        first.put(f"new{i}", PLAIN, ARRAYS)
        assert f"new{i}" in second.keys() and second.stats() == first.stats()
        assert second.stats().entries == 4 + i


def test_an_index_that_could_not_be_filled_is_not_used(folder):
    """A file is in the way of the folder for a value that is to be renamed."""
    store = Store(folder)
    unnamed(folder, codec.encode(PLAIN, ARRAYS, "k"))
    shutil.rmtree(folder / "index")
    in_the_way = value_file(folder, "k").parent
    in_the_way.write_text("x")
    for _ in range(2):
        with pytest.raises(Unusable, match="VEIL_HOME"):
            store.keys()
    in_the_way.unlink()
    assert store.keys() == ["k"] and same(store.get("k"))


def test_the_folder_deleted_while_the_store_is_open(store, folder):
    store.put("k", PLAIN, ARRAYS)
    shutil.rmtree(folder)
    assert store.get("k") is None
    store.put("k", PLAIN, ARRAYS)
    assert same(store.get("k"))


def test_salvage_sets_aside_what_is_no_value_and_keeps_the_newest(folder):
    filled(folder, 2)
    newest = unnamed(folder, codec.encode({"i": "newest"}, {}, "k0"))
    os.utime(newest, (time.time() + 10,) * 2)
    os.utime(unnamed(folder, codec.encode({"i": "older"}, {}, "k0")), (time.time() + 5,) * 2)
    for raw in (b"junk", RAW[:-1], codec.encode({}, {}, "bad\nkey"), codec.encode({}, {}, "")):
        unnamed(folder, raw)
    (folder / INDEX).write_bytes(b"junk")
    store = Store(folder)
    assert sorted(store.keys()) == ["k0", "k1"] and store.get("k0")[0] == {"i": "newest"}
    assert len(list(folder.glob("values/*/*.val"))) == 2 and store.stats().damaged == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE Settings SET value = 1 WHERE key = 'size'",
        "UPDATE Settings SET value = 1 WHERE key = 'count'",
        "UPDATE Cache SET size = 1",
        "UPDATE Cache SET key = 'other' WHERE key = 'k1'",
        "UPDATE Cache SET key = '' WHERE key = 'k1'",
        "INSERT INTO Cache (key, raw, size, value, mode) VALUES ('none', 1, 1, 1, 1)",
    ],
)
def test_an_index_that_differs_from_the_values_is_built_anew(folder, statement):
    filled(folder, 3)
    before = Store(folder).stats()
    assert (before.entries, before.damaged) == (3, 0)
    database(folder, statement)
    store = Store(folder)
    assert store.stats() == before and store.keys() == ["k0", "k1", "k2"]


def test_an_index_built_anew_still_knows_what_was_unused_for_longest(folder):
    store = Store(folder, 350_000)
    for key in ("a", "b", "c"):
        store.put(key, {}, blob(100))
    assert store.get("a") is not None
    store._index.close()
    shutil.rmtree(folder / "index")
    store = Store(folder, 350_000)
    store.put("d", {}, blob(100))
    assert sorted(store.keys()) == ["a", "c", "d"]


# --- a store of an older version ------------------------------------------------------------------


def older(folder: Path, count: int) -> None:
    """What an older version left: values under random names, and an index that lists them."""
    for i in range(count):
        path = unnamed(folder, codec.encode({"i": i}, blob(100), f"k{i}"))
        os.utime(path, (time.time() - 1000 + i,) * 2)
    diskcache.Cache(str(folder), sqlite_journal_mode="persist").close()
    for name in ("guard.lock", "gate.lock"):
        (folder / name).touch()
    (folder / "locks").mkdir()
    assert (folder / "cache.db").exists() and (folder / "cache.db-journal").exists()


def test_the_values_of_an_older_version_are_kept_and_its_other_files_deleted(folder):
    older(folder, 3)
    store = Store(folder)
    assert store.keys() == ["k0", "k1", "k2"] and store.verify() == (["k0", "k1", "k2"], [])
    assert all(store.get(f"k{i}")[0] == {"i": i} for i in range(3))
    assert sorted(folder.glob("values/*/*")) == sorted(value_file(folder, k) for k in store.keys())
    kept = {"values", "damaged", "locks", "index", "store.lock"}
    assert {path.name for path in folder.iterdir()} == kept


def test_the_values_of_an_older_version_count_and_are_evicted(folder):
    older(folder, 5)
    store = Store(folder, 350_000)
    assert store.stats().bytes > 500_000
    store.put("new", {}, blob(100))
    assert store.keys() == ["k3", "k4", "new"] and store.stats().bytes <= 350_000
    assert len(list(folder.glob("values/*/*"))) == 3


# --- full disk, unusable folders ------------------------------------------------------------------

LIMITED = """
    import resource, sys
    import numpy as np
    from cache import Store
    from cache.store import Full
    store = Store(sys.argv[1])
    store.put("small", {"a": 1}, {"x": np.arange(1000)})
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for key in ("large", "small"):
        try:
            store.put(key, {}, {"x": np.zeros(200_000)})
        except Full as full:
            print(full)
    assert store.get("small")[1]["x"].sum() == 499500
    assert store.keys() == ["small"] and store.get("large") is None
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    store.put("large", {}, {"x": np.zeros(200_000)})
    assert sorted(Store(sys.argv[1]).keys()) == ["large", "small"]
"""


def test_the_kernel_refuses_to_write_the_value(folder):
    said = output(python(LIMITED, folder)).splitlines()
    assert len(said) == 2 and all(line.startswith("The disk is full: ") for line in said)
    assert len(list(folder.glob("values/*/*"))) == 2  # nothing half-written stays


def test_the_kernel_refuses_to_write_the_index(folder):
    """A limit below the index's own size: the small value would fit, its entry does not."""
    code = """
        import resource, sys
        from cache import Store
        from cache.store import Full
        store = Store(sys.argv[1])
        for i in range(100):
            store.put(f"k{i}", {"i": i}, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        try:
            for i in range(100, 1000):
                store.put(f"k{i}", {"i": i}, {})
        except Full as full:
            print(full)
        assert len(store.keys()) >= 100 and store.stats().bytes > 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert store.get("k5") == ({"i": 5}, {}) and len(store.keys()) >= 100
        store.put("again", {}, {})
        assert len(store.verify()[0]) == len(list((store.folder / "values").glob("*/*")))
    """
    assert output(python(code, folder)).startswith("The disk is full: ")
    assert Store(folder).get("k5") == ({"i": 5}, {})


FILLED_UP = """
    import os, sys
    import numpy as np
    from cache import Store
    from cache.store import Full
    folder, stored = sys.argv[1] + "/store", 0
    store = Store(folder)
    try:
        for stored in range(1000):
            store.put(f"k{stored}", {"i": stored}, {"x": np.zeros(5_000)})
    except Full as full:
        print(full)
    with open(sys.argv[1] + "/rest", "wb", buffering=0) as rest:  # not one byte is left
        try:
            while rest.write(bytes(1000)):
                pass
        except OSError as error:
            assert error.errno == 28
    for reader in (store, Store(folder)):  # reading, and opening anew, on the full disk
        assert len(reader.keys()) == stored > 20
        for i in range(stored):
            assert reader.get(f"k{i}")[0] == {"i": i}
    with store.computing("k") as turn:
        assert turn.acquired
    assert store.delete("k0") and store.delete("k1") and store.delete("k2")
    store.put("new", {"i": -1}, {"x": np.zeros(5_000)})
    assert store.get("new")[0] == {"i": -1}
    value = next(p for p in (store.folder / "values").glob("*/*"))
    value.write_bytes(value.read_bytes()[:-1])
    assert len(store.verify()[1]) == 1
    print("all read")
"""


mounts = pytest.mark.skipif(
    (
        subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode
        != 0
        if sys.platform == "linux"
        else True
    ),
    reason="needs to mount a small disk of its own",
)


def on_a_small_disk(code: str, folder: Path, options: str) -> list[str]:
    mount = f'mount -t tmpfs -o {options} none {folder} && exec "$@"'
    prefix = ["unshare", "-Urm", "sh", "-c", mount, "sh"]
    return output(python(code, folder, prefix=prefix)).splitlines()


@mounts
def test_a_disk_that_is_really_full(tmp_path):
    said = on_a_small_disk(FILLED_UP, tmp_path, "size=3m")
    assert said[0].startswith("The disk is full: ") and said[1:] == ["all read"]


@mounts
def test_a_disk_without_room_for_another_file_still_gives_turns(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from cache import Store
        folder = Path(sys.argv[1])
        store = Store(folder / "store")
        store.put("k", {"i": 1}, {})
        try:
            for i in range(1000):
                (folder / str(i)).touch()
        except OSError as error:
            assert error.errno == 28
        with store.computing("new") as turn:
            assert turn.acquired and store.get("k") == ({"i": 1}, {}) and store.get("new") is None
        assert store.verify() == (["k"], []) and Store(folder / "store").keys() == ["k"]
        print("done")
    """
    assert on_a_small_disk(code, tmp_path, "size=3m,nr_inodes=100") == ["done"]


def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("x")
    for folder in (in_the_way, in_the_way / "below"):
        with pytest.raises(Unusable, match="VEIL_HOME"):
            Store(folder)


def test_a_folder_that_cannot_be_written_is_a_clear_error():
    code = """
        import os, sys
        from cache import Store
        from cache.store import Unusable
        if os.getuid() == 0:  # nothing stops root
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
        for folder in (sys.argv[1], sys.argv[1] + "/new"):
            try:
                Store(folder)
            except Unusable as error:
                print(error)
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        said = output(python(code, folder)).splitlines()
    assert len(said) == 2 and all(
        "Results cannot be kept in" in line and "VEIL_HOME" in line for line in said
    )


def test_errors_travel_between_processes():
    for error in (Full(28, "The disk is full"), Unusable(13, "No")):
        again = pickle.loads(pickle.dumps(error))
        assert (
            type(again) is type(error) and str(again) == str(error) and again.errno == error.errno
        )


# --- taking turns ---------------------------------------------------------------------------------

HOLD = """
    import sys, time
    from cache import Store
    with Store(sys.argv[1]).computing("k") as turn:
        assert turn.acquired
        print("held", flush=True)
        time.sleep(60)
"""


def test_the_turn_is_free_when_its_owner_is_killed(store, folder):
    owner = python(HOLD, folder)
    assert owner.stdout.readline() == "held\n"
    with store.computing("k") as turn, store.computing("other") as other:
        assert not turn.acquired and not turn.poll(0.1) and other.acquired
        owner.send_signal(signal.SIGKILL)
        assert turn.poll(30)  # its owner would have slept for a minute
    owner.communicate()
    assert not list((folder / "locks").iterdir())


def test_a_waiting_caller_can_be_cancelled(store):
    class Cancelled(Exception):
        pass

    asked = []

    def check():
        asked.append(1)
        if len(asked) == 3:
            raise Cancelled

    with store.computing("k") as mine:
        with pytest.raises(Cancelled), store.computing("k") as turn:
            turn.wait(check, every=0.05)
        assert mine.acquired and len(asked) == 3
    with store.computing("k") as turn:
        turn.wait(check)
        assert turn.acquired


def test_the_turn_is_free_after_an_error(store):
    with pytest.raises(RuntimeError), store.computing("k") as turn:
        assert turn.acquired
        raise RuntimeError
    with store.computing("k") as turn:
        assert turn.acquired


ONCE = """
    import sys, time
    from pathlib import Path
    from cache import Store
    store, log = Store(sys.argv[1]), Path(sys.argv[2])
    for n in range(15):
        key = f"k{n}"
        with store.computing(key) as turn:
            turn.wait(every=0.01)
            if store.get(key) is None:
                with log.open("a") as file:
                    file.write(key + "\\n")
                time.sleep(0.01)
                store.put(key, {"n": n}, {})
        assert store.get(key) == ({"n": n}, {})
"""


def test_processes_that_want_the_same_keys_compute_each_once(folder, tmp_path):
    log = tmp_path / "computed"
    for process in [python(ONCE, folder, log) for _ in range(4)]:
        output(process)
    assert sorted(log.read_text().split()) == sorted(f"k{n}" for n in range(15))


def test_a_turn_file_that_its_owner_deletes_gives_no_second_turn(store, monkeypatch):
    """The owner lets go between another's opening of the file and its lock: that file is nobody's
    any more.
    """
    real, late = fcntl.flock, []

    def flock(file, kind):
        if late:
            late.pop().release()
        return real(file, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with store.computing("k") as first, store.computing("k") as second:
        assert first.acquired and not second.acquired
        late.append(first)
        assert not second.poll(0)
        with store.computing("k") as third:
            assert third.acquired and not second.poll(0)
        assert second.poll(0)


def test_a_turn_taken_while_its_owner_lets_go_is_the_only_one(store, monkeypatch):
    """Another takes the turn as soon as the owner's lock is gone: its file must stay."""
    real, waiting = fcntl.flock, []

    def flock(file, kind):
        real(file, kind)
        if kind == fcntl.LOCK_UN and waiting:
            assert waiting.pop().poll(0)

    monkeypatch.setattr(fcntl, "flock", flock)
    with store.computing("k") as first, store.computing("k") as second:
        waiting.append(second)
        first.release()
        with store.computing("k") as third:
            assert second.acquired and not third.acquired


def test_a_turn_may_end_in_another_thread(store):
    """A run's generator is closed wherever its last reference is dropped."""
    run, turns = store.computing("k"), []
    thread = threading.Thread(target=lambda: turns.append(run.__enter__()))
    thread.start()
    thread.join()
    assert turns[0].acquired
    run.__exit__(None, None, None)
    with store.computing("k") as again:
        assert again.acquired and not turns[0].acquired


def test_threads_take_turns_too(store):
    computed = []

    def compute():
        with store.computing("k") as turn:
            turn.wait(every=0.01)
            if store.get("k") is None:
                computed.append(1)
                store.put("k", PLAIN, ARRAYS)

    threads = [threading.Thread(target=compute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert computed == [1]


# --- many at once ---------------------------------------------------------------------------------

BUSY = """
    import random, sys, time
    import numpy as np
    from cache import Store
    store, me, end = Store(sys.argv[1], 300_000), sys.argv[2], time.monotonic() + 2.5
    while time.monotonic() < end:
        key = f"k{random.randrange(12)}"
        action = random.choice(["get", "get", "put", "put", "delete", "look"])
        if action == "put":
            store.put(key, {"key": key}, {"x": np.full(random.randrange(8000), ord(key[-1]))})
        elif action == "delete":
            store.delete(key)
        elif action == "look":
            store.stats(), store.keys(), key in store
        elif (found := store.get(key)) is not None:
            assert found[0] == {"key": key} and (found[1]["x"] == ord(key[-1])).all()
"""


def test_processes_and_threads_at_once_see_only_whole_values(store, folder):
    workers = [python(BUSY, folder, i) for i in range(3)]
    threads = [
        threading.Thread(target=exec, args=(textwrap.dedent(BUSY), {"__name__": "x"}))
        for _ in range(2)
    ]
    sys.argv, before = ["", str(folder), "t"], sys.argv
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.argv = before
    for worker in workers:
        output(worker)
    entries = store.stats().entries
    assert (
        len(store.verify()[0]) == entries and store.verify()[1] == [] and store.stats().damaged == 0
    )
    assert (
        len(list(folder.glob("values/*/*"))) == store.stats().entries
        and store.stats().bytes <= 300_000
    )


def test_a_writer_that_is_killed_leaves_a_store_that_works(folder):
    code = """
        import sys
        import numpy as np
        from cache import Store
        store, i = Store(sys.argv[1]), 0
        while True:
            store.put(f"k{i % 50}", {"i": i}, {"x": np.zeros(20_000)})
            i += 1
            print(i, flush=True)
    """
    for _ in range(4):
        writer = python(code, folder)
        for _ in range(20):
            writer.stdout.readline()
        writer.kill()
        writer.communicate()
        store = Store(folder)
        assert store.verify()[1] == [] and store.get("k3")[0]["i"] % 50 == 3
    assert store.stats().damaged <= 4  # a file that was being written


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from cache import Store

    def die(*arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)

    store = Store(sys.argv[1])
    setattr({"os": os, "Path": Path}[sys.argv[2]], sys.argv[3], die)
    store.put(sys.argv[4], {"i": "late"}, {"x": np.zeros(50_000)})
"""


@pytest.mark.parametrize("key", ["k0", "new"])
@pytest.mark.parametrize("moment", [("os", "fsync"), ("os", "utime"), ("Path", "replace")])
def test_a_writer_killed_at_any_moment_leaves_the_value_of_before(folder, moment, key):
    filled(folder, 3)
    before = Store(folder).stats()
    writer = python(KILLED, folder, *moment, key)
    writer.communicate(timeout=40)
    assert writer.returncode == -signal.SIGKILL and (folder / "new").exists()
    store = Store(folder)
    assert store.stats() == before and store.verify() == (["k0", "k1", "k2"], [])
    assert store.get("k0")[0] == {"i": 0} and store.get("new") is None
    store.put("new", PLAIN, ARRAYS)
    assert same(store.get("new")) and not (folder / "new").exists()


def test_reading_needs_no_lock(store, folder):
    """Nobody waits for a process that writes a large value or builds the index."""
    store.put("k", PLAIN, ARRAYS)
    with filelock.FileLock(folder / "store.lock"), filelock.FileLock(folder / "new.lock"):
        assert same(store.get("k")) and "k" in store and "other" not in store


def test_a_lock_that_is_never_given_up_is_a_clear_error(store, folder, monkeypatch):
    monkeypatch.setattr(store_module, "PATIENCE", 0.05)
    for lock in ("store.lock", "new.lock"):
        with filelock.FileLock(folder / lock), pytest.raises(Unusable, match="Another process"):
            store.put("k", PLAIN, ARRAYS)
    assert store.get("k") is None and store.keys() == [] and not (folder / "new").exists()
    store.put("k", PLAIN, ARRAYS)
    assert same(store.get("k"))


def test_a_forked_child_and_its_parent_share_an_open_store(folder):
    code = """
        import os, sys
        from cache import Store
        store = Store(sys.argv[1])
        store.put("before", {}, {})
        child = os.fork()
        me = "parent" if child else "child"
        for i in range(20):
            store.put(f"{me} {i}", {"i": i}, {})
            assert store.get(f"{me} {i}") == ({"i": i}, {}) and "before" in store.keys()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            assert len(store.keys()) == 41 and store.verify()[1] == []
    """
    output(python(code, folder))


def test_the_lengths_in_the_header_are_big_endian():
    """The format is written down in codec's docstring; a reader in another language relies on
    it.
    """
    assert struct.unpack(">IQQ", RAW[40:60])[0] == 3 and RAW[60:63] == b"key"
