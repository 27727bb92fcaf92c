"""The process on a machine of a Ray cluster that trains runs. torch is imported after its threads are set."""

import os
import socket
from typing import TYPE_CHECKING

from ....cache import EmocacheError
from ....cache.device import is_out_of_memory
from ....cache.ray_cluster import settle

if TYPE_CHECKING:
    from ..processes import Run, SharedPlan


class Trainer:
    """Trains and stores one run after the other, as a process of `--jobs` would.

    Args:
        folder: that the command was started in.
        threads: of torch.
    """

    def __init__(self, folder: str, threads: int) -> None:
        self._folder, self._threads = folder, threads

    def ready(self) -> None:
        """Answer as soon as a machine has had room for this process."""

    def train(self, shared: "SharedPlan", run: "Run") -> str:
        """Train and store a run; returns a line that tells of it.

        Raises:
            EmocacheError: of the run; or this machine does not see the files that the machines share. Names it.
        """
        here = f"worker on {socket.gethostname()}"
        try:
            settle(self._folder, self._threads)
            import torch

            from ..processes import train_shared

            torch.set_num_threads(self._threads)  # of this very thread
            if not shared.plan.runs.is_dir():
                raise EmocacheError(f"there is no folder {shared.plan.runs}; give a folder for the runs that all"
                                    " machines see")  # fmt: skip
            return train_shared(shared, run)
        except EmocacheError as error:
            raise EmocacheError(f"{here}: {error}") from None
        except FileNotFoundError as error:
            raise EmocacheError(f"{here}: there is no {error.filename}, which the command has written; give a folder"
                                " for the runs, and a cache, that all machines see") from None  # fmt: skip
        except Exception as error:
            if is_out_of_memory(error):  # for which there is a remedy
                raise
            raise EmocacheError(f"{here}: {type(error).__name__}: {' '.join(str(error).split())}") from None

    def leave(self) -> None:
        """End this process; a run that is being stored is stored first."""
        from ...stored.run_folders import storing
        from ...watch.watching import remove_files

        with storing:
            remove_files()
            os._exit(1)
