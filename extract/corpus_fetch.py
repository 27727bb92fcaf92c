"""`emocache corpora CORPUS --fetch DIR`: an open corpus from its owner's address into a folder, checked and counted."""

import hashlib
import http.client
import json
import shlex
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..cache import EmocacheError
from .corpora import REGISTRY, MediaHasher
from .corpora.census import Census, take_census
from .corpora.origins import Origin, led, origin_of, tell_origin
from .unpacking import DamagedError, is_complete, list_files, unpack
from .weights.download import fetch_file, reason, record_of
from .weights.home import check_room, one_at_a_time, recall, remember

_SECONDS = 10.0  # to wait for the record
_MOST_TOLD = 4 << 20  # bytes of a record; real ones have some tens of kB
_ELSEWHERE = "name a folder on another disk with --fetch"


@dataclass(frozen=True, slots=True)
class _Archive:
    """A zip to be fetched.

    Attributes:
        address: where it is.
        size: bytes; 0 where nobody tells.
        md5: in hex; "" where none is published.
    """

    address: str
    size: int = 0
    md5: str = ""

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]


def fetch_corpus(corpus: str, folder: Path, with_video: bool) -> bool:
    """Fetch a corpus, after telling its licence; where its owner wants to be asked, tell how.

    Args:
        corpus: a name of the registry.
        folder: to be filled; what is there already stays.
        with_video: fetch the archives with the pictures too.

    Returns:
        True: the corpus is in the folder. False: it is to be got by hand.

    Raises:
        EmocacheError: in one line, what is in the way.
    """
    origin = _known_origin(corpus)
    if with_video and not origin.video:
        raise EmocacheError(f"corpus {corpus} has no archives of video to fetch; leave out --video")
    print(tell_origin(corpus, str(folder)), flush=True)
    if not origin.archives:
        print(f"nothing is fetched: {corpus} is got by hand, as above")
        return False
    if find_spec("filelock") is None:
        raise EmocacheError("fetching needs filelock; install it with: pip install 'emocache[extract]'")
    _check_folder(folder)
    with one_at_a_time(folder / corpus):
        addresses = [*origin.archives, *(origin.video if with_video else ())]
        missing = [address for address in addresses if not _is_unpacked(folder, address)]
        for archive in _ask(origin, missing):
            _bring(archive, folder, origin.page)
    counts = take_census(corpus, folder, {}, MediaHasher())
    print(f"{corpus} in {folder}: {_counted(counts)}")
    print(f"now type: make extract DATASET={corpus} DATA={shlex.quote(str(folder))}")
    return True


def _known_origin(corpus: str) -> Origin:
    origin = origin_of(corpus)
    if origin is not None:
        return origin
    from ..cache.hints import nearest

    if corpus in REGISTRY:
        raise EmocacheError(f"{corpus} is nothing to fetch: {REGISTRY[corpus].description}")
    close = nearest(corpus, REGISTRY)
    hint = f"did you mean {close}? " if close else ""
    raise EmocacheError(f"unknown corpus {corpus!r}; {hint}there are: {', '.join(REGISTRY)}")


