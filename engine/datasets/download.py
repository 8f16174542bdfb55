"""Downloads a published data set through torchvision.

Adds progress, a time limit and clear error messages.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from engine.core import settings
from engine.datasets.published import Published
from engine.datasets.source import FetchFailed, Missing, Source

NO_ANSWER = 15.0  # seconds after which a silent server is given up


_FETCHING = threading.Lock()


def download(
    source: Published,
    progress: Callable[[int, int], object] | None,
    verify: Callable[[], object],
) -> None:
    """Download a source's files; `verify` is called at the end and raises if they are wrong."""
    try:
        with _FETCHING, _plain_words(source), patience():
            source.discard_broken()
            from engine.datasets.vision import torchvision

            with _reported(torchvision.datasets.utils, progress, source.download_bytes):
                source.download(torchvision.datasets, settings.data_folder())
            verify()
    except _Ended as ended:
        raise ended.__cause__ from None


class _Ended(BaseException):
    """The progress callback has raised an exception.

    A BaseException, because torchvision would take an Exception for a failed mirror and try the
    next one.
    """


class _Bar:
    """Replaces the tqdm to which torchvision reports a file's download."""

    def __init__(self, told: Callable[[int], None], total: int | None = None, **_):
        self.update = told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@contextmanager
def _reported(utils, progress: Callable[[int, int], object] | None, total: int) -> Iterator[None]:
    """Make downloads by torchvision.datasets.utils report to `progress` inside the context.

    Without a progress callback, torchvision shows its own bar.
    """
    if progress is None:
        yield
        return
    done, own = 0, utils.tqdm

    def told(more: int) -> None:
        nonlocal done
        done += more
        try:
            progress(done, max(done, total))
        except BaseException as error:
            raise _Ended from error

    utils.tqdm = partial(_Bar, told)
    try:
        yield
    finally:
        utils.tqdm = own


@contextmanager
def patience() -> Iterator[None]:
    """Inside the context, a connection that stays silent for NO_ANSWER seconds is an error.

    torchvision itself sets no time limit.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NO_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _plain_words(source: Source) -> Iterator[None]:
    """Convert errors while downloading to FetchFailed."""
    folder = settings.data_folder()
    try:
        yield
    except Missing as missing:
        raise FetchFailed(f"{source.name} was downloaded, but: {missing}") from missing
    except OSError as error:
        raise FetchFailed(_network_or_disk(error, source, folder)) from error
    # torchvision raises RuntimeErrors; gdown, ssl and tarfile raise other types
    except Exception as error:
        raise FetchFailed(_torchvision_words(error, source)) from error


def _network_or_disk(error: OSError, source: Source, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{source.name} could not be downloaded: the disk is full. Free some space where"
            f" {folder} is."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return (
            f"{source.name} could not be downloaded: {folder} cannot be written. Choose another"
            " folder with VEIL_DATA."
        )
    reason = getattr(error, "reason", error)
    return (
        f"{source.name} could not be downloaded: its server cannot be reached ({reason}). Is there"
        f" a connection to the internet? Or {source.by_hand}."
    )


def _torchvision_words(error: Exception, source: Source) -> str:
    text = str(error)
    if "gdown" in text:
        return (
            f"{source.name} lies on Google Drive: `pip install gdown`, then try again. Or"
            f" {source.by_hand}."
        )
    if "orrupted" in text:
        return (
            f"{source.name} was downloaded, but its checksum is wrong: the file is damaged, or"
            " another one. Try again later."
        )
    if "Error downloading" in text or "urlopen" in text:
        return (
            f"{source.name} could not be downloaded: none of its servers can be reached. Is there a"
            f" connection to the internet? Or {source.by_hand}."
        )
    return (
        f"{source.name} could not be downloaded ({type(error).__name__}: {text}). You can"
        f" {source.by_hand}."
    )
