"""Things from outside the package, named `module:attribute` on the command line: encoders, corpora, trackers."""

from importlib import import_module
from typing import Any

from .errors import EmocacheError


def is_outside(name: str) -> bool:
    """Tell whether a name is `module:attribute`."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def load_outside(name: str, option: str) -> Any:
    """Load the object that `module:attribute` names.

    Args:
        name: such as "my_encoder:Loudness"; the module is found as Python finds any other.
        option: what the user gave it as, for the message.

    Returns:
        Whatever it is.

    Raises:
        EmocacheError: no such module, one that fails when it is imported, or no such attribute in it.
    """
    module, _, attribute = name.partition(":")
    try:
        found = import_module(module)
    except Exception as error:
        raise EmocacheError(
            f"{option} {name}: module {module!r} cannot be imported ({type(error).__name__}: {error});"
            " put its folder on PYTHONPATH"
        ) from error
    if not callable(getattr(found, attribute, None)):
        where = getattr(found, "__file__", None) or f"module {module!r}"
        raise EmocacheError(f"{option} {name}: {where} has nothing called {attribute!r} that can be called")
    return getattr(found, attribute)
