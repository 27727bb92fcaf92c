"""From an experiment's name or file to its settings, checked to the last point of its search."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...cache import EmocacheError
from .experiment_files import ExperimentFile, key_of, open_experiment
from .experiment_names import EXPERIMENTS
from .fusion_settings import FusionSettings
from .layer_words import setting_of, with_names
from .parsing import parse_settings
from .search import search_points
from .setting_errors import validated
from .settings import Settings


class Experiment(NamedTuple):
    """A validated experiment, and the file it is in."""

    name: str
    path: Path
    settings: Settings | FusionSettings

    @property
    def called(self) -> str:
        """The word that `emocache train` knows it by: the name of a shipped one, else its file."""
        return self.name if self.path.is_relative_to(EXPERIMENTS) else str(self.path)


def load_experiment(
    experiment: str, overrides: Sequence[str] = (), there: Callable[[], Sequence[str]] = tuple
) -> Experiment:
    """Read an experiment, with a head or a fusion of others.

    Args:
        experiment: a name under train/experiments, or the path of a TOML file.
        overrides: `dotted.key=value`, the value as in TOML; what is no TOML value is taken as text. Of a fusion only
            `fusion.` settings are its own; the others are for its members.
        there: gives the streams there are to train on, for errors about streams.

    Returns:
        The experiment, every point of whose search fits as well.

    Raises:
        EmocacheError: no such experiment, a file that is no TOML, a setting that does not exist (the nearest one is
            named) or a value that does not fit. It names the file and the setting.
    """
    file = open_experiment(experiment)
    if "fusion" in file.values:
        # The other overrides are for the members, whose files are read later.
        own = [override for override in overrides if key_of(override).partition(".")[0] == "fusion"]
        return Experiment(file.name, file.path, _parse_fusion(open_experiment(experiment, own)))
    file = open_experiment(experiment, overrides)
    if "streams" not in file.values:
        raise EmocacheError(f"{file.place('')}: no streams; {_streams_hint(there())}")
    settings = parse_settings(with_names(file.values, file.place, there), file.place)
    # A setting given by hand is not searched.
    fixed = {setting_of(key_of(override)) for override in overrides}
    settings = settings.model_copy(update={"search": {k: v for k, v in settings.search.items() if k not in fixed}})
    try:
        list(search_points(settings))
    except EmocacheError as error:
        raise EmocacheError(f"{file.place('search')}: {error}") from None
    return Experiment(file.name, file.path, settings)


def load_settings(experiment: str, overrides: Sequence[str] = ()) -> tuple[str, Settings]:
    """Read the name and the settings of an experiment with a head; see `load_experiment`.

    Args:
        experiment: a name under train/experiments, or the path of a TOML file.
        overrides: `dotted.key=value`.

    Returns:
        Its name, which its runs are stored under, and its settings.

    Raises:
        EmocacheError: see there; or the experiment fuses others.
    """
    name, path, settings = load_experiment(experiment, overrides)
    if isinstance(settings, FusionSettings):
        raise EmocacheError(f"{path}: {name!r} fuses stored predictions and has no head of its own; name one of its"
                            f" members: {', '.join(settings.fusion.members)}")  # fmt: skip
    return name, settings


def _parse_fusion(file: ExperimentFile) -> FusionSettings:
    others = sorted(set(file.values) - {"description", "report", "fusion"})
    if others:
        raise EmocacheError(f"{file.place(others[0])}: unknown setting {others[0]!r} of a fusion, which has"
                            " description, report and [fusion] only; set it in its members")  # fmt: skip
    return validated(FusionSettings, file.values, file.place, "")


def _streams_hint(there: Sequence[str]) -> str:
    told = f"the cache has: {', '.join(there)}" if there else "`emocache cache ls CACHE` lists those of a cache"
    return f"say which to train on, such as --set 'streams=[\"{there[0] if there else 'NAME'}\"]'; {told}"
