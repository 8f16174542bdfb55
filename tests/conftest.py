"""Every test has a VEIL_HOME of its own; VEIL_DATA is only what the caller set."""

import os
import sys
from pathlib import Path

import pytest

import engine  # noqa: F401  it sets how threads wait, before any test loads torch
from cache import Store

ROOT = Path(__file__).resolve().parent.parent


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


@pytest.fixture
def store(home):
    """A real store on disk."""
    return Store(home / "store")
