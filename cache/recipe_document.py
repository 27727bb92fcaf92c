"""A stream's `recipe.json`: its recipe, and what made it."""

import contextlib
from collections.abc import Mapping
from typing import Any

from .objects import Objects, create_once
from .recipe import fingerprint, is_recipe
from .sealed import DamagedError, seal, unseal


def check_document(document: Mapping[str, Any], what: str) -> None:
    """Refuse what no `recipe.json` may hold, whoever has sealed it.

    Args:
        document: what it holds, unsealed.
        what: what errors call it.

    Raises:
        DamagedError: a key is absent or not of its kind, or the fingerprint is not the recipe's.
    """
    texts = (document.get("fingerprint"), document.get("backend"), document.get("created"))
    if not all(isinstance(text, str) for text in texts) or not isinstance(document.get("environment"), Mapping):
        raise DamagedError(f"{what}: lacks its fingerprint, backend, date or environment; restore it, or extract again")
    if not is_recipe(document.get("recipe")):
        raise DamagedError(f"{what}: holds no recipe that could be read; restore it, or extract again")
    if fingerprint(document["recipe"]) != document["fingerprint"]:
        raise DamagedError(f"{what}: the recipe is not that of its fingerprint; restore it, or extract again")


def create_recipe(objects: Objects, document: dict[str, Any]) -> dict[str, Any]:
    """Return what recipe.json says, after writing it where there is none or one that is damaged.

    It is looked at first: a stream that is there asks for no right to write.
    """
    data = seal(document, pretty=True)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, DamagedError):
        return existing_recipe(objects)
    if create_once(objects, "recipe.json", data):
        return document
    try:
        return existing_recipe(objects)
    except DamagedError:
        objects.replace("recipe.json", data)
        return document


def existing_recipe(objects: Objects) -> dict[str, Any]:
    """Return what a stream's recipe.json says. Raises FileNotFoundError, DamagedError."""
    document = unseal(objects.get("recipe.json"), f"{objects.url}/recipe.json")
    check_document(document, f"{objects.url}/recipe.json")
    return document
