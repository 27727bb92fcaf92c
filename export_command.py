"""`emocache export`: stored runs as a folder that can be given away. Heavy imports happen inside the command."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cache.errors import EmocacheError

if TYPE_CHECKING:
    from .train.apply.opening_runs import Models


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of the runs of one setting.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; it must not be there, or be empty.")],
    fold: Annotated[int | None, typer.Option(metavar="K", min=0, help="The model of this fold.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="The model of this seed.")] = None,
) -> None:
    """Write models to a folder that `emocache predict` takes, with a card, and as ONNX where that is possible."""
    from .train.apply.opening_runs import open_models

    models = open_models(run, fold, seed)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise EmocacheError(f"{out} is there, and is not an empty folder; give another one")
        out.mkdir(parents=True, exist_ok=True)
        _copy(models, out)
        refused = _write_onnx(models, out)
        (out / "README.md").write_text(card(models, refused), encoding="utf-8")
    except OSError as error:
        raise EmocacheError(f"{out} cannot be written: {error.strerror or error}") from error
    for why, runs in refused.items():
        print(f"{', '.join(runs)}: not as ONNX: {why}", file=sys.stderr)
    print(f"{out}: {models.told}; predict with: emocache predict {out} MEDIA")
    print(f"to give it to others: huggingface-cli upload YOUR/NAME {out}")


def _copy(models: "Models", out: Path) -> None:
    """Everything that prediction reads; what was predicted stays, which has the corpus's labels."""
    from .train.records.run_record import RUN, SOURCES, TRANSFORMS, WEIGHTS

    shutil.copytree(models.folder / SOURCES, out / SOURCES)
    for model in models.models:
        (out / model.folder.name).mkdir()
        for name in (RUN, WEIGHTS, TRANSFORMS):
            shutil.copy(model.folder / name, out / model.folder.name)
    config = json.dumps(models.record.config, indent=1, ensure_ascii=False)
    (out / "config.json").write_text(f"{config}\n", encoding="utf-8")


def _write_onnx(models: "Models", out: Path) -> dict[str, list[str]]:
    """Write each head as ONNX; returns {why not: runs} of the others."""
    from .train.apply.onnx_export import export_onnx

    refused: dict[str, list[str]] = {}
    for model in models.models:
        names = list(model.parts[0].settings.stream_names)
        source = models.sources.streams[names[0].partition("@")[0]]
        matrix = models.sources.matrices.get(names[0].partition("@")[0])
        try:
            export_onnx(model, source.recipe, matrix, out / model.folder.name / "head.onnx")
        except EmocacheError as error:
            refused.setdefault(str(error), []).append(model.folder.name)
        else:
            if not (out / "predict_onnx.py").exists() and (script := onnx_script(models, model.folder.name)):
                (out / "predict_onnx.py").write_text(script, encoding="utf-8")
    return refused


def onnx_script(models: "Models", run: str) -> str:
    """Return a script that predicts without emocache; "" where the encoder is none that its few lines are for."""
    ((_, source),) = models.sources.streams.items()
    recipe = source.recipe
    weights = (source.weights or "").partition("@")
    if recipe.get("family") != "whisper" or recipe["windowing"].get("frames") == "all":
        return ""
    record = models.record
    names = record.classes if record.task == "classification" and record.classes else record.targets
    return _WHISPER.format(
        repository=weights[0] if "/" in weights[0] else f"openai/{recipe['encoder']}", revision=weights[2] or None,
        layer=-1 if recipe["layer"] is None else recipe["layer"], head=f"{run}/head.onnx", names=list(names),
        sha256=recipe["weights_sha256"],
    )  # fmt: skip


_WHISPER = '''"""Predict one sound file of up to 30 s at 16 kHz: python predict_onnx.py FILE [CHECKPOINT FOLDER]."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import torch
from transformers import WhisperFeatureExtractor, WhisperModel

NAMES = {names!r}
REVISION = {revision!r}  # the weights' sha256 is {sha256}
where = sys.argv[2] if len(sys.argv) > 2 else {repository!r}
sound, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
sound = sound.mean(axis=1)
if rate != 16000 or len(sound) > 30 * rate:
    sys.exit(f"{{sys.argv[1]}} has {{rate}} Hz and {{len(sound) / rate:.1f}} s; bring it to 16000 Hz, and at most 30 s")
options = {{}} if Path(where).is_dir() else {{"revision": REVISION}}
model = WhisperModel.from_pretrained(where, **options).encoder.float().eval()
mel = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)(sound, sampling_rate=rate, return_tensors="pt")
with torch.no_grad():
    found = model(mel.input_features, output_hidden_states=True)
layer = {layer}
frames = found.last_hidden_state[0] if layer == -1 else found.hidden_states[layer][0]
frames = frames[: max(1, -(-len(sound) // 320))].numpy()
session = onnxruntime.InferenceSession(str(Path(__file__).with_name("{head}".split("/")[0]) / "head.onnx"))
(prediction,) = session.run(None, {{"frames": frames}})
for name, value in zip(NAMES, np.atleast_2d(prediction).mean(axis=0), strict=True):
    print(f"{{name}} {{value:.4f}}")
'''


