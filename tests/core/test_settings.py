"""Environment variables: a wrong one ends in one line and exit code 2, on the command line and when
the server starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.core import settings
from engine.core.lab import open_store
from engine.runtime import dask_cluster
from tests.conftest import ROOT

WRONG = {
    "VEIL_CACHE_GB": ["much", "-1", "0", "0,0", "nan", "inf", "1_0", "1e400"],
    "VEIL_SCHEDULER": [
        "nonsense",
        "tcp://",
        "tcp://host",
        "tcp://host:0",
        "tcp://host:99999",
        "ftp://host:8786",
        "host:port",
        "tcp://a b:8786",
        "host:８７８６",
    ],
    "VEIL_HOME": ["FILE", "FILE/below", "LOOP"],
    "VEIL_DATA": ["FILE", "FILE/below", "LOOP", "x" * 5000],
    "OMP_NUM_THREADS": ["zwei", "0", "-2", "1.5"],
    "MKL_NUM_THREADS": ["many"],
    "OPENBLAS_NUM_THREADS": ["0", "99999"],
    "PYTHON_CPU_COUNT": ["abc", "0", "-1", "2.5", "99999999"],
}
CASES = [(name, text) for name, texts in WRONG.items() for text in texts]


def real(text: str, folder: Path) -> str:
    """With a file, or a link that leads to itself, in place of its name."""
    (folder / "file").write_text("")
    if not (folder / "loop").is_symlink():
        (folder / "loop").symlink_to(folder / "loop")
    return text.replace("FILE", str(folder / "file")).replace("LOOP", str(folder / "loop"))


@pytest.mark.parametrize("name, text", CASES, ids=lambda text: text[:20])
def test_a_wrong_variable_is_named_with_its_value(name, text, tmp_path, monkeypatch):
    monkeypatch.setenv(name, real(text, tmp_path))
    with pytest.raises(settings.Wrong) as wrong:
        settings.check()
    said = str(wrong.value)
    assert (
        said.startswith(f"{name}: {real(text, tmp_path)[:50]}")
        and "allowed" in said
        and "\n" not in said
        and len(said) < 400
    )


@pytest.mark.parametrize(
    "name, text",
    [
        ("VEIL_CACHE_GB", "0,5"),
        ("VEIL_CACHE_GB", "0.5"),
        ("VEIL_CACHE_GB", ""),
        ("VEIL_CACHE_GB", "1,925"),
        ("VEIL_SCHEDULER", ""),
        ("VEIL_SCHEDULER", "host:8786"),
        ("VEIL_SCHEDULER", "tls://10.0.0.1:8786"),
        ("VEIL_SCHEDULER", "tcp://[::1]:8786"),
        ("VEIL_DATA", "/nowhere/at/all"),
        ("VEIL_HOME", ""),
        ("OMP_NUM_THREADS", "4,2"),
        ("PYTHON_CPU_COUNT", "2"),
        ("PYTHON_CPU_COUNT", "default"),
        ("OMP_NUM_THREADS", "1"),
    ],
)
def test_what_is_allowed_is_taken(name, text, monkeypatch):
    monkeypatch.setenv(name, text)
    settings.check()


@pytest.mark.parametrize(
    "text, gibibytes", [("0,5", 0.5), ("0.5", 0.5), ("12", 12), ("1,925", 1925), ("", 10)]
)
def test_the_limit_of_the_store_is_read_as_other_numbers_are(text, gibibytes, monkeypatch):
    monkeypatch.setenv("VEIL_CACHE_GB", text)
    assert open_store().limit == gibibytes * 2**30


@pytest.mark.parametrize("name, text", [(name, texts[0]) for name, texts in WRONG.items()])
def test_the_command_line_ends_with_two_and_one_line(name, text, tmp_path):
    for command in (["list"], ["run", "noise", "--json"]):
        found = subprocess.run(
            [sys.executable, "-m", "engine", *command],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=100,
            env=os.environ | {name: real(text, tmp_path)},
        )
        assert (
            found.returncode == 2
            and found.stdout == ""
            and len(found.stderr.strip().splitlines()) == 1
            and found.stderr.startswith(f"{name}: ")
        )


def test_the_server_ends_with_two_and_one_readable_line():
    found = subprocess.run(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", "0"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        env=os.environ | {"VEIL_CACHE_GB": "a lot"},
    )
    assert found.returncode == 2 and "Traceback" not in found.stderr + found.stdout
    assert (
        "VEIL_CACHE_GB: a lot is not allowed; allowed: a number of GiB above 0, such as 10 or 0.5"
        in found.stderr.splitlines()
    )


def test_a_home_that_cannot_be_made_is_a_wrong_variable_too():
    """Nothing tells beforehand that no folder can be made in /proc."""
    found = subprocess.run(
        [sys.executable, "-m", "engine", "cache"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        env=os.environ | {"VEIL_HOME": "/proc/veil"},
    )
    assert (
        found.returncode == 2
        and len(found.stderr.strip().splitlines()) == 1
        and "VEIL_HOME" in found.stderr
    )


@pytest.fixture
def silent():
    """The address of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"


