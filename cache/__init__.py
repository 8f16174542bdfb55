"""Results on disk: bytes under string keys, with no knowledge of studies and no unpickling."""

from cache.store import Store

__all__ = ["Store"]
