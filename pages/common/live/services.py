"""The store and the runner that all sessions of this server share."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager
from functools import lru_cache

import numpy as np

from cache import Store
from engine.core.lab import load, open_store
from engine.core.study import Result
from engine.datasets import imaging
from engine.runtime.runner import Runner

REMEMBERED = 64  # results kept in memory


class Services:
    """The store and the runner, and the results that were read last."""

    def __init__(self) -> None:
        self.store: Store = open_store()
        self.runner = Runner(self.store)
        self.results: OrderedDict[str, Result] = OrderedDict()

    def stored(self, name: str) -> Result | None:
        """A stored Result, read from disk only once.

        A page of many small studies reads all of them at every tick.
        """
        found = self.results.get(name) if name in self.store else None
        if found is None and (found := load(self.store, name)) is not None:
            self.results[name] = found
            if len(self.results) > REMEMBERED:
                self.results.popitem(last=False)
        return found


@lru_cache(maxsize=1)
def services() -> Services:
    """The one store and the one runner of this web process."""
    return Services()


@asynccontextmanager
async def lifespan(_):
    """Start the workers with the server and end them with it.

    They are then warm for the first visitor.
    """
    runner = services().runner
    loading = asyncio.create_task(asyncio.to_thread(_load_slow_packages))
    yield
    await loading
    await asyncio.to_thread(runner.close)


def _load_slow_packages() -> None:
    """Import what the first visitor would otherwise wait for: 0.8 s, measured."""
    import pages.common.panels  # noqa: F401  plotly and pandas

    imaging.psnr(np.zeros((8, 8, 1), np.uint8), np.ones((8, 8, 1), np.uint8))  # skimage and scipy
