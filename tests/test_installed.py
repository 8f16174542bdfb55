"""`pip install .`: the wheel holds everything that runs, and `veil` works from any folder; and the
three lists of packages agree.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from engine.__main__ import app
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETTINGS = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
BUILT_FROM = ["pyproject.toml", "README.md", "LICENSE", "app.py"]
FOLDERS = ["engine", "pages", "cache", ".streamlit"]


def pip(*arguments) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr


# --- the lists of packages ------------------------------------------------------------------------


def required(name: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return [line for line in lines if line]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(file: str) -> set[str]:
    return {plain(Requirement(line).name) for line in required(file)}


def test_the_package_needs_what_the_pinned_way_installs():
    """The tested versions are the lower bounds."""
    pinned = required("requirements.txt")
    assert PROJECT["dependencies"] == [line.replace("==", ">=") for line in pinned]


def test_everything_that_the_requirements_bring_is_pinned():
    """Except what only some platforms need, such as libraries for a GPU, and what is not here."""
    known = names("requirements.txt") | names("requirements-test.txt")
    pinned, todo, seen = known | names("constraints.txt"), sorted(known), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            brought = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue
        todo += [
            plain(each.name)
            for each in brought
            if not each.marker
            or ("platform" not in str(each.marker) and each.marker.evaluate({"extra": ""}))
        ]
    assert len(seen) > 80 and not seen - pinned


# --- the wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of the project, built from a copy, as a build leaves files behind."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source / name)
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".veil")
        )
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", built, source)
    return next(built.glob("veil-*.whl"))


@pytest.fixture(scope="module")
def veil(wheel, tmp_path_factory) -> Path:
    """The program `veil` in an environment with the wheel, and with the packages that run this."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip("--python", python, "install", "--no-index", "--no-deps", wheel)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin" / "veil"


@pytest.fixture
def elsewhere(tmp_path) -> dict:
    """For subprocess: an empty folder to work in, and no variable of ours."""
    (tmp_path / "empty").mkdir()
    ours = ("VEIL_", "STREAMLIT_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {"cwd": tmp_path / "empty", "env": environment}


def test_the_wheel_holds_every_module_and_the_settings(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    modules = {
        str(path.relative_to(ROOT)) for name in FOLDERS[:3] for path in (ROOT / name).rglob("*.py")
    }
    assert len(modules) > 100 and modules <= set(files)
    rest = {Path(file).name for file in set(files) - modules if ".dist-info/" not in file}
    assert rest == {"app.py", "config.toml"}


def test_veil_runs_a_study_from_an_empty_folder(veil, elsewhere):
    listed = subprocess.run([veil, "list"], check=True, capture_output=True, text=True, **elsewhere)
    assert "dp_training:" in listed.stdout
    told = subprocess.run(
        [veil, "run", "noise", "--json"], check=True, capture_output=True, text=True, **elsewhere
    )
    assert json.loads(told.stdout)["study"] == "noise"
    assert os.listdir(elsewhere["cwd"]) == [".veil"]  # results lie where it was called
    wrong = subprocess.run(
        [veil, "dashboard", "--port", "0"], check=False, capture_output=True, text=True, **elsewhere
    )
    assert wrong.returncode == 2 and wrong.stderr.startswith("veil dashboard: argument --port: 0 ")


@contextmanager
def dashboard(veil, elsewhere):
    """The port on which a dashboard answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = elsewhere["cwd"].parent / "log"
    with log.open("w") as out:
        serving = subprocess.Popen(
            [veil, "dashboard", "--port", str(port)], stdout=out, stderr=out, **elsewhere
        )
    try:
        while not healthy(port):
            assert serving.poll() is None, log.read_text()
            time.sleep(0.2)
        yield port
    finally:
        serving.terminate()
        try:
            serving.wait(60)
        except subprocess.TimeoutExpired:
            serving.kill()
            raise


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
            return answer.read() == b"ok"
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def first_visit(port: int) -> list[ForwardMsg]:
    """What the server sends to a browser that opens the first page."""
    asked, found = BackMsg(), []
    asked.rerun_script.query_string = ""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    with connect(address, subprotocols=["streamlit"], max_size=None) as server:
        server.send(asked.SerializeToString())
        while not found or found[-1].WhichOneof("type") != "script_finished":
            found.append(ForwardMsg())
            found[-1].ParseFromString(server.recv(timeout=60))
    return found


def test_veil_dashboard_shows_its_pages_with_its_settings_from_an_empty_folder(veil, elsewhere):
    with dashboard(veil, elsewhere) as port:
        messages = first_visit(port)
        with socket.socket() as asking:  # it listens at one address only
            asking.settimeout(10)
            assert asking.connect_ex(("127.0.0.2", port)) != 0
    sent = {kind: m for m in messages if (kind := m.WhichOneof("type"))}
    theme = sent["new_session"].new_session.custom_theme
    assert list(theme.chart_categorical_colors) == SETTINGS["theme"]["chartCategoricalColors"]
    titles = [page.page_name for page in sent["navigation"].navigation.app_pages]
    assert titles[0] == "Veil" and len(titles) == 7
    drawn = [m.delta.new_element for m in messages if m.WhichOneof("type") == "delta"]
    assert len(drawn) > 20 and not [e for e in drawn if e.WhichOneof("type") == "exception"]
    assert sent["script_finished"].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY


def test_in_the_project_the_dashboard_is_app_py():
    assert app() == ROOT / "app.py"
