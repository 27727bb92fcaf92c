"""From a folder or a URL to the store behind it."""

from pathlib import Path

from .errors import EmocacheError
from .local import LocalObjects
from .objects import Objects
from .remote import Creating, RemoteObjects


def open_objects(root: str | Path, single_writer: bool = False) -> Objects:
    """Open a store from a folder or a URL (`s3://bucket/prefix`, `memory://` for tests).

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
        raise EmocacheError("the cache has no name; give a folder or an s3:// URL")
    if "://" not in text or text.startswith("file://"):
        folder = Path(text.removeprefix("file://"))
        if folder.exists() and not folder.is_dir():
            raise EmocacheError(f"cache {text} is a file; give a folder, or an s3:// URL")
        return LocalObjects(folder)
    from obstore.store import from_url

    try:
        return RemoteObjects(text, from_url(text), creating=Creating(single_writer))
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise EmocacheError(f"cache {text!r} cannot be opened: {why}; give a folder or an s3:// URL") from error
