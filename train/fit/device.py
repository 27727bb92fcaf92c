"""The device that heads are trained and applied on."""

import torch

from ...cache import EmocacheError


def choose_device(name: str) -> str:
    """Choose the device that heads are trained on.

    Args:
        name: "auto", which is cuda where there is one, "cpu" or "cuda".

    Returns:
        "cpu" or "cuda".

    Raises:
        EmocacheError: cuda is asked for and absent.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise EmocacheError("--device cuda: this machine has no CUDA device that torch can use; use --device cpu")
    return name
