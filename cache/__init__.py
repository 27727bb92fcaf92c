"""The feature store: what extract writes and train reads. Imports no other stage and never torch."""

from .errors import EmocacheError, InputFailure
from .manifest import Manifest
from .plan import Load, Task, plan_tasks
from .sealed import DamagedError
from .store import Cache, StreamInfo
from .stored_form import Item
from .stream import Stream
from .utterance import Media, Track, Utterance, Word
from .writer import Committed, StreamWriter

__all__ = [
    "Cache", "Committed", "DamagedError", "EmocacheError", "InputFailure", "Item", "Load", "Manifest", "Media",
    "Stream", "StreamInfo", "StreamWriter", "Task", "Track", "Utterance", "Word", "plan_tasks",
]  # fmt: skip
