"""Event files that TensorBoard reads: a folder for each run."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...cache import EmocacheError


def check_installed() -> None:
    """Raise an EmocacheError unless the extra `tensorboard` is installed."""
    if find_spec("tensorboard") is None:
        raise EmocacheError("--log tensorboard: the package tensorboard is not installed; pip install"
                            " 'emocache[tensorboard]'")  # fmt: skip


class EventFiles:
    """The scalars of one run: every number of an epoch, under its phase."""

    def __init__(self, about: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # One folder a run, whose name is none of a run folder.
        name = f"{about['setting']}-{Path(about['folder']).name}"
        folder = Path(about["log_dir"], about["experiment"], "+".join(about["corpora"]), name)
        for old in folder.glob("events.out.tfevents.*"):  # of the same run, killed: its epochs come again
            old.unlink(missing_ok=True)
        self._writer: Any = SummaryWriter(str(folder))

    def epoch(self, line: dict[str, Any]) -> None:
        """Write the numbers of an epoch."""
        told = [
            line.get("phase", ""),
            *(f"{k}={v}" for k, v in (line.get("trial") or {}).items()),
            line.get("target", ""),
            f"part {line['inner']}" if "inner" in line else "",
        ]
        place = "/".join(str(part) for part in told if part)
        for key, value in line.items():
            if key not in ("epoch", "epochs", "inner") and isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(f"{place}/{key}" if place else key, value, line["epoch"])
        self._writer.flush()

    def end(self, stored: bool) -> None:
        """Close the file."""
        self._writer.close()
