"""Plans: which missing utterances form which unit of work, fixed once so that every worker follows the same cut."""

import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from . import index
from .errors import EmocacheError
from .objects import Objects

if TYPE_CHECKING:
    from .writer import StreamWriter

_SCHEMA = pa.schema([("unit", pa.string()), ("id", pa.string()), ("key", pa.string())])
_MAX_BYTES, _MAX_UTTERANCES, _MAX_SECONDS = 64 << 20, 1024, 600.0


class Load(NamedTuple):
    """What one utterance is expected to cost, for cutting units."""

    seconds: float  # of encoding, over all streams
    bytes: int  # of frames, in the stream where it has most


@dataclass(frozen=True)
class Task:
    """Utterances to encode together, shortest first, and the unit they belong to in each stream."""

    ids: tuple[str, ...]
    units: Mapping[str, str]  # {stream name: unit key}
    number: int  # position of its first unit in the plans: what `--shard i/n` deals out


def plan_tasks(
    writers: Sequence["StreamWriter"], loads: Mapping[str, Load], *, retry_failed: bool = False, min_units: int = 1
) -> list[Task]:
    """What is left to encode, following the plans there are and writing new ones for what none of them covers.

    Args:
        writers: the streams filled in one pass; utterances that the same streams miss are cut into the same units.
        loads: the utterances wanted, with their costs.
        retry_failed: treat committed failures as missing.
        min_units: cut so that about this many units come out, for that many workers.
    """
    missing: dict[str, dict[str, str]] = {}
    uncovered: dict[str, list[str]] = defaultdict(list)
    units: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for writer in writers:
        missing[writer.name] = _missing(writer, loads, retry_failed)
        units[writer.name] = read(writer.objects)
        covered = {key for items in units[writer.name].values() for _, key in items}
        for utterance, key in missing[writer.name].items():
            if key not in covered:
                uncovered[utterance].append(writer.name)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for utterance, names in uncovered.items():
        groups[tuple(names)].append(utterance)
    for writer in writers:
        cuts = [
            cut for names, ids in sorted(groups.items()) if writer.name in names for cut in _cut(ids, loads, min_units)
        ]
        if cuts:
            fresh = {_unit_key([writer.keys[i] for i in cut]): [(i, writer.keys[i]) for i in cut] for cut in cuts}
            if not _write(writer.objects, fresh):  # another worker has planned meanwhile
                return plan_tasks(writers, loads, retry_failed=retry_failed, min_units=min_units)
            units[writer.name].update(fresh)
    return _tasks(units, missing, loads)


def read(objects: Objects) -> dict[str, list[tuple[str, str]]]:
    """{unit key: [(utterance id, item key), ...]} of every plan of a stream, in the order they were made."""
    units: dict[str, list[tuple[str, str]]] = {}
    for name in objects.names("plans"):
        for unit, utterance, key in from_bytes(objects.get(f"plans/{name}"), f"{objects.url}/plans/{name}"):
            units.setdefault(unit, []).append((utterance, key))
    return units


def from_bytes(data: bytes, what: str) -> list[tuple[str, str, str]]:
    """Rows (unit, id, key) of a plan; raises EmocacheError if it is damaged."""
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        intact = _bytes(table) == data or not _by_this_pyarrow(data)
    except (pa.ArrowException, OSError):
        intact = False
    if not intact:
        raise EmocacheError(f"{what}: damaged; delete this plan (nothing committed is lost) and run the command again")
    return list(zip(*(table.column(name).to_pylist() for name in _SCHEMA.names), strict=True))


def _bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True, store_schema=False)
    return sink.getvalue()


def _by_this_pyarrow(data: bytes) -> bool:
    return str(pq.ParquetFile(io.BytesIO(data)).metadata.created_by).endswith(pa.__version__)


def _missing(writer: "StreamWriter", wanted: Mapping[str, Load], retry_failed: bool) -> dict[str, str]:
    found = index.load(writer.objects)
    done = {key.hex() for key in found.items.column("key").to_pylist()}
    if not retry_failed:
        done |= {failure.key for failure in found.failures}
    return {i: writer.keys[i] for i in wanted if writer.keys[i] not in done}


def _unit_key(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]


def _cut(ids: Sequence[str], loads: Mapping[str, Load], min_units: int) -> list[list[str]]:
    """Length-grouped units: neighbours in length share one, so that batches need little padding."""
    most = max(1, min(_MAX_UTTERANCES, -(-len(ids) // min_units)))
    cuts: list[list[str]] = []
    size, seconds = 0, 0.0
    for utterance in sorted(ids, key=lambda i: (loads[i].bytes, i)):
        load = loads[utterance]
        size, seconds = size + load.bytes, seconds + load.seconds
        if not cuts or len(cuts[-1]) >= most or size > _MAX_BYTES or seconds > _MAX_SECONDS:
            cuts.append([])
            size, seconds = load.bytes, load.seconds
        cuts[-1].append(utterance)
    return cuts


def _write(objects: Objects, units: Mapping[str, Sequence[tuple[str, str]]]) -> bool:
    """Write the next plan; False if another worker wrote it first."""
    rows = [(unit, utterance, key) for unit, items in units.items() for utterance, key in items]
    columns = zip(*rows, strict=True)
    table = pa.table([pa.array(c, pa.string()) for c in columns], _SCHEMA)
    last = max((int(name.split(".")[0]) for name in objects.names("plans")), default=0)
    return objects.create(f"plans/{last + 1:06d}.parquet", _bytes(table))


def _tasks(
    units: Mapping[str, Mapping[str, Sequence[tuple[str, str]]]],
    missing: Mapping[str, Mapping[str, str]],
    loads: Mapping[str, Load],
) -> list[Task]:
    """Streams whose unit has the same utterances left share a task, so that each is encoded once for all of them."""
    tasks: dict[tuple[str, ...], Task] = {}
    for stream, planned in units.items():
        taken: set[str] = set()
        for number, (unit, items) in enumerate(planned.items()):
            left = [i for i, key in items if missing[stream].get(i) == key and i not in taken]
            taken.update(left)
            if left:
                ids = tuple(sorted(left, key=lambda i: (loads[i].bytes, i)))
                before = tasks.get(ids, Task(ids, {}, number))
                tasks[ids] = Task(ids, {**before.units, stream: unit}, min(number, before.number))
    return list(tasks.values())
