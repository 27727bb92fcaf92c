"""Every stream of the five papers from weights that come by themselves, on a machine that had none."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emocache.cache import Cache
from emocache.extract.encoders.lookup import split_variant
from emocache.extract.encoders.registry import REGISTRY
from emocache.extract.goals.stream_names import parse_stream
from emocache.train.config.stream_lists import wanted_streams

from . import fixed_models
from .small_hub import SmallHub, serving

PAPERS = [f"paper{number}/*" for number in range(1, 6)]
WANTED = wanted_streams(PAPERS)
STREAMS = sorted(stream.name for stream in WANTED)
# {name: repository} of those that no table has, but [encoders] of an experiment; all of them are WavLM of base size.
OWN = {name: origin for stream in WANTED for name, origin in stream.source.items()}
# As their repositories are: pickles alone.
PICKLED = ("wav2vec2-base", "wav2vec2-large", "wav2vec2-large-lv60", "hubert-large", "wavlm-base")
VIDEO = "data/video/ravdess_Actor_01/01-01-01-01-01-01-01.mp4"
SENTENCE = "Kids are talking by the door"


def put_repository(root: Path, name: str) -> None:
    """A small checkpoint of the kind that a name of the table stands for."""
    entry = REGISTRY[name]
    folder = root / str(entry.hub)
    if entry.family == "whisper":
        fixed_models.whisper(folder, 128 if "v3" in name else 80)
    elif entry.family == "text":
        fixed_models.text(folder, next(kind for kind in ("roberta", "distilbert", "bert") if kind in name))
    else:
        kind = next(kind for kind in ("hubert", "wavlm", "wav2vec2") if kind in str(entry.hub))
        large = "large" in name and name != "wav2vec2-large"
        fixed_models.speech(folder, kind, "layer" if large else "group", large)
    if name in PICKLED:
        weights = load_file(folder / "model.safetensors")
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


def put_files(root: Path, shelf: Path) -> None:
    """The files that are had by their addresses."""
    shelf.mkdir()
    fixed_models.weight_files(shelf)
    files = root / "files"
    shutil.copy(shelf / "vgg-face.h5", files / "vgg_face_weights.h5")
    torch.save(load_file(shelf / "alexnet.safetensors"), files / "alexnet-owt-7be5be79.pth")
    torch.save(load_file(shelf / "marlin-base.safetensors"), files / "marlin_vit_base_ytf.encoder.pt")
    with zipfile.ZipFile(files / "glove.840B.300d.zip", "w") as archive:
        archive.write(shelf / "glove-840b.txt", "glove.840B.300d.txt")


@pytest.mark.slow
def test_every_stream_of_the_papers_without_a_step_by_hand(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    video = shared(VIDEO)
    hub = SmallHub(tmp_path / "hub")
    (hub.root / "files").mkdir(parents=True)
    put_files(hub.root, tmp_path / "shelf")
    for name, entry in REGISTRY.items():
        if (
            entry.hub is not None
            and not (hub.root / entry.hub).exists()
            and entry.family in ("whisper", "wav2vec2", "text")
        ):
            put_repository(hub.root, name)
            if entry.revision is not None:
                hub.commits[entry.hub] = entry.revision
    for origin in OWN.values():
        fixed_models.speech(hub.root / origin, "wavlm", "group", False)
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(video, data / "a.mp4")
    (data / "list.csv").write_text(f"file,text,emotion\na.mp4,{SENTENCE},sad\n")
    own = {"HF_HOME": str(tmp_path / "hf"), "EMOCACHE_CHECKPOINTS": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    def run(*arguments: str, **changes: str) -> str:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("hub_command.py")), hub.address, *arguments],
            env=os.environ | own | changes, capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (arguments, done.stderr[-3000:], done.stdout[-2000:])
        return done.stdout

    wanted = [argument for paper in PAPERS for argument in ("--for", paper)]
    with serving(hub):
        online = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
        told = run("checkpoints", *wanted, "--fetch", **online)
    encoders = {name for stream in STREAMS for name in parse_stream(stream).encoders} - set(OWN)
    bases = {split_variant(name, None)[1] for name in encoders}
    weights = {base for base in bases if REGISTRY[base].hub or REGISTRY[base].file}
    weights |= set(OWN.values())
    assert "missing" not in told and set(re.findall(r"^(\S+) +here;", told, re.MULTILINE)) == weights, told
    # From here on without a hub.
    extract = ("extract", "table", "--data", str(data), "--cache", "store", "--map", "table=list.csv", "--fps", "2")
    parsed = {name: parse_stream(name) for name in STREAMS}
    plain = dict.fromkeys(p.encoder for p in parsed.values() if p.transcript is None and p.encoder not in OWN)
    transcripts = dict.fromkeys(p.transcript for p in parsed.values() if p.transcript is not None)
    run(*extract, *(word for name in (*plain, *transcripts) if name for word in ("--encoder", name)))
    for name, origin in OWN.items():
        run(*extract, "--encoder", origin, "--as", name)
    run(*extract, "--encoder", "hubert-large", "--pca", "2", "--fit-on", "all")
    for transcript in filter(None, transcripts):
        texts = dict.fromkeys(p.encoder for p in parsed.values() if p.transcript == transcript)
        run(*extract, "--text-from", f"{transcript}:translation", *(w for name in texts for w in ("--encoder", name)))
    made = {info.name for info in Cache(str(tmp_path / "store")).streams("table")}
    assert {name.replace(".pca128", ".pca2") for name in STREAMS} <= made, sorted(set(STREAMS) - made)
    failures = {
        name: stream.failures
        for name in made
        if (stream := Cache(str(tmp_path / "store")).stream("table", name)).failures
    }
    # What a random Whisper hears is no text, and the table gives no word times; everything else has frames.
    excused = {name for name in failures if "from-whisper" in name or name.startswith("transcript-")} | {"mfcc-words"}
    assert failures.keys() <= excused, json.dumps(failures)
