"""Results on disk: bytes under string keys. Knows nothing of studies, and never unpickles."""

from cache.store import Store

__all__ = ["Store"]
