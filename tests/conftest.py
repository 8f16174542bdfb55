"""Every test has a VEIL_HOME of its own; VEIL_DATA is only what the caller set."""

import os
from pathlib import Path

import pytest

import engine  # first: it sets how threads wait, before any test loads torch
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


@pytest.fixture
def store(home):
    """A real store on disk."""
    return Store(home / "store")
