"""The Python API: `from bandoneon.client import read, write, call, watch`. Tango is loaded on first use."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bandoneon.client.values import Reading, call, read, watch, write

__all__ = ["Reading", "call", "read", "watch", "write"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("bandoneon.client.values"), name)
    raise AttributeError(name)
