"""Media as somebody names them on the command line: files, folders and tables become clips."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..cache import EmocacheError, Media, Utterance
from .corpora.files import MediaHasher, media_files
from .corpora.table import utterances
from .corpora.table_file import read_table
from .media.audio import MEDIA_SUFFIXES, VIDEO_SUFFIXES
from .media.readings import Readings, read_as

CORPUS = "predicted"
"""The corpus that clips of no corpus are in."""
_TABLES = (".csv", ".tsv", ".parquet")
_TAKEN = ("id", "file", "start", "end", "text", "speaker")
_ROUNDING = 1.001  # a header's length of a file is a little less, or more, than that of another of the same samples


@dataclass(frozen=True)
class GivenClip:
    """One clip that was asked for.

    Attributes:
        name: as it was given: a path, or the id in a table.
        path: of its file. sha256: of the file.
        windows: (start, end, utterance) of each piece that is encoded by itself, in seconds from the clip's start;
            one that has no end is the whole clip.
        speaker: None where nobody knows.
    """

    name: str
    path: Path
    sha256: str
    windows: tuple[tuple[float, float | None, Utterance], ...]
    speaker: str | None = None


@dataclass
class Given:
    """All that was asked for.

    Attributes:
        clips: in the order in which they were given. failures: {name: why it cannot be used}.
        notes: lines to tell the user.
    """

    clips: list[GivenClip] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def utterances(self) -> list[Utterance]:
        """Every window of every clip, each once."""
        found = {u.id: u for clip in self.clips for _, _, u in clip.windows}
        return list(found.values())


def find_media(paths: Sequence[Path], longest: float | None, window: float | None) -> Given:
    """Find clips, and cut those that are longer than training has seen into windows.

    Args:
        paths: files, folders, which are searched, and tables, whose rows have a file, or an id, and may have start,
            end, text and speaker.
        longest: seconds of a clip that is not cut; None: none is.
        window: most seconds of a window; None: `longest`.

    Returns:
        The clips, and what cannot be used.

    Raises:
        EmocacheError: nothing was found at all, or a table that cannot be read.
    """
    given, hasher = Given(), MediaHasher()
    for path in paths:
        for name, row in _rows(path, given, hasher):
            file = path if row is None else path.parent / row.media[0].path
            file = Path(name) if row is None else file
            try:
                probe = hasher.probe([file])[file]
            except EmocacheError as error:
                given.failures[name] = str(error)
                continue
            start, end = (None, None) if row is None else (row.start, row.end)
            duration = probe.duration if row is None else row.duration
            suffix = file.suffix.lower()
            roles = ("audio", "video") if suffix in VIDEO_SUFFIXES else ("audio",)
            media = tuple(Media(role, f"{probe.sha256}{suffix}", probe.sha256) for role in roles)
            whole = Utterance("clip", media, start, end, duration, text=None if row is None else row.text)
            readings = {Path("/", media[0].path): hasher.readings.get(file.absolute(), {})}
            windows = tuple(
                (a, b, _identified(u, suffix, readings)) for a, b, u in cut_into_windows(whole, longest, window)
            )
            if len(windows) > 1:
                given.notes.append(f"{name}: {duration:.0f} s, predicted in {len(windows)} windows")
            speaker = None if row is None else row.speaker
            given.clips.append(GivenClip(name, file, probe.sha256, windows, speaker))
    if not given.clips and not given.failures:
        raise EmocacheError(
            f"no media in {', '.join(map(str, paths))}; give files, folders with {_kinds()}, or a table"
        )
    return given


def cut_into_windows(
    clip: Utterance, longest: float | None, window: float | None
) -> Iterator[tuple[float, float | None, Utterance]]:
    """Cut a clip into windows of one length, as few as are not too long.

    Args:
        clip: with its duration. One with a text is not cut, because nobody knows which part of the text is said when.
        longest: seconds of a clip that is not cut; None: none is.
        window: most seconds of a window; None: `longest`.

    Yields:
        (start, end, utterance) of each, in seconds from the clip's start; end is None of a clip that is not cut.
    """
    seconds, most = clip.duration, window or longest
    if longest is None or not most or seconds is None or seconds <= longest * _ROUNDING or clip.text is not None:
        yield 0.0, None, clip
        return
    count = int(-(-seconds // most))
    first = clip.start or 0.0
    for number in range(count):
        start, end = seconds * number / count, seconds * (number + 1) / count
        # The header may be wrong by a few samples: the last window goes to where the clip ends.
        until = clip.end if number == count - 1 else first + end
        yield start, end, replace(clip, start=first + start, end=until, duration=end - start)


def _identified(clip: Utterance, suffix: str, readings: Mapping[Path, Readings]) -> Utterance:
    """Name an utterance after what it is, so that the same clip is found again under any path."""
    told = read_as(clip, Path("/"), readings)
    span = "" if clip.start is None and clip.end is None else f"@{clip.start or 0:.6f}-{clip.end or 0:.6f}"
    return replace(told, id=f"{told.inputs_sha256(('audio', 'video', 'text'))[:32]}{suffix}{span}")


def _rows(path: Path, given: Given, hasher: MediaHasher) -> Iterator[tuple[str, Utterance | None]]:
    """(name, row of a table or None) of everything that a path stands for."""
    if path.is_dir():
        found = media_files(path, notes=given.notes)
        if not found:
            given.failures[str(path)] = f"no media in this folder; there is none of {_kinds()}"
        yield from ((str(file), None) for file in found)
    elif not path.is_file():
        given.failures[str(path)] = "there is no such file" if not path.exists() else "it is no regular file"
    elif path.suffix.lower() in _TABLES:
        columns = {name: cells for name, cells in read_table(path).items() if name in _TAKEN}
        yield from ((row.id, row) for row in utterances(path, path.parent, columns, {}, hasher))
    elif path.suffix.lower() not in MEDIA_SUFFIXES:
        given.failures[str(path)] = (
            f"by its name it is neither a medium ({_kinds()}) nor a table ({', '.join(_TABLES)})"
        )
    else:
        yield str(path), None


def _kinds() -> str:
    return ", ".join(sorted(MEDIA_SUFFIXES))
