"""Fingerprints, which streams are filed under, must not change: else every stored stream is extracted again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emocache.cache.recipe import fingerprint
from emocache.extract.encoders import REGISTRY, Encoder, load
from emocache.extract.media.detectors import load_detector
from emocache.extract.pipeline.clips import Decoder
from emocache.extract.pipeline.stream_targets import full_recipe

from . import fixed_models

# The last layer in float16, by entry of the registry; written from the code that wrote the first streams, never anew.
GOLDEN = {
    "logmel": "a91ef474366fd62b",
    "mfcc": "6380c04a6421a3f6",
    "mfcc39": "5ea466944824d11d",
    "mfcc-words": "81e1f25d5e141ac7",
    "mfcc-code": "7b11f1b5fd4e070c",
    "spectrogram": "9d901fab057febec",
    "spectrogram-code": "a4baf884923fdc71",
    "alexnet": "b95de32416695d05",
    "alexnet-random": "2e46def5a470bcca",
    "egemaps": "5f68b2ca9fd1cd96",
    "egemaps-functionals": "0d9ebad0161ca72c",
    "face-boxes": "2e900a7f425106c3",
    "face-dlib": "3d74d3c81e798048",
    "vgg-face": "0e84ad45b6bd4b8e",
    "marlin-small": "495505ce293c720c",
    "marlin-base": "853e52e5beb88daf",
    "marlin-large": "d173da1f4b7b6174",
    "whisper-tiny": "83cedbf7bbf1bee3",
    "whisper-base": "7ef2f99e601b0f4b",
    "whisper-small": "7cea9828da6d7c2b",
    "whisper-medium": "d2d2b3f0c9692217",
    "whisper-large-v1": "c675b49b43cc9f20",
    "whisper-large-v2": "537ab0bd377cc211",
    "whisper-large-v3": "cbaa1c5118d4a1e2",
    "whisper-large-v3-turbo": "6f6a42b33c5220db",
    "wav2vec2-base": "ddf11083df9d5b34",
    "wav2vec2-base-960h": "aa9de8e1935e1437",
    "wav2vec2-large": "562a48ee78789f45",
    "wav2vec2-large-lv60": "065be16611ea2a4d",
    "hubert-base": "a1f50d4e9a703032",
    "hubert-large": "0a61e655defd3127",
    "wavlm-base": "e34706f87f7f7ec1",
    "wavlm-base-plus": "dd15a68ec16f9810",
    "wavlm-large": "4d4d89c8c81d48aa",
    "roberta-base": "85793248d0d07f0c",
    "roberta-large": "e282ffb58a258c36",
    "bert-base": "4333bcffec488b7b",
    "distilbert-base": "dbda524ef79c49d8",
    "glove-840b": "b28f3136208374fd",
    "roberta-base-cls": "394c7942f3a6f947",
    "roberta-large-cls": "0e40705c968a3653",
    "bert-base-cls": "8244808a9a2439bb",
    "distilbert-base-cls": "bbb5f24c92d1f253",
    "whisper-tiny-padded": "12c7f8d906c8df72",
    "whisper-base-padded": "d2bf650741a1f6ec",
    "whisper-small-padded": "f0982c0bf49747d9",
    "whisper-medium-padded": "a85e1ce4854f6fb4",
    "whisper-large-v1-padded": "2abdf61b115e1d8f",
    "whisper-large-v2-padded": "add2c95707d5efa1",
    "whisper-large-v3-padded": "9a39171b9b00aac9",
    "whisper-large-v3-turbo-padded": "a83262066519e90d",
    "whisper-tiny-overlap": "a4274694a166ed30",
    "whisper-base-overlap": "1bac79ae1a4c8273",
    "whisper-small-overlap": "848b7f7b34469eea",
    "whisper-medium-overlap": "e79e750a48e2d1c4",
    "whisper-large-v1-overlap": "8592ad47ab2b32c1",
    "whisper-large-v2-overlap": "58cad64296ec3228",
    "whisper-large-v3-overlap": "149e9f2c53fc725d",
    "whisper-large-v3-turbo-overlap": "48bc70605f9e5093",
    "whisper-tiny-clip": "13d3d45b4d8fe8a2",
    "whisper-base-clip": "fcdf33f0f3b63060",
    "whisper-small-clip": "87f5b47ae391f055",
    "whisper-medium-clip": "1a73a9c9a9b50760",
    "whisper-large-v1-clip": "630f0a9266c3106d",
    "whisper-large-v2-clip": "bce18ebcbd5fc965",
    "whisper-large-v3-clip": "17ab243655fded5f",
    "whisper-large-v3-turbo-clip": "c0d63bce2c0e3239",
    "wav2vec2-base-10s": "8684d977ec1757bc",
    "wav2vec2-base-960h-10s": "a3ae8e3405a47110",
    "wav2vec2-large-10s": "eb64e7ab808feaaa",
    "wav2vec2-large-lv60-10s": "680866c12b31b186",
    "hubert-base-10s": "13e48e59ceb301ef",
    "hubert-large-10s": "9f678417eddb8073",
    "wavlm-base-10s": "f70ee702ef33e143",
    "wavlm-base-plus-10s": "eb960b00c67f5627",
    "wavlm-large-10s": "d413c83904a136f1",
    "transcript-whisper-tiny-15s": "4ba1dad60a7ed84e",
    "transcript-whisper-base-15s": "592cf1421915fda3",
    "transcript-whisper-small-15s": "b5b985c5c45d584e",
    "transcript-whisper-medium-15s": "79dd35b362430fdc",
    "transcript-whisper-large-v1-15s": "7ae6ddbc01e79a2a",
    "transcript-whisper-large-v2-15s": "3bb829dbdc929e56",
    "transcript-whisper-large-v3-15s": "99cc019742094f67",
    "transcript-whisper-large-v3-turbo-15s": "a67b5f0bba3c3554",
    "transcript-whisper-tiny": "532f4b3a1b81e936",
    "transcript-whisper-base": "e772ee788e08618a",
    "transcript-whisper-small": "feaf5eac9bf2575e",
    "transcript-whisper-medium": "e4a2d4c20c3f6a42",
    "transcript-whisper-large-v1": "accb09066fe8b9c4",
    "transcript-whisper-large-v2": "51e50bb5ada0208f",
    "transcript-whisper-large-v3": "7acfc5787479f43c",
    "transcript-whisper-large-v3-turbo": "fd7bd732de3fe4de",
    "align-wav2vec2-base-960h": "c4531aefb59b2cc1",
    "hubert-large-ls960-ft": "e758254cb974d72c",
    "audeering-dimensional": "4005ef4650b53bb2",
    "hubert-large-ls960-ft-10s": "7877b8fde88d87f0",
    "audeering-dimensional-10s": "129eceb0bbcbc7a0",
    "align-hubert-large-ls960-ft": "abcf37fccc04945c",
}
# The same of folders as they may be on a shelf.
FOLDERS = {
    "wav2vec2 group preprocessor": "17629b005a009749",
    "wav2vec2 group processor": "0528117e48f21ec8",
    "wav2vec2 group preprocessor processor": "17629b005a009749",
    "wav2vec2 layer preprocessor": "a8753576fa735dd9",
    "wav2vec2 layer processor": "dfca1456e9a790e1",
    "wav2vec2 layer preprocessor processor": "a8753576fa735dd9",
    "align group preprocessor": "2b0d16f0e42d1810",
    "align group processor": "3424d5126f3177b6",
    "align group preprocessor processor": "2b0d16f0e42d1810",
    "align layer preprocessor": "0eb7af1fcba82143",
    "align layer processor": "feb59b7712263c63",
    "align layer preprocessor processor": "0eb7af1fcba82143",
    "whisper -": "9fb33900a428cd45",
    "whisper - preprocessor": "4ac63888ed3bfa75",
    "whisper - processor": "9fb33900a428cd45",
    "transcript -": "69c100e44c9b45a7",
    "transcript - preprocessor": "a3bc485bf37038b8",
    "transcript - processor": "69c100e44c9b45a7",
}
# The checkpoint beside the checkout, its weights' hash included.
REAL = {
    "whisper-base": "c49a25c94f14b7ed",
    "whisper-base-padded": "5df0b58171711700",
    "whisper-base-overlap": "b8332af51f540e0f",
    "whisper-base-clip": "61b52998023cfc70",
    "transcript-whisper-base": "7e2c1c4340b9be26",
    "transcript-whisper-base-15s": "7bad413b4d835d42",
}

NEEDS = {"egemaps": "opensmile", "egemaps-functionals": "opensmile", "face-boxes": "dlib", "face-dlib": "dlib"}
OWN_WEIGHTS = ("alexnet-random", "glove-840b")  # theirs are the same on every machine


def filed_under(encoder: Encoder, layer: int | None = None, weights: str | None = "0" * 64) -> str:
    """The fingerprint of the encoder's stream; `weights` stands for the hash of its weights' bytes."""
    if "video" in encoder.inputs:
        pytest.importorskip("dlib")
    decoder = Decoder(Path(), frozenset(encoder.inputs), load_detector("dlib") if "video" in encoder.inputs else None)
    recipe = full_recipe(encoder, layer, decoder, "float16")
    return fingerprint(recipe | ({"weights_sha256": weights} if weights and "weights_sha256" in recipe else {}))[:16]


@pytest.mark.parametrize("name", REGISTRY)
def test_a_stored_stream_is_found_again(name: str, shelf: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    encoder = load(name, checkpoints=shelf, device="cpu")
    assert filed_under(encoder, weights=None if name in OWN_WEIGHTS else "0" * 64) == GOLDEN[name]


def test_every_golden_is_of_an_entry() -> None:
    assert GOLDEN.keys() == REGISTRY.keys()


@pytest.mark.parametrize("name", REAL)
def test_streams_of_the_real_checkpoint_are_found_again(name: str, shared: Callable[[str], Path]) -> None:
    encoder = load(name, checkpoints=shared("checkpoints/whisper-base").parent, device="cpu")
    assert filed_under(encoder, weights=None) == REAL[name]


@pytest.mark.parametrize("name", FOLDERS)
def test_streams_of_folders_are_found_again(name: str, tmp_path: Path) -> None:
    """The settings of processor_config.json are in the recipe, its bytes are not."""
    kind, norm, *files = name.split()
    folder = tmp_path / "my-model"
    if kind in ("whisper", "transcript"):
        fixed_models.whisper(folder, 80)
        (folder / "preprocessor_config.json").unlink()
        front_end = fixed_models.WHISPER_FRONT_END | {"feature_size": 80}
    else:
        fixed_models.speech(folder, "wav2vec2", norm, None)
        front_end = fixed_models.FRONT_END | {"do_normalize": norm == "layer"}
    if "preprocessor" in files:
        fixed_models.write_json(folder / "preprocessor_config.json", front_end)
    if "processor" in files:
        fixed_models.write_json(folder / "processor_config.json", {"feature_extractor": front_end})
    prefix = f"{kind}-" if kind in ("transcript", "align") else ""
    encoder = load(f"{prefix}my-model", checkpoints=tmp_path, device="cpu")
    assert filed_under(encoder, 1 if encoder.layers else None) == FOLDERS[name]
