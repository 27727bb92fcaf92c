"""The model hub: what a repository holds, and its files in the hub client's own folder.

The client honours HF_HOME, HF_ENDPOINT, HF_TOKEN and the proxies of the environment by itself.
"""

import fnmatch
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...cache import EmocacheError
from ...cache.hashing import file_sha256
from .home import check_room, home, one_at_a_time, recall, remember

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_SECONDS = 4.0  # to wait for the first answer; the client itself would try for a minute


@dataclass(frozen=True)
class Listing:
    """A repository at one commit, as the hub tells of it.

    Attributes:
        repository: `org/name`. commit: 40 hex digits.
        licence: as the hub has it; "" where it has none.
        sizes: {file: bytes}. hashes: {file: sha256}, of the large ones.
    """

    repository: str
    commit: str
    licence: str
    sizes: dict[str, int]
    hashes: dict[str, str]

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Return the files of the top folder that any of the patterns names, the smallest first."""
        top = [name for name in self.sizes if "/" not in name]
        names = [name for name in top if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        return sorted(names, key=lambda name: (self.sizes[name], name))


def parse_repository(name: str) -> tuple[str, str | None] | None:
    """Split `org/name[@revision]`; None where a name is none of these."""
    repository, _, revision = name.partition("@")
    return (repository, revision or None) if _REPOSITORY.fullmatch(repository) else None


def is_offline() -> bool:
    """Tell whether the environment forbids to ask the hub."""
    from huggingface_hub import constants

    return bool(constants.is_offline_mode())


def known_commit(repository: str, revision: str | None) -> str | None:
    """Return the commit of a revision: itself, or the one that was recorded when it was first asked for."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    record = recall(_record_of(repository, revision)) or {}
    commit = str(record.get("commit", ""))
    return commit if _COMMIT.fullmatch(commit) else None


def record_commit(listing: Listing, revision: str | None) -> bool:
    """Remember licence and commit, so that a branch is the same ever after; True where its commit was not known."""
    new = known_commit(listing.repository, revision) is None
    remember(_record_of(listing.repository, revision), {"commit": listing.commit, "licence": listing.licence})
    return new


def known_licence(repository: str, revision: str | None) -> str:
    """Return the licence that the hub told when a repository was first asked for; "" where it never was."""
    return str((recall(_record_of(repository, revision)) or {}).get("licence", ""))


def snapshot(repository: str, commit: str) -> Path | None:
    """Return the folder of a repository's files on this machine; None where nothing of that commit is here."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=commit)
    return Path(found).parent if isinstance(found, str) else None


def list_repository(repository: str, revision: str | None) -> Listing:
    """Ask the hub what a repository holds.

    Args:
        repository: `org/name`.
        revision: a commit, branch or tag; None: the main branch.

    Returns:
        Its listing, at one commit.

    Raises:
        EmocacheError: in one line, within seconds: no network, no such repository or revision, or no access.
    """
    from huggingface_hub import HfApi

    asked = _told_in_time(
        lambda: HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=_SECONDS), repository
    )
    card = asked.card_data
    licence = str((getattr(card, "license_name", None) or getattr(card, "license", None) or "") if card else "")
    files = asked.siblings or []
    return Listing(
        repository,
        str(asked.sha),
        licence,
        {file.rfilename: int(file.size or 0) for file in files},
        {file.rfilename: str(file.lfs["sha256"]) for file in files if file.lfs},
    )


def fetch(listing: Listing, files: Sequence[str]) -> Path:
    """Fetch files into the hub client's folder; what was begun before goes on.

    Args:
        listing: of the repository.
        files: some of its names, in this order: weights last, so that where they are, all is.

    Returns:
        The folder that holds them.

    Raises:
        EmocacheError: in one line: no network, no access, no room, or bytes that are not those that the hub told of.
    """
    from huggingface_hub import constants, errors, hf_hub_download

    check_room(Path(constants.HF_HUB_CACHE), sum(listing.sizes[name] for name in files), listing.repository)
    folder = None
    for name in files:
        try:
            if name in listing.hashes:
                _receive(listing, name)
            file = hf_hub_download(listing.repository, name, revision=listing.commit, etag_timeout=_SECONDS)
        except EmocacheError:
            raise
        except Exception as error:  # of whichever HTTP library the client is built on
            again = "" if isinstance(error, errors.HfHubHTTPError) else "; the same command goes on from there"
            raise EmocacheError(f"{explain(error, listing.repository)}{again}") from error
        folder = Path(file).parent
    if folder is None:
        raise EmocacheError(f"{listing.repository} at {listing.commit[:12]} holds none of the files that are needed")
    return folder


def _receive(listing: Listing, name: str) -> None:
    """Bring a large file to where the client looks for it.

    The client itself begins anew when it was killed, and takes whatever bytes have the right number.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    told = listing.hashes[name]
    folder = repo_folder_name(repo_id=listing.repository, repo_type="model")
    blob = Path(constants.HF_HUB_CACHE) / folder / "blobs" / told
    if blob.is_file():
        return
    address = hf_hub_url(listing.repository, name, revision=listing.commit)
    location = get_hf_file_metadata(address, timeout=_SECONDS).location
    # The token is for the hub, not for the host that it sends to.
    headers = build_hf_headers() if urlsplit(location).netloc == urlsplit(address).netloc else {}
    with one_at_a_time(blob):
        if not blob.is_file():  # another process may have brought it meanwhile
            _download(location, headers, listing, name, blob)


def _download(location: str, headers: dict[str, str], listing: Listing, name: str, blob: Path) -> None:
    from huggingface_hub.file_download import http_get

    told = listing.hashes[name]
    part = blob.with_name(f"{told}.emocache.part")
    with part.open("ab") as file:
        http_get(
            location, file, resume_size=file.tell(), headers=headers, expected_size=listing.sizes[name],
            displayed_filename=name,
        )  # fmt: skip
    found = file_sha256(part)
    if found != told:
        part.unlink()
        raise EmocacheError(
            f"{listing.repository}: {name} came with sha256 {found[:12]}, and the hub tells {told[:12]}; it was"
            " removed, run the same command again"
        )
    part.replace(blob)


def explain(error: BaseException, repository: str) -> str:
    """Return one line on an error of the hub's client, without what it was asked with."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: accept its terms at {constants.ENDPOINT}/{repository}, and set HF_TOKEN to a token"
            " of the account that did"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repository}: the hub has no such repository, or it is private and HF_TOKEN has no access to it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository}: the hub has no such revision of it"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repository} is not on this machine, and HF_HUB_OFFLINE forbids to ask the hub"
    if isinstance(error, OSError) and error.errno == 28:
        return f"{repository}: no space is left on the disk of {constants.HF_HUB_CACHE}; free some, or set HF_HOME"
    status = getattr(getattr(error, "response", None), "status_code", None)
    why = f"status {status}" if status else type(error).__name__
    return f"{repository} cannot be fetched from {constants.ENDPOINT} ({why}); check the network, or HF_ENDPOINT"


def _told_in_time(ask: Callable[[], Any], repository: str) -> Any:
    """Ask in a thread of its own: looking a host up has no time limit, and must not hold the command up."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((ask(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_SECONDS + 0.5)
    result, error = outcome[0] if outcome else (None, TimeoutError())
    if error is not None:
        raise EmocacheError(explain(error, repository)) from error
    return result


def _record_of(repository: str, revision: str | None) -> Path:
    plain = f"{repository}@{revision or 'main'}".replace("/", "--")
    return home() / "commits" / f"{plain}.json"
