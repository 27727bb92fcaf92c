"""`emocache predict`: what stored runs say of new sound and video. Heavy imports happen inside the command."""

import csv
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cache.device import DEVICE, DEVICE_HELP

if TYPE_CHECKING:
    from .prediction import Prediction, Predictions


def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|DIR", help="Folder of a run, of the runs of one setting, or of an export.")
    ],
    media: Annotated[list[Path], typer.Argument(metavar="MEDIA...", help="Sound, video, folders, or a table.")],
    fold: Annotated[int | None, typer.Option(metavar="K", min=0, help="The model of this fold.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="The model of this seed.")] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="DIR|URL", help="Streams that are there are used, new ones are added.")
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for tracks of valence and the like: CSV and a picture.")
    ] = Path("predictions"),
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each clip, and no files.")] = False,
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Local weights: a folder or a file per name.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="FILE", help="YuNet's .onnx file, where faces were found by it.")
    ] = None,
    device: Annotated[str, typer.Option(metavar=DEVICE_HELP, help="Where the models run.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Decode threads; as many as cores, at most 16, if not given.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the model hub.")] = False,
) -> None:
    """Predict emotions in new media by stored runs.

    Without --fold and --seed: the run on all utterances (train --final) if there is one, else the mean over all folds
    and seeds. Exits with 1 if a clip failed.
    """
    if not DEVICE.fullmatch(device):
        raise typer.BadParameter(f"{device!r} is not one of auto, cpu, cuda, cuda:N", param_hint="--device")
    from .cache.errors import EmocacheError
    from .prediction import Predictor

    if out.exists() and not out.is_dir():
        raise EmocacheError(f"--out {out} is a file; give a folder")
    predictor = Predictor(run, fold=fold, seed=seed, cache=cache, how=_how(checkpoints, detector, device, workers,
                                                                           offline), device=device)  # fmt: skip
    found = predictor.predict(media)
    for note in found.notes:
        print(note, file=sys.stderr)
    if as_json:
        for clip in found.clips:
            print(json.dumps({**as_document(clip), "model": found.model}, ensure_ascii=False))
        for name, why in found.failures.items():
            print(json.dumps({"clip": _printable(name), "error": why}, ensure_ascii=False))
    else:
        tell(found, out)
    for name, why in found.failures.items():
        print(f"failed: {_printable(name)}: {why}", file=sys.stderr)
    if found.failures:
        raise typer.Exit(1)


def _how(checkpoints: Path | None, detector: str | None, device: str, workers: int | None, offline: bool) -> Any:
    from .cache.errors import EmocacheError

    try:
        from .extract.clip_streams import How
        from .extract.encoders.lookup import check_folder
    except ModuleNotFoundError as error:
        raise EmocacheError(f"prediction needs {error.name}; install it with: pip install 'emocache[extract]'"
                            ) from error  # fmt: skip
    check_folder(checkpoints)
    return How(checkpoints, detector, device, workers, offline)


def as_document(clip: "Prediction") -> dict[str, Any]:
    """Return a prediction as `--json` prints it, without what it does not have."""
    probabilities = {"label": clip.label, "probabilities": dict(clip.values)}
    document: dict[str, Any] = {"clip": _printable(clip.name)}
    document |= {"start": clip.start, "end": clip.end} if clip.end is not None else {}
    document |= {"values": dict(clip.values)} if clip.label is None else probabilities
    document |= {"times": clip.times, "track": dict(clip.track)} if clip.times and not clip.windows else {}
    document |= {"training": clip.training} if clip.training else {}
    document |= {"windows": [as_document(one) for one in clip.windows]} if clip.windows else {}
    return document


def tell(found: "Predictions", out: Path) -> None:
    """Print predictions for people, and write tracks.

    Args:
        found: the predictions.
        out: folder for tracks; made where there are any.
    """
    if found.clips:
        print(f"by {found.model}")
    names: set[str] = set()
    for clip in found.clips:
        mark = _MARKS[clip.training]
        print(f"{_printable(clip.name)}: {_values(clip)}{f'  ({mark})' if mark else ''}")
        if clip.times:
            stem = _file_name(clip.name, names)
            write_track(clip, out / f"{stem}.csv")
            draw_track(clip, out / f"{stem}.png")
            print(f"  {out / stem}.csv and .png")
            continue
        for one in clip.windows:
            print(f"  {one.start:.1f} to {one.end or 0:.1f} s: {_values(one)}")


_MARKS = {
    "": "",
    "train": "of the training corpus: no test score",
    "valid": "of the validation part of this fold: no test score",
    "test": "of the test part of this fold",
}


def _values(clip: "Prediction") -> str:
    values: Mapping[str, float] = clip.values
    if clip.label is None:
        return ", ".join(f"{name} {value:.3f}" for name, value in values.items()) + (" on average" * bool(clip.times))
    ordered = sorted(values.items(), key=lambda one: -one[1])
    return f"{clip.label}  " + ", ".join(f"{name} {value:.3f}" for name, value in ordered)


def _printable(name: str) -> str:
    """A name that neither moves the cursor nor breaks a line."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _file_name(name: str, taken: set[str]) -> str:
    """A file name of its own for a clip."""
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem, flags=re.ASCII).lstrip(".")[:100] or "clip"
    number = 1
    while (own := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    taken.add(own)
    return own


def write_track(clip: "Prediction", path: Path) -> None:
    """Write the values over time as CSV: seconds, then a column a target."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", *clip.track])
        writer.writerows(zip(clip.times, *clip.track.values(), strict=True))


def draw_track(clip: "Prediction", path: Path) -> None:
    """Draw the values over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.5), layout="constrained")
    axes = figure.subplots()
    for target, values in clip.track.items():
        axes.plot(clip.times, values, label=target, linewidth=1)
    axes.set_xlabel("seconds")
    axes.set_ylabel("predicted")
    axes.legend()
    figure.savefig(path, dpi=150)