def card(models: "Models", refused: dict[str, list[str]]) -> str:
    """Return the card of an export: results, training data, licences, intended use and limits."""
    record, sources = models.record, models.sources
    inputs = "\n".join(
        f"| `{name}` | {one.recipe['encoder']} | {one.weights or 'not recorded'} | {one.recipe.get('weights_sha256')} |"
        f" {_licence_of(one.recipe['encoder'], one.weights)} |"
        for name, one in sources.streams.items()
    )
    what = ", ".join(record.classes or record.targets)
    onnx = (
        "\n".join(f"- {', '.join(runs)}: not as ONNX: {why}" for why, runs in refused.items())
        or "- `head.onnx` of every model"
    )
    longest = "The length of the clips that it was trained on is not known."
    if sources.longest is not None:
        longest = f"Clips of up to {sources.longest:.0f} s were seen in training; longer ones go in windows."
    cautions = dict.fromkeys(one.text for model in models.models for one in model.record.warnings)
    warnings = "\n".join(f"- Training warned: {one}" for one in cautions) or "- Training warned of nothing."
    return f"""---
library_name: emocache
tags: [emotion-recognition, {record.task}]
---
# {record.experiment} on {" + ".join(record.corpora)}

{record.config.get("description", "")}

{record.task}: {what}. Head `{record.config["head"]["kind"]}` with {record.parameters:,} parameters, on frozen features.
The models: {models.told}.

```
emocache predict THIS_FOLDER clip.wav
```

## Results

Of the folds' models on speakers or parts that they have not seen ({record.protocol.name}), with 95 % intervals.
{"The model in this folder was trained on all utterances and has no test of its own." if record.final else ""}

{_results(models)}

## Training data

{_corpora(record.corpora)}

## Encoders

| stream | encoder | weights from | sha256 | licence |
|---|---|---|---|---|
{inputs}

Whoever uses this model needs these weights, under their licences; others are refused.

## Intended use

Research on emotion in speech and faces. What comes out is what annotators of this corpus would say of a clip, or how an
actor meant it: no more is known of what a person feels.

## Limits

- Trained on one kind of recording; on other languages, ages, microphones and situations it may be far worse.
- {longest}
- Not for decisions about people, such as hiring, policing, teaching or care.
{warnings}

## Files

- `config.json`: the experiment. `sources/`: recipes of the features, and stored projections.
- `*/weights.safetensors`, `*/transforms.safetensors`: the heads, and what was fitted.
{onnx}
"""


def _results(models: "Models") -> str:
    from .evaluate.output.printed_tables import result_tables
    from .evaluate.report import evaluate_runs

    try:
        return "\n\n".join(table.markdown() for table in result_tables(evaluate_runs([models.folder], every=True)))
    except EmocacheError as error:  # an export of an export has no predictions
        return f"Not with these files ({error})."


def _corpora(names: Any) -> str:
    from .extract.corpora.origins import ORIGINS

    lines = []
    for name in names:
        origin = ORIGINS.get(name)
        told = "not known here"
        if origin is not None:
            told = f"{origin.title}, {origin.who}. Licence: {origin.licence}. {origin.citation}"
        lines.append(f"- `{name}`: {told}")
    return "\n".join(lines)


def _licence_of(encoder: str, weights: str | None) -> str:
    """The licence of an encoder's weights, or the page that tells it."""
    from .extract.encoders.needs import need_of

    try:
        need = need_of(encoder)
    except EmocacheError:  # an encoder from outside the package
        return "not known here"
    if need.licence:
        return need.licence
    repository = re.fullmatch(r"([\w.-]+/[\w.-]+)(@\w+)?", weights or need.source)
    return f"told at https://huggingface.co/{repository[1]}" if repository else need.source
