"""The workers: a dask.distributed cluster in its own process.

The process is `python -m engine.runtime.dask_cluster`. It has one worker per GPU, or one for the
CPU, each under a nanny. It prints one JSON line (address and TLS credentials, which exist only in
memory) and ends when its standard input closes, that is, when its owner dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.core import settings

if TYPE_CHECKING:
    from dask.typing import Key
    from distributed import Client, Scheduler

ROOT = Path(__file__).resolve().parents[2]
CREDENTIALS = (
    "tls_ca_file",
    "tls_client_key",
    "tls_client_cert",
    "tls_scheduler_key",
    "tls_scheduler_cert",
    "tls_worker_key",
    "tls_worker_cert",
)
CONFIG = {
    # a run that kills its worker fails once, with a message, instead of being retried
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.admin.low-level-log-length": 20_000,  # events kept for clients that join late
    "distributed.scheduler.http.routes": [],  # serve nothing but the TLS connection itself
    "distributed.worker.http.routes": [],
    # leave memory limits to the machine
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.comm.timeouts.connect": "20s",
}


PATIENCE = 4.0  # seconds that a scheduler at VEIL_SCHEDULER may take to answer
SILENCE = "nothing answers there in time"
STRANGER = "what answers there does not speak as dask does"
REASONS = (
    (TimeoutError, SILENCE),
    (ConnectionRefusedError, "nobody listens there"),
    (socket.gaierror, "no such machine is known"),
    (UnicodeError, "no machine can have such a name"),
)


class Unreachable(OSError):
    """No scheduler answers at the given address; the message is written for the user."""

    def __init__(self, address: str, why: str):
        shown = address if len(address) <= 60 else address[:57] + "…"
        super().__init__(
            f"No dask scheduler answers at {shown} (VEIL_SCHEDULER): {why}. Start one there,"
            " correct the address, or leave it out to use workers on this machine."
        )


def gpus() -> list[str]:
    """Return one CUDA_VISIBLE_DEVICES value per GPU, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [g for g in chosen.split(",") if g.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listing = subprocess.run(
        ["nvidia-smi", "-L"], check=False, capture_output=True, text=True, timeout=20
    )
    return [str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]


def worker_specs() -> dict[int, dict[str, Any]]:
    """Specify one nanny per GPU, or a single one for the CPU.

    CUDA_VISIBLE_DEVICES is set in the nanny's environment, before torch loads.
    """
    from distributed import Nanny

    options = {
        "nthreads": 1,
        "protocol": "tls://",
        "memory_limit": 0,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "local_directory": str(settings.home() / "work"),
    }
    environments = [{"CUDA_VISIBLE_DEVICES": g} for g in gpus()] or [{}]
    return {
        i: {"cls": Nanny, "options": options | {"env": {"PYTHONPATH": str(ROOT)} | e}}
        for i, e in enumerate(environments)
    }


def environment() -> dict[str, str]:
    """Return the environment in which a worker process starts, in place of dask's own.

    Dask's defaults limit workers to one thread and set MALLOC_TRIM_THRESHOLD_ such that every freed
    tensor is returned to the system: training took 1.8 times longer with it.
    """
    return dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(settings.cores())
    )


def start() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the cluster process; returns it and its introduction {address, credentials}."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DASK_LOGGING__DISTRIBUTED": "warning"}
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.runtime.dask_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=Path.cwd(),
        text=True,
    )
    assert process.stdout is not None  # a pipe, see above
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"The worker processes did not start (exit code {process.wait()}).")
    return process, json.loads(line)


def connect(introduction: dict[str, Any]) -> Client:
    """Connect a client to our own cluster, given its introduction."""
    from distributed import Client, Security

    security = Security(require_encryption=True, **introduction["credentials"])
    return Client(introduction["address"], security=security, set_as_default=False, timeout=20)


def join(address: str, timeout: float = PATIENCE) -> Client:
    """Connect a client to an external cluster (VEIL_SCHEDULER).

    Raises Unreachable, with the reason, if no scheduler answers within `timeout` seconds. This
    covers every kind of wrong address, and the caller never waits indefinitely.
    """
    from distributed import Client

    why: list[str] = []
    look = threading.Thread(target=lambda: why.append(_trouble(address, timeout)), daemon=True)
    look.start()  # in a thread of its own, as asyncio does not stop waiting for a name lookup
    look.join(timeout + 1)
    if not why or why[0]:
        raise Unreachable(address, why[0] if why else SILENCE)
    try:
        return Client(address, set_as_default=False, timeout=timeout)
    except Exception as error:  # it answered our request but failed afterwards
        raise Unreachable(address, _words(error)) from error