def _check_folder(folder: Path) -> None:
    """Make the folder, and refuse one that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EmocacheError(f"{folder}: cannot be written to ({error.strerror}); name another with --fetch") from error


def _ask(origin: Origin, addresses: list[str]) -> list[_Archive]:
    """Return archives with the sizes and md5 that the record tells, where there is one."""
    if not origin.record:
        return [_Archive(led(address)) for address in addresses]
    if not addresses:
        return []
    told = _read_record(led(origin.record))
    plain = [_Archive(led(address)) for address in addresses]
    lacking = [archive.name for archive in plain if archive.name not in told]
    if lacking:
        raise EmocacheError(
            f"{led(origin.record)} tells no size and md5 of {', '.join(lacking)}; get the corpus from {origin.page}"
        )
    return [_Archive(archive.address, *told[archive.name]) for archive in plain]


def _read_record(address: str) -> dict[str, tuple[int, str]]:
    """Return {file: (bytes, md5)} of a record of Zenodo."""
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as response:
            document = json.loads(response.read(_MOST_TOLD))
        files = {}
        for file in document["files"]:
            kind, _, digest = str(file["checksum"]).partition(":")
            if kind == "md5":
                files[str(file["key"])] = int(file["size"]), digest.lower()
        return files
    except (OSError, http.client.HTTPException) as error:
        raise EmocacheError(
            f"{address} cannot be asked ({reason(error)}); see that this machine reaches it, and type the same command"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise EmocacheError(f"{address} does not answer as Zenodo does ({error!r}); try again later") from error


def _bring(archive: _Archive, folder: Path, page: str) -> None:
    """Fetch an archive, unpack it, and remove it."""
    target = folder / archive.name
    _tell(f"fetching {archive.address}" + (f", {archive.size / 1e9:.2f} GB" if archive.size else ""))
    given = target.is_file() and not record_of(target).exists()  # by the user, who keeps it
    try:
        _receive(archive, target)
    except EmocacheError as error:
        raise EmocacheError(f"{error}; try again, or see {page}") from error
    try:
        files = list_files(target)
        check_room(folder, sum(files.values()), f"{archive.name}, unpacked,", _ELSEWHERE)
        unpack(target, folder)
    except DamagedError as error:
        if given:
            raise EmocacheError(f"{error}; move {target} away, and type the same command") from error
        target.unlink()
        raise EmocacheError(f"{error}; it is removed, and the same command gets it anew") from error
    remember(record_of(target), (recall(record_of(target)) or {"origin": "given"}) | {"files": files})
    if not given:
        target.unlink()
    checked = "its md5 is the published one" if archive.md5 else "no md5 is published to compare"
    _tell(f"{archive.name}: {len(files)} files unpacked; {checked}")


def _receive(archive: _Archive, target: Path) -> None:
    """Fetch an archive, or check the one that is there."""
    if target.is_file():
        try:
            _check(target, archive)
        except EmocacheError as error:
            raise EmocacheError(f"{target} is not what is published: {error}; move it away") from error
        return
    here = _bytes_of_part(target)
    check_room(target.parent, archive.size - here, archive.name, _ELSEWHERE)
    try:
        fetch_file([archive.address], target, lambda file: _check(file, archive), _ELSEWHERE)
    except KeyboardInterrupt:
        _tell(f"{archive.name}: {_bytes_of_part(target)} bytes are kept; the same command goes on from there")
        raise


def _check(file: Path, archive: _Archive) -> None:
    """Raise where a file is not the archive that it should be; what came so is removed."""
    if archive.md5:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != archive.md5:
            raise EmocacheError(f"md5 {found}, published is {archive.md5}")
    if not zipfile.is_zipfile(file):
        raise EmocacheError("it is no zip archive")


def _is_unpacked(folder: Path, address: str) -> bool:
    files = (recall(record_of(folder / address.rpartition("/")[2])) or {}).get("files")
    return isinstance(files, dict) and is_complete(folder, files)


def _bytes_of_part(target: Path) -> int:
    return sum(part.stat().st_size for part in target.parent.glob(f"{target.name}.*.part"))


def _counted(census: Census) -> str:
    """Say in words how many utterances there are beside the published number."""
    found = f"{census.utterances} utterances of {census.speakers} speakers"
    published = census.published
    if published is None:
        return found
    lacks = _differing(census, published.classes)
    if published.utterances == census.utterances and not lacks:
        return f"{found}, as published"
    speakers = "" if published.speakers is None else f" of {published.speakers} speakers"
    more = f"; {', '.join(lacks)}" if lacks else ""
    return (
        f"{found}; published are {published.utterances}{speakers}{more}; `emocache corpora {census.corpus} --data"
        f" {shlex.quote(str(census.root))}` counts all"
    )


def _differing(census: Census, classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [
        f"{name} {found} of {count}"
        for label, counts in classes.items()
        for name, count in counts.items()
        if (found := census.labels.get(label, {}).get(name, 0)) != count
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
