"""Downloads published files with pooch: progress, a time limit, checksums, clear error messages.

pooch writes to a temporary file and gives it its name only after its checksum was right, so half a
download is never taken for a whole one. torchvision knows the addresses and checksums.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.core import settings
from engine.datasets.published import Published
from engine.datasets.source import FetchFailed, Missing

NO_ANSWER = 15.0  # seconds after which a silent server is given up
CHUNK = 2**16  # bytes between two reports of progress
# Without this a server may pack a file again, or have a packed one unpacked on the way.
AS_IT_IS = {"Accept-Encoding": "identity"}
# What the system calls a folder in which nothing can be written.
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


def download(
    source: Published,
    progress: Callable[[int, int], object] | None,
    verify: Callable[[], object],
) -> None:
    """Download a source's files; `verify` is called at the end and raises if they are wrong."""
    bar = _Bar(progress, source.download_bytes)

    def fetch(addresses: Sequence[str], path: Path, checksum: str) -> None:
        fetch_file(addresses, path, checksum, bar)

    try:
        with _plain_words(source):
            source.discard_broken()
            from engine.datasets.vision import torchvision

            source.download(torchvision.datasets, settings.data_folder(), fetch)
            verify()
    except _Ended as ended:
        raise ended.error from None


def fetch_file(
    addresses: Sequence[str], path: Path, checksum: str, bar: _Bar | None = None
) -> None:
    """Download one file, from the first address that has it, unless it is here already.

    checksum: "md5:" and all of its digits, or the first digits of the file's SHA-256. Raises
    OSError, of which requests' exceptions are subclasses, and ValueError for a wrong checksum.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    read = pooch.HTTPDownloader(
        progressbar=bar or False, chunk_size=CHUNK, timeout=NO_ANSWER, headers=AS_IT_IS
    )

    def checked(url: str, draft: str, _: object) -> None:
        read(url, draft, None)
        if ":" not in checksum and not pooch.file_hash(draft).startswith(checksum):
            raise ValueError(f"the checksum of {path.name} is wrong")

    whole = checksum if ":" in checksum else None
    for address in addresses:
        if bar:
            bar.done = 0  # of this file: another address begins again
        try:
            pooch.retrieve(address, whole, path.name, path.parent, downloader=checked)
            return
        except (requests.RequestException, ValueError):
            if address == addresses[-1]:
                raise


def reason(error: Exception) -> str:
    """Return in plain words why a server did not give us a file."""
    import requests
    from urllib3.exceptions import ReadTimeoutError

    silent = any(isinstance(cause, ReadTimeoutError) for cause in error.args)
    if silent or isinstance(error, requests.Timeout):
        return f"nothing came from it for {NO_ANSWER:g} seconds"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code} {error.response.reason}".strip()
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended before the whole file had come"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return getattr(error, "strerror", None) or str(error)


class _Ended(BaseException):
    """The progress callback has raised an exception.

    A BaseException, so that it is not taken for a failed download.
    """

    def __init__(self, error: BaseException):
        super().__init__(error)
        self.error = error


class _Bar:
    """What pooch reports to while it downloads the files of one data set.

    pooch sets `total` to the size of the file (bytes, 0 if the server does not say), calls `update`
    with more bytes, rounded up, and in the end `reset`, `update(total)` and `close`.
    """

    def __init__(self, progress: Callable[[int, int], object] | None, expected: int):
        self.progress, self.expected = progress, expected
        self.total, self.done, self.before = 0, 0, 0

    def update(self, more: int) -> None:
        """Report the bytes of all files so far."""
        self.done += more
        if self.progress is None:
            return
        done = self.before + min(self.done, self.total or self.done)
        try:
            self.progress(done, max(done, self.expected))
        except BaseException as error:
            raise _Ended(error) from error

    def reset(self) -> None:
        """Forget the rounded bytes; their exact number follows."""
        self.done = self.done if not self.total else 0

    def close(self) -> None:
        """Count a complete file."""
        self.before, self.done = self.before + self.done, 0


@contextmanager
def _plain_words(source: Published) -> Iterator[None]:
    """Convert errors while downloading to FetchFailed."""
    try:
        yield
    except Missing as missing:
        raise FetchFailed(f"{source.name} was downloaded, but: {missing}") from missing
    except OSError as error:
        raise FetchFailed(_network_or_disk(error, source)) from error
    # a wrong checksum is a ValueError; torchvision, gdown and tarfile raise other types
    except Exception as error:
        raise FetchFailed(_other_words(error, source)) from error


def _network_or_disk(error: OSError, source: Published) -> str:
    import requests

    failed, folder = f"{source.name} could not be downloaded", settings.data_folder()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{failed}: the disk is full. Free some space where {folder} is."
    if error.errno in NOT_WRITABLE:
        return f"{failed}: {folder} cannot be written. Choose another folder with VEIL_DATA."
    if isinstance(error, requests.HTTPError):
        return f"{failed}: its server was reached, but {reason(error)}. Or {source.by_hand}."
    return (
        f"{failed}: its server cannot be reached ({reason(error)}). Is there a connection to the"
        f" internet? Or {source.by_hand}."
    )


def _other_words(error: Exception, source: Published) -> str:
    text = str(error)
    if "gdown" in text:
        return (
            f"{source.name} lies on Google Drive: `pip install gdown`, then try again. Or"
            f" {source.by_hand}."
        )
    if isinstance(error, ValueError) or "orrupted" in text:
        return (
            f"{source.name} was downloaded, but its checksum is wrong: the file is damaged, or"
            " another one. Try again later."
        )
    return (
        f"{source.name} could not be downloaded ({type(error).__name__}: {text}). You can"
        f" {source.by_hand}."
    )
