"""The feature store: what extract writes and train reads. Imports no other stage and never torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import EmocacheError, InputFailure
    from .local_copy import LocalCopy
    from .manifest import Manifest
    from .plan import Load, Task, plan_tasks
    from .sealed import DamagedError
    from .store import Cache, StreamInfo
    from .stored_form import Item
    from .stream import Stream
    from .utterance import Media, Track, Utterance, Word
    from .writer import Committed, StreamWriter

__all__ = [
    "Cache", "Committed", "DamagedError", "EmocacheError", "InputFailure", "Item", "Load", "LocalCopy", "Manifest",
    "Media", "Stream", "StreamInfo", "StreamWriter", "Task", "Track", "Utterance", "Word", "plan_tasks",
]  # fmt: skip

_MODULES = {
    "Cache": "store", "Committed": "writer", "DamagedError": "sealed", "EmocacheError": "errors",
    "InputFailure": "errors", "Item": "stored_form", "Load": "plan", "LocalCopy": "local_copy", "Manifest": "manifest",
    "Media": "utterance", "Stream": "stream", "StreamInfo": "store", "StreamWriter": "writer", "Task": "plan",
    "Track": "utterance", "Utterance": "utterance", "Word": "utterance", "plan_tasks": "plan",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for, so that the command line shows its help without NumPy and Arrow."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value
