"""Every test has a VEIL_HOME of its own; VEIL_DATA is only what the caller set.

Where several workers test side by side, each computes on its share of the cores.
"""

import os
import sys
from pathlib import Path

import pytest

import engine  # noqa: F401  it sets how threads wait, before any test loads torch
from cache import Store
from engine.core import settings
from engine.core.lab import Lab
from engine.core.study import Result, Study, key

ROOT = Path(__file__).resolve().parent.parent
MOST_WORKERS = 8  # each holds PyTorch and starts servers: a gigabyte or two


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: a worker a core."""
    return min(settings.cores(), MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs) -> None:
    """Before the workers start: each computes on its share of the cores. What the caller has set
    stays.
    """
    share = str(max(1, settings.cores() // len(specs)))
    for variable in ("PYTHON_CPU_COUNT", *settings.THREADS):
        os.environ.setdefault(variable, share)


def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that no worker is left with it at the end."""
    order = ("browser", "studies")
    items.sort(key=lambda item: [folder not in item.path.parts for folder in order])


def finish(run) -> tuple[list, Result]:
    """Events and Result of a generator."""
    events = []
    while True:
        try:
            events.append(next(run))
        except StopIteration as end:
            return events, end.value


def furnish(store: Store, common: Store, *studies: Study) -> Store:
    """The store, with all results that these studies need; they themselves are not in it."""
    for need in (need for study in studies for need in study.needs()):
        _, result = finish(Lab(common).need(need))
        store.put(key(need), *result.parts())  # it may be remembered, and in no store
        furnish(store, common, need)  # what it needs is also needed directly, here and there
    return store


def full_unless(quick, values) -> list:
    """A parametrization of which the rest belongs to `make test-full`.

    quick: a function of the arguments that says which values stay in `make test`.
    """
    found = []
    for value in values:
        arguments = value if isinstance(value, tuple) else (value,)
        marks = () if quick(*arguments) else pytest.mark.full
        found.append(pytest.param(*arguments, marks=marks))
    assert 0 < sum(not each.marks for each in found) < len(found), "all are quick, or none"
    return found


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty VEIL_HOME; without VEIL_DATA the data folder is an empty one too."""
    monkeypatch.setenv("VEIL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VEIL_SCHEDULER", raising=False)
    if not os.environ.get("VEIL_DATA"):
        monkeypatch.setenv("VEIL_DATA", str(tmp_path / "data"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def fresh_torch():
    """Each test has torch's threads and global draws as they were, whatever ran before it."""
    torch = sys.modules.get("torch")  # never loaded for a test that does without
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def common(tmp_path_factory) -> Store:
    """One store for all tests of a session, on all workers: teachers, feature extractors and first
    models are trained once.

    For tests that need such a result, not for those that watch how it comes about. A result's key
    holds all its parameters, so that who asks first changes nothing.
    """
    place = tmp_path_factory.getbasetemp()
    return Store((place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "common")


@pytest.fixture
def store(home):
    """A real store on disk."""
    return Store(home / "store")