def _trouble(address: str, timeout: float) -> str:
    """Return why no scheduler answers at an address, or an empty string."""
    try:
        if (found := settings.ADDRESS.fullmatch(address)) is None:
            return STRANGER
        if address.startswith(("tls://", "wss://")) and not _certificates():
            return (
                "for an encrypted connection dask needs certificates, which its own settings name"
                " (distributed.comm.tls)"
            )
        host, port = found.group(3, 4)
        # Dask retries a refused connection until its time is up and then reports the last attempt,
        # which may have been cut short: ask the system first, which says at once what is wrong.
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()
        return asyncio.run(asyncio.wait_for(_greet(address, timeout), timeout))
    except Exception as error:  # anything may answer at that address
        return _words(error)


def _certificates() -> bool:
    """Whether dask's own settings name certificates for a client."""
    from distributed import Security

    return bool(Security().get_connection_args("client").get("ssl_context"))


def _words(error: BaseException | None) -> str:
    """Describe an error at an address in the user's words.

    The outermost known cause is reported.
    """
    while error is not None:
        for kinds, words in REASONS:
            if isinstance(error, kinds):
                return words
        if not isinstance(error, OSError) or error.__cause__ is None:
            return (
                error.strerror.lower()
                if isinstance(error, OSError) and error.strerror
                else STRANGER
            )
        error = error.__cause__  # distributed wraps the underlying error
    return STRANGER


async def _greet(address: str, timeout: float) -> str:
    """Ask once which service answers; a Client would retry and take as long to give up.

    Returns what is wrong with the service, or an empty string; raises any error that occurs.
    """
    from distributed import Security
    from distributed.core import connect

    comm = await connect(address, timeout=0.7 * timeout, **Security().get_connection_args("client"))
    try:
        await comm.write({"op": "identity", "reply": True})
        kind = (await comm.read())["type"]
        return (
            ""
            if kind == "Scheduler"
            else f"what answers is dask's {str(kind)[:20].lower()} and no scheduler"
        )
    finally:
        comm.abort()


# --- run on the scheduler's own event loop, one at a time, so each is atomic ----------------------


def claim(key: str, proposal: str, dask_scheduler: Scheduler) -> str:
    """Return the attempt that computes `key`: the live one, or else `proposal`, now made live."""
    import time

    claims: dict[str, tuple[str, float]] = dask_scheduler.extensions.setdefault("veil-claims", {})
    attempt, since = claims.get(key, (None, 0.0))
    task = None if attempt is None else dask_scheduler.tasks.get(attempt)
    live = (
        task.state in ("waiting", "processing", "queued", "no-worker")
        if task
        else time.monotonic() - since < 5
    )
    if attempt is None or not live:
        claims[key] = attempt, since = proposal, time.monotonic()
    return attempt


def unclaim(key: str, attempt: str, dask_scheduler: Scheduler) -> None:
    """Release the claim of a cancelled attempt, so that the key's next attempt is a new one."""
    claims = dask_scheduler.extensions.get("veil-claims", {})
    if claims.get(key, (None,))[0] == attempt:
        del claims[key]


def busy(attempt: str, worker: str, dask_scheduler: Scheduler) -> bool:
    """Whether the worker is still busy with this attempt: started, and no end reported."""
    said = [message["kind"] for _, message in dask_scheduler.get_events(attempt)]
    return worker in dask_scheduler.workers and "started" in said and "ended" not in said


def waiting(dask_scheduler: Scheduler) -> list[Key]:
    """Return attempts that have not reported anything yet, in queue order."""
    silent = [
        t
        for t in dask_scheduler.tasks.values()
        if t.state in ("processing", "queued", "waiting", "no-worker")
        and not dask_scheduler.get_events(cast("str", t.key))  # a run's topic is its task's key
    ]
    return [t.key for t in sorted(silent, key=lambda t: t.priority or ())]


def forget(attempt: str, dask_scheduler: Scheduler) -> None:
    """Free the events of an ended attempt; its Result holds all of them."""
    dask_scheduler._broker.truncate(attempt)


# --- the process ----------------------------------------------------------------------------------


def main() -> None:
    """Run scheduler and workers until standard input closes."""
    import dask

    os.umask(0o077)
    owner = os.fdopen(os.dup(1), "w")
    # Send worker output to standard error: nobody reads this pipe after the introduction.
    os.dup2(2, 1)
    dask.config.set(CONFIG)  # before importing distributed, which reads its log levels then
    from distributed import Scheduler, Security, SpecCluster

    # after importing distributed, whose own entries would otherwise be merged into ours
    dask.config.set({"distributed.nanny.pre-spawn-environ": environment()})
    security = Security.temporary()
    scheduler = {
        "cls": Scheduler,
        "options": {
            "protocol": "tls://",
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            "security": security,
        },
    }
    workers = worker_specs()
    for worker in workers.values():
        worker["options"]["security"] = security
    with SpecCluster(scheduler=scheduler, workers=workers, security=security) as cluster:
        introduction = {
            "address": cluster.scheduler_address,
            "credentials": {name: getattr(security, name) for name in CREDENTIALS},
        }
        print(json.dumps(introduction), file=owner, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
