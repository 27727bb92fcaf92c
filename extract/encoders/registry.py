"""The table of encoders: what there is by name, and which code runs which kind of checkpoint."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One name that `--encoder` knows.

    Attributes:
        family: the kind of encoder, a key of `IMPLEMENTATIONS`.
        hub: repository on the Hugging Face hub; None for signal transforms.
        revision: full commit hash that is loaded from the hub. None where no commit with safetensors weights is known:
            such an encoder needs a local checkpoint (docs/encoders.md says how to make one).
        dim: values per frame.
        layers: transformer layers; 0 for signal transforms.
        rate: frames a second in Hz; None where frames are tokens.
        description: one line.
    """

    family: str
    hub: str | None
    revision: str | None
    dim: int
    layers: int
    rate: float | None
    description: str

    def gigabytes_per_hour(self, bytes_per_value: int = 2) -> float | None:
        """10^9 bytes that one layer of an hour of audio takes (default: float16); None where frames are tokens."""
        return None if self.rate is None else self.rate * 3600 * self.dim * bytes_per_value / 1e9


IMPLEMENTATIONS = {
    "logmel": "acoustic:LogMel",
    "mfcc": "acoustic:Mfcc",
    "whisper": "whisper:Whisper",
    "wav2vec2": "wav2vec2:Wav2Vec2",
    "text": "text:TokenText",
    "text-cls": "text:ClsText",
}
"""{family: "module:class"} in this package. A class is imported only when an encoder of its family is loaded."""

FAMILY_OF_MODEL_TYPE = {
    "whisper": "whisper",
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm"), "wav2vec2"),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"), "text"),
}
"""{`model_type` of a checkpoint's config.json: family}."""

CLS_SUFFIX = "-cls"


def _whisper(size: str, hub: str, revision: str, dim: int, layers: int) -> EncoderEntry:
    return EncoderEntry("whisper", f"openai/{hub}", revision, dim, layers, 50.0, f"Whisper encoder, {size}")


def _speech(hub: str, revision: str | None, large: bool, description: str) -> EncoderEntry:
    return EncoderEntry("wav2vec2", hub, revision, 1024 if large else 768, 24 if large else 12, 50.0, description)


_TEXT = {
    "roberta-base": EncoderEntry(
        "text", "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b", 768, 12, None, "RoBERTa base"
    ),
    "roberta-large": EncoderEntry(
        "text", "FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59", 1024, 24, None, "RoBERTa large"
    ),
    "bert-base": EncoderEntry(
        "text", "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594", 768, 12, None, "BERT base"
    ),
    "distilbert-base": EncoderEntry(
        "text",
        "distilbert/distilbert-base-uncased",
        "12040accade4e8a0f71eabdb258fecc2e7e948be",
        768,
        6,
        None,
        "DistilBERT",
    ),
}

REGISTRY: dict[str, EncoderEntry] = {
    "logmel": EncoderEntry("logmel", None, None, 40, 0, 100.0, "log-mel spectrogram, 40 bands, 25 ms Hamming window"),
    "mfcc": EncoderEntry("mfcc", None, None, 40, 0, 100.0, "40 cepstral coefficients of the log-mel spectrogram"),
    "whisper-tiny": _whisper("tiny", "whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af", 384, 4),
    "whisper-base": _whisper("base", "whisper-base", "e37978b90ca9030d5170a5c07aadb050351a65bb", 512, 6),
    "whisper-small": _whisper("small", "whisper-small", "973afd24965f72e36ca33b3055d56a652f456b4d", 768, 12),
    "whisper-medium": _whisper("medium", "whisper-medium", "abdf7c39ab9d0397620ccaea8974cc764cd0953e", 1024, 24),
    "whisper-large-v1": _whisper("large v1", "whisper-large", "4ef9b41f0d4fe232daafdb5f76bb1dd8b23e01d7", 1280, 32),
    "whisper-large-v2": _whisper("large v2", "whisper-large-v2", "ae4642769ce2ad8fc292556ccea8e901f1530655", 1280, 32),
    "whisper-large-v3": _whisper("large v3", "whisper-large-v3", "06f233fe06e710322aca913c1bc4249a0d71fce1", 1280, 32),
    # These repositories hold pickled weights only, or none whose commit is known; hence no revision. That of
    # hubert-base is the hub's own safetensors conversion, which sits on a branch beside main.
    "wav2vec2-base": _speech("facebook/wav2vec2-base", None, False, "wav2vec 2.0 base, 960 h, pre-trained only"),
    "wav2vec2-base-960h": _speech(
        "facebook/wav2vec2-base-960h", "22aad52d435eb6dbaf354bdad9b0da84ce7d6156", False, "wav2vec 2.0 base, fine-tuned"
    ),
    "wav2vec2-large": _speech("facebook/wav2vec2-large", None, True, "wav2vec 2.0 large, 960 h, pre-trained only"),
    "wav2vec2-large-lv60": _speech("facebook/wav2vec2-large-lv60", None, True, "wav2vec 2.0 large, 60,000 h"),
    "hubert-base": _speech(
        "facebook/hubert-base-ls960", "af46f65f540dc3ca7aa59f46c6c3d5dbb4374fa8", False, "HuBERT base, 960 h"
    ),
    "hubert-large": _speech("facebook/hubert-large-ll60k", None, True, "HuBERT large, 60,000 h"),
    "wavlm-base": _speech("microsoft/wavlm-base", None, False, "WavLM base, 960 h"),
    "wavlm-base-plus": _speech("microsoft/wavlm-base-plus", None, False, "WavLM base, 94,000 h"),
    "wavlm-large": _speech("microsoft/wavlm-large", None, True, "WavLM large, 94,000 h"),
    **_TEXT,
    **{
        name + CLS_SUFFIX: replace(entry, family="text-cls", description=f"{entry.description}, first token's vector")
        for name, entry in _TEXT.items()
    },
}
"""{name: entry}. A folder with a checkpoint of a known kind is an encoder too, without an entry here."""
