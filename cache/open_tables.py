"""The rows of a table stream's shards, of which the last ones that were read are held."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from . import shard_table
from .commit import Record
from .errors import EmocacheError
from .objects import Objects

_OPEN = 64


class OpenTables:
    """Shards, by the numbers of their records.

    Args:
        objects: the stream's folder.
        records: names of its records.
    """

    def __init__(self, objects: Objects, records: Sequence[str]) -> None:
        self._objects, self._records = objects, records
        self._held: OrderedDict[int, list[tuple[str, dict[str, Any]]]] = OrderedDict()

    def rows(self, number: int, what: str) -> list[tuple[str, dict[str, Any]]]:
        """Read the shard of a record.

        Args:
            number: of the record.
            what: errors begin with it.

        Returns:
            (id, row) in stored order.

        Raises:
            EmocacheError: the shard is gone. DamagedError: it, or its record, is not what was written.
        """
        if number not in self._held:
            path = f"commits/{self._records[number]}"
            record = Record.from_bytes(self._objects.get(path), f"{self._objects.url}/{path}")
            shard = f"{what}: {self._objects.url}/{record.shard}"
            try:
                self._held[number] = shard_table.named_rows(self._objects.get(str(record.shard)), shard)
            except FileNotFoundError as error:
                raise EmocacheError(f"{shard} is gone; `emocache cache verify` tells what to do") from error
            if len(self._held) > _OPEN:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]
