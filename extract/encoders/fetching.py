"""Bringing the weights of encoders to this machine: checkpoints from the hub, single files by their addresses."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ...cache import EmocacheError
from ..weights import hub
from ..weights.download import fetch_file, keep_file, unzip_member
from ..weights.home import home, make_folder
from ..weights.hub import Listing
from ..weights.pickles import SUFFIXES
from .checkpoints import SETTINGS, WEIGHTS, has_weights
from .registry import EncoderEntry

_NO_COMMERCE = re.compile(r"(?i)(^|[^a-z])nc([^a-z]|$)|non-?commercial")


def forbids_commerce(licence: str) -> bool:
    """Tell whether a licence, by its name, is for other than commercial use only."""
    return bool(_NO_COMMERCE.search(licence))


def addresses_of(entry: EncoderEntry) -> list[str]:
    """Return the addresses of an encoder's one file, those on the hub with the hub's own."""
    from huggingface_hub import constants

    return [address.replace("{hub}", str(constants.ENDPOINT)) for address in entry.addresses]


def here(repository: str, revision: str | None) -> Path | None:
    """Return the folder of a repository on this machine, with all of its weights; None where it is not all here."""
    commit = hub.known_commit(repository, revision)
    folder = None if commit is None else hub.snapshot(repository, commit)
    return folder if folder is not None and has_weights(folder) else None


def tell_of(repository: str, revision: str | None) -> str:
    """Return size and licence of a repository as the hub tells them; "" where it cannot be asked."""
    try:
        listing = hub.list_repository(repository, hub.known_commit(repository, revision) or revision)
        return _size_and_licence(listing)
    except EmocacheError:
        return ""


def fetch_checkpoint(name: str, repository: str, revision: str | None, asked: bool) -> Path:
    """Fetch a checkpoint from the hub, after telling its size and licence.

    Args:
        name: of the encoder.
        repository: `org/name`.
        revision: a commit, branch or tag; None: the main branch, whose commit is recorded when it is first seen.
        asked: the user has asked for just this; if not, a licence that forbids commerce is reason not to.

    Returns:
        Its folder.

    Raises:
        EmocacheError: in one line, what is in the way.
    """
    listing = hub.list_repository(repository, hub.known_commit(repository, revision) or revision)
    files = _wanted(listing)
    what = f"{name}: {repository}@{listing.commit[:12]}, {_size_and_licence(listing)}"
    if forbids_commerce(listing.licence) and not asked:
        raise EmocacheError(
            f"{what}: weights under such a licence are fetched on demand only: emocache checkpoints {name} --fetch"
        )
    _tell(f"fetching {what}")
    if hub.record_commit(listing, revision):
        _tell(f"{repository}: {revision or 'main'} is {listing.commit}, and stays that; name another by @COMMIT")
    return hub.fetch(listing, files)


def fetch_weights(name: str, entry: EncoderEntry, check: Callable[[Path], object], given: Path | None) -> Path:
    """Fetch the one file that holds an encoder's weights, or take one that is given.

    Args:
        name: of the encoder.
        entry: its entry, with addresses.
        check: loads the file as the encoder does, and raises an EmocacheError where it is not what it should be.
        given: a copy that the user has.

    Returns:
        The file, in a folder of the encoder's name below the home.

    Raises:
        EmocacheError: no address gives it, or it is not what it should be.
    """
    folder = make_folder(home() / name)
    if given is not None:
        kinds = (*SUFFIXES, ".safetensors") if entry.file == ".safetensors" else ()
        suffix = given.suffix if given.suffix in kinds else entry.file
        return _take(given, folder / (entry.member or f"{name}{suffix}"), check)
    addresses = addresses_of(entry)
    _tell(f"fetching {name}: {addresses[0]}, {entry.licence or 'no licence told'}")
    target = folder / addresses[0].rpartition("/")[2]
    try:
        if not entry.member:
            origin = fetch_file(addresses, target, check)
            _tell(f"{name}: {target}" + (f", from {origin}" if origin else ", was there"))
            return target
        fetch_file(addresses, target, lambda archive: None)
        member = folder / f".{entry.member}"
        unzip_member(target, entry.member, member)
        keep_file(member, folder / entry.member, check, addresses[0])
        target.unlink()
        return folder / entry.member
    except EmocacheError as error:
        raise EmocacheError(
            f"{error}; get the file another way, and give it with: emocache checkpoints {name} --fetch --from FILE"
        ) from error


def _take(given: Path, target: Path, check: Callable[[Path], object]) -> Path:
    if not given.is_file():
        raise EmocacheError(f"--from {given}: there is no such file")
    copy = target.with_name(f".{target.name}.copy")
    shutil.copyfile(given, copy)
    keep_file(copy, target, check, str(given.absolute()))
    return target


def _size_and_licence(listing: Listing) -> str:
    size = sum(listing.sizes[file] for file in _wanted(listing))
    return f"{size / 1e9:.2f} GB, {listing.licence or 'no licence told'}"


def _wanted(listing: Listing) -> list[str]:
    """Choose the files of a repository: settings, then the weights in the first form that it has them in."""
    for patterns in WEIGHTS:
        weights = listing.matching(patterns)
        if weights:
            return listing.matching(SETTINGS) + weights
    held = ", ".join(sorted(listing.sizes)[:6]) or "nothing"
    raise EmocacheError(f"{listing.repository}@{listing.commit[:12]} has no weights that can be read; it has: {held}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