def test_a_scheduler_that_is_not_there_is_told_in_one_line_and_not_waited_for(silent):
    """Nobody there, and somebody who is no scheduler: the command line gives up long before its own
    patience of a minute does.
    """
    for address in ("tcp://127.0.0.1:9", silent):
        found = subprocess.run(
            [sys.executable, "-m", "engine", "run", "noise"],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=50,
            env=os.environ | {"VEIL_SCHEDULER": address},
        )
        (line,) = found.stderr.strip().splitlines()
        assert (
            found.returncode == 2
            and line.startswith(f"No dask scheduler answers at {address} (VEIL_SCHEDULER): ")
            and found.stdout == ""
        )


GARBAGE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n" * 50,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n" * 10,
    "zeros": bytes(4000),
    "ones": b"\xff" * 400,
    "an endless frame": (1).to_bytes(8, "little") + (2**60).to_bytes(8, "little"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_answer_is_no_scheduler(name):
    """Some of it was told as a MemoryError or a TypeError, which says nothing to whoever typed the
    address.
    """

    def answer(listening):
        while True:
            talking, _ = listening.accept()
            with contextlib.suppress(OSError), talking:  # hung up before all of it was sent
                talking.sendall(GARBAGE[name])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        with pytest.raises(dask_cluster.Unreachable, match="No dask scheduler answers") as found:
            dask_cluster.join(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
    assert in_words(str(found.value))


def in_words(said: str) -> bool:
    """One line that names no class of Python's."""
    return "\n" not in said and not re.search(r"[a-z]Error|Exception|<|Traceback", said)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://127.0.0.1:9", "nobody listens there"),
        ("nosuchhost.invalid:8786", "no such machine is known"),
        ("[:::]:1", "no such machine is known"),
        ("x" * 70 + ":80", "no machine can have such a name"),
        ("..:80", "no machine can have such a name"),
        ("tls://127.0.0.1:9", "needs certificates"),
        ("wss://127.0.0.1:9", "needs certificates"),
    ],
)
def test_why_nobody_answers_is_told_in_words(address, why):
    with pytest.raises(dask_cluster.Unreachable, match=why) as found:
        dask_cluster.join(address)
    assert in_words(str(found.value)) and len(str(found.value)) < 400


def test_a_refused_connection_is_told_as_one_when_there_is_hardly_time():
    """Dask tries again until its time is up; on a busy machine its last attempt was told, which the
    end of that time had cut short, and nobody learnt that nobody listens.
    """
    with pytest.raises(dask_cluster.Unreachable, match="nobody listens there"):
        dask_cluster.join("tcp://127.0.0.1:9", timeout=1e-5)


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(monkeypatch):
    """The system may take minutes; asyncio would have waited for it to the end, whatever its own
    patience.
    """
    asked, enough = threading.Event(), threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: (asked.set(), enough.wait(60)))
    try:
        with pytest.raises(dask_cluster.Unreachable, match="nothing answers there in time"):
            dask_cluster.join("tcp://slow.example:8786", timeout=0.2)
        assert asked.is_set() and not enough.is_set()
    finally:
        enough.set()


def test_somebody_who_is_no_scheduler_of_dask_is_named():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        host="127.0.0.1",
        protocol="tcp",
    ) as there:
        worker = next(iter(there.workers.values())).address
        with pytest.raises(
            dask_cluster.Unreachable, match="what answers is dask's worker and no scheduler"
        ):
            dask_cluster.join(worker)


def test_a_page_says_it_when_somebody_presses_run(store):
    from engine.runtime.runner import Runner
    from engine.studies.noise.noise import Noise

    runner = Runner(store, address="tcp://127.0.0.1:9")
    try:
        run = runner.submit(Noise())
        list(runner.following(run.key, seconds=40))
        assert run.state == "failed" and run.message.startswith(
            "No dask scheduler answers at tcp://127.0.0.1:9"
        )
    finally:
        runner.close()


def test_a_real_scheduler_is_joined():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0, processes=False, dashboard_address=None, host="127.0.0.1", protocol="tcp"
    ) as there:
        client = dask_cluster.join(there.scheduler_address)
        assert (
            client.run_on_scheduler(lambda dask_scheduler: type(dask_scheduler).__name__)
            == "Scheduler"
        )
        client.close()
