"""Loading a checkpoint's tokenizer, and seeing that it is made of the files that the recipe's hash covers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cache import EmocacheError
from .checkpoints import Checkpoint, read_json, refuse_own_code

# All of them are hashed.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")
# transformers takes these in place of a vocabulary above, the first if tokenizer_config.json lists it.
_STRAYS = ("tokenizer.*.json", "tokenizer.model*", "tiktoken.model", "tekken.json")
_REMEDY = "save the checkpoint's fast tokenizer there with transformers' save_pretrained"


def load_tokenizer(checkpoint: Checkpoint, tokenizer_class: Any) -> Any:
    """Load a checkpoint's tokenizer.

    Args:
        checkpoint: its folder holds the vocabulary.
        tokenizer_class: of transformers, such as `AutoTokenizer`.

    Returns:
        The tokenizer, of that class or of the one that an Auto class chose.

    Raises:
        EmocacheError: it cannot be loaded, has no vocabulary, or has one that the recipe would not know of.
    """
    folder = checkpoint.folder
    settings = read_json(folder / "tokenizer_config.json") or {}
    refuse_own_code(folder, settings, "AutoTokenizer")
    try:
        tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # missing files, bad JSON and unknown classes share no base class
        raise EmocacheError(f"{folder}: the tokenizer cannot be loaded; is tokenizer.json there?") from error
    readable = {*type(tokenizer).vocab_files_names.values(), "tokenizer.json"}
    _check_vocabulary(folder, [name for name in _VOCABULARIES if name in readable], "fast_tokenizer_files" in settings)
    return tokenizer


def _check_vocabulary(folder: Path, names: Sequence[str], versioned: bool) -> None:
    # Without any of its files a tokenizer of transformers 5 is an empty one, and says nothing.
    found = [name for name in names if (folder / name).is_file()]
    if not found:
        raise EmocacheError(f"{folder}: there is no {' or '.join(names)}, without which no word is known; {_REMEDY}")
    patterns = _STRAYS[:1] * versioned + _STRAYS[1:] * ("tokenizer.json" not in found)
    strays = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
    if strays:
        raise EmocacheError(f"{folder}: {strays[0]} may be read in place of {found[0]}, and is not hashed; {_REMEDY}")
