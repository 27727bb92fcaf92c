"""From a folder or a URL to the store behind it."""

from pathlib import Path

from .errors import EmocacheError
from .hints import did_you_mean
from .local import LocalObjects
from .objects import Objects
from .providers import PROVIDERS, connect, kind_of
from .remote import Creating, RemoteObjects
from .store_errors import why_not

_SCHEMES = ("s3", "gs", "az")
_KNOWN = ", ".join(provider.urls for provider in PROVIDERS.values())


def open_objects(root: str | Path, single_writer: bool = False) -> Objects:
    """Open a store from a folder or a URL (of `PROVIDERS`, such as `s3://bucket/prefix`; `memory://` for tests).

    Args:
        root: the folder, or the URL.
        single_writer: nobody else writes meanwhile, so that an object store need not heed the conditions of puts.

    Returns:
        the store; nothing is created yet.

    Raises:
        EmocacheError: no root, as of an unset variable, a file, an unknown scheme, or a store that cannot be reached.
    """
    text = str(root)
    if not text.strip():
        raise EmocacheError(f"the cache has no name; give a folder or {_KNOWN}")
    if "://" not in text or text.startswith("file://"):
        folder = Path(text.removeprefix("file://"))
        if folder.exists() and not folder.is_dir():
            raise EmocacheError(f"cache {text} is a file; give a folder, or {_KNOWN}")
        return LocalObjects(folder)
    kind = kind_of(text)
    if kind is None:
        scheme = text.partition("://")[0]
        hint = "" if scheme in _SCHEMES else did_you_mean(scheme, _SCHEMES)
        raise EmocacheError(f"cache {text!r} is of no kind that is known: {hint}give a folder or {_KNOWN}")
    provider = PROVIDERS.get(kind)
    try:
        return RemoteObjects(text, connect(text, provider), "", Creating(single_writer), provider)
    except EmocacheError:
        raise
    except Exception as error:
        raise EmocacheError(f"cache {text!r} cannot be opened: {why_not(error, provider)}") from error
