"""A tracker of the tests: what it finds in the folder of --log-dir tells its process to stand still, or to die once."""

import os
import signal
import time
from pathlib import Path
from typing import Any

STEP = 0.01  # seconds between two looks


class Standing:
    """Writes the id of its process into `processes`; `hold` has it stand still while it is there, `kill` die once."""

    def __init__(self, about: dict[str, Any]) -> None:
        self._folder = Path(about["log_dir"])
        with (self._folder / "processes").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def epoch(self, line: dict[str, Any]) -> None:
        """See `Tracker.epoch`."""
        while (self._folder / "hold").exists():
            time.sleep(STEP)
        try:
            (self._folder / "kill").unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def end(self, stored: bool) -> None:
        """See `Tracker.end`."""
