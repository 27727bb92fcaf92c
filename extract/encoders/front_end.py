"""The sound that a checkpoint wants, as told by the feature extractor that transformers finds in its folder.

processor_config.json, as processors of transformers 5 write it, comes before preprocessor_config.json. Nothing is
guessed from the model, and nothing is run that does not come with transformers.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoFeatureExtractor

from ...cache import EmocacheError
from .checkpoints import Checkpoint, first_line, read_json, refuse_own_code
from .encoder import SAMPLE_RATE
from .inference import quiet

HOP, N_FFT = 160, 400  # of Whisper, in samples
_ALONE, _NESTED = "preprocessor_config.json", "processor_config.json"
_REMEDY = "copy the one of the model that the checkpoint was made from"


def normalizes(checkpoint: Checkpoint) -> bool:
    """Tell whether a model of the wav2vec 2.0 family takes waveforms of zero mean and unit variance.

    Args:
        checkpoint: the model's.

    Returns:
        Its feature extractor's `do_normalize`.

    Raises:
        EmocacheError: the checkpoint does not say, or wants what is not done here.
    """
    extractor = _feature_extractor(checkpoint, "Wav2Vec2FeatureExtractor")
    if extractor is None:
        guessed = str(checkpoint.config.get("feat_extract_norm", "group") == "layer").lower()
        raise EmocacheError(
            f"{checkpoint.folder}: neither {_NESTED} nor {_ALONE} says whether waveforms are normalised, and the model"
            f" does not tell; {_REMEDY}, or write {_NESTED} with"
            f' {{"feature_extractor": {{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": true}}}}'
            f" or with false (streams stored before this was asked took {guessed}, and go on with that)"
        )
    if extractor.sampling_rate != SAMPLE_RATE:
        raise EmocacheError(
            f"{checkpoint.folder}: expects audio at {extractor.sampling_rate} Hz; only {SAMPLE_RATE} is supported"
        )
    if not isinstance(extractor.do_normalize, bool):
        raise EmocacheError(
            f"{checkpoint.folder}: do_normalize of the feature extractor is {extractor.do_normalize!r}; expected true"
            " or false"
        )
    return extractor.do_normalize


def filter_banks(checkpoint: Checkpoint) -> Any:
    """Make the feature extractor of a wav2vec2-bert, which gives log-mel filter banks.

    Args:
        checkpoint: a wav2vec2-bert's.

    Returns:
        transformers' SeamlessM4TFeatureExtractor, for 16 kHz, two filter banks of 10 ms a frame.

    Raises:
        EmocacheError: the folder has none, or one for other frames.
    """
    extractor = _feature_extractor(checkpoint, "SeamlessM4TFeatureExtractor")
    if extractor is None:
        raise EmocacheError(
            f"{checkpoint.folder}: neither {_NESTED} nor {_ALONE} tells of the feature extractor, and the model does"
            f" not; {_REMEDY}"
        )
    _expect(checkpoint, extractor, {"sampling_rate": SAMPLE_RATE, "stride": 2, "padding_side": "right"})
    # The one says how many bands are made, the other how many are padded.
    _expect(checkpoint, extractor, {"feature_size": extractor.num_mel_bins})
    return extractor


def check_whisper(checkpoint: Checkpoint, bands: int) -> None:
    """See that a Whisper's log-mel spectrogram is the one every Whisper has.

    A folder without a feature extractor passes: Whisper's own code (audio.py) has no settings for the spectrogram but
    the number of bands, which the model tells.

    Args:
        checkpoint: a Whisper's.
        bands: of the model.

    Raises:
        EmocacheError: the feature extractor is for another spectrogram.
    """
    extractor = _feature_extractor(checkpoint, "WhisperFeatureExtractor")
    usual = {
        "feature_size": bands, "sampling_rate": SAMPLE_RATE, "hop_length": HOP, "n_fft": N_FFT, "chunk_length": 30,
        "dither": 0, "padding_value": 0, "padding_side": "right",
    }  # fmt: skip
    positions = checkpoint.config.get("max_source_positions", 1500)
    if positions != 1500:
        raise EmocacheError(
            f"{checkpoint.folder}: config.json says max_source_positions {positions!r}, windows of {positions} frames;"
            " only Whisper's 1500 (30 s) are supported, take a checkpoint with these"
        )
    if extractor is not None:
        _expect(checkpoint, extractor, usual)


def _expect(checkpoint: Checkpoint, extractor: Any, settings: Mapping[str, object]) -> None:
    for key, value in settings.items():
        found = getattr(extractor, key)
        if found != value:
            raise EmocacheError(
                f"{checkpoint.folder}: the feature extractor says {key} {found!r}; this model needs {value!r}"
            )


def _feature_extractor(checkpoint: Checkpoint, kind: str) -> Any:
    """Make the feature extractor, which must be of this kind; None where no file tells of one."""
    folder = checkpoint.folder
    nested, alone = read_json(folder / _NESTED) or {}, read_json(folder / _ALONE)
    # As transformers looks for it: a processor's file with no feature extractor in it does not count.
    if alone is None and nested.get("feature_extractor", nested.get("audio_processor")) is None:
        return None
    try:
        with quiet():
            found: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # of missing keys, wrong types and unknown classes; they share no base class
        raise EmocacheError(
            f"{folder}: transformers cannot make the feature extractor that {_NESTED} or {_ALONE} tells of:"
            f" {first_line(error)}; {_REMEDY}"
        ) from error
    refuse_own_code(folder, vars(found), "AutoFeatureExtractor")
    if type(found).__name__ != kind:
        raise EmocacheError(
            f"{folder}: its feature extractor is a {type(found).__name__}; a {checkpoint.model_type} model is run with"
            f" a {kind} only"
        )
    return found
