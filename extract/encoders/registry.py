"""The table of encoders: what there is by name, and where its weights are from."""

from dataclasses import dataclass, replace

from .families import VARIANTS

NO_FILE = ""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One name that `--encoder` knows.

    Attributes:
        family: the kind of encoder, a key of `families.IMPLEMENTATIONS`.
        hub: repository on the Hugging Face hub; None for those that have no checkpoint.
        revision: full commit hash that is loaded from the hub; None where none is known.
        dim: values per frame.
        layers: transformer layers; 0 for signal transforms.
        rate: frames a second in Hz; None where frames are tokens.
        description: one line.
        file: suffix of the one file that holds the weights, such as ".h5", looked for below `--checkpoints`; `NO_FILE`
            for a model that makes its weights itself; None for checkpoints and signal transforms.
        addresses: of that one file, tried in turn; `{hub}` stands for the hub's own address.
        member: of the zip archive that the addresses give; "" where they give the file itself.
        licence: of the weights, where it is known; the hub is asked for that of its repositories.
        storage: type that its numbers are stored in unless `--dtype` says otherwise.
        extra: of emocache, that `pip install 'emocache[EXTRA]'` brings, and a module that it has.
    """

    family: str
    hub: str | None
    revision: str | None
    dim: int
    layers: int
    rate: float | None
    description: str
    file: str | None = None
    addresses: tuple[str, ...] = ()
    member: str = ""
    licence: str = ""
    storage: str = "float16"
    extra: tuple[str, str] = ("extract", "transformers")

    def gigabytes_per_hour(self, bytes_per_value: int = 2) -> float | None:
        """Tell the 10^9 bytes that one layer takes for an hour of audio, as float16 by default; None for tokens."""
        return None if self.rate is None else self.rate * 3600 * self.dim * bytes_per_value / 1e9


def _whisper(size: str, hub: str, revision: str, dim: int, layers: int) -> EncoderEntry:
    return EncoderEntry("whisper", f"openai/{hub}", revision, dim, layers, 50.0, f"Whisper encoder, {size}")


def _speech(hub: str, revision: str | None, large: bool, description: str) -> EncoderEntry:
    dim, layers = (1024, 24) if large else (768, 12)
    return EncoderEntry("wav2vec2", hub, revision, dim, layers, 50.0, description)


def _text(hub: str, revision: str, dim: int, layers: int, description: str) -> EncoderEntry:
    return EncoderEntry("text", hub, revision, dim, layers, None, description)


# The revision of hubert-base is the hub's own safetensors conversion, which sits on a branch beside main.
_CHECKPOINTS = {
    "whisper-tiny": _whisper("tiny", "whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af", 384, 4),
    "whisper-base": _whisper("base", "whisper-base", "e37978b90ca9030d5170a5c07aadb050351a65bb", 512, 6),
    "whisper-small": _whisper("small", "whisper-small", "973afd24965f72e36ca33b3055d56a652f456b4d", 768, 12),
    "whisper-medium": _whisper("medium", "whisper-medium", "abdf7c39ab9d0397620ccaea8974cc764cd0953e", 1024, 24),
    "whisper-large-v1": _whisper("large v1", "whisper-large", "4ef9b41f0d4fe232daafdb5f76bb1dd8b23e01d7", 1280, 32),
    "whisper-large-v2": _whisper("large v2", "whisper-large-v2", "ae4642769ce2ad8fc292556ccea8e901f1530655", 1280, 32),
    "whisper-large-v3": _whisper("large v3", "whisper-large-v3", "06f233fe06e710322aca913c1bc4249a0d71fce1", 1280, 32),
    "whisper-large-v3-turbo": _whisper(
        "large v3 turbo", "whisper-large-v3-turbo", "41f01f3fe87f28c78e2fbf8b568835947dd65ed9", 1280, 32
    ),
    "wav2vec2-base": _speech(
        "facebook/wav2vec2-base",
        "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        False,
        "wav2vec 2.0 base, 960 h, pre-trained only",
    ),
    "wav2vec2-base-960h": _speech(
        "facebook/wav2vec2-base-960h", "22aad52d435eb6dbaf354bdad9b0da84ce7d6156", False, "wav2vec 2.0 base, fine-tuned"
    ),
    "wav2vec2-large": _speech("facebook/wav2vec2-large", None, True, "wav2vec 2.0 large, 960 h, pre-trained only"),
    "wav2vec2-large-lv60": _speech("facebook/wav2vec2-large-lv60", None, True, "wav2vec 2.0 large, 60,000 h"),
    "hubert-base": _speech(
        "facebook/hubert-base-ls960", "af46f65f540dc3ca7aa59f46c6c3d5dbb4374fa8", False, "HuBERT base, 960 h"
    ),
    "hubert-large": _speech(
        "facebook/hubert-large-ll60k",
        "ff022d095678a2995f3c49bab18a96a9e553f782",
        True,
        "HuBERT large, 60,000 h",
    ),
    "hubert-large-ls960-ft": _speech(
        "facebook/hubert-large-ls960-ft", None, True, "HuBERT large, 60,000 h, fine-tuned on 960 h"
    ),
    "audeering-dimensional": EncoderEntry(
        "wav2vec2",
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        None,
        1024,
        12,
        50.0,
        "wav2vec 2.0 large robust, 12 layers, fine-tuned on arousal, dominance, valence",
        licence="cc-by-nc-sa-4.0",
    ),
    "wavlm-base": _speech(
        "microsoft/wavlm-base", "efa81aae7ff777e464159e0f877d54eac5b84f81", False, "WavLM base, 960 h"
    ),
    "wavlm-base-plus": _speech(
        "microsoft/wavlm-base-plus",
        "4c66d4806a428f2e922ccfa1a962776e232d487b",
        False,
        "WavLM base, 94,000 h",
    ),
    "wavlm-large": _speech(
        "microsoft/wavlm-large", "c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c", True, "WavLM large, 94,000 h"
    ),
    "roberta-base": _text(
        "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b", 768, 12, "RoBERTa base"
    ),
    "roberta-large": _text(
        "FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59", 1024, 24, "RoBERTa large"
    ),
    "bert-base": _text(
        "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594", 768, 12, "BERT base"
    ),
    "distilbert-base": _text(
        "distilbert/distilbert-base-uncased", "12040accade4e8a0f71eabdb258fecc2e7e948be", 768, 6, "DistilBERT"
    ),
}
_FINE_TUNED = ("wav2vec2-base-960h", "hubert-large-ls960-ft")  # those with a CTC head, which can align


def _variants() -> dict[str, EncoderEntry]:
    found = {}
    for variant in VARIANTS:
        for name, entry in _CHECKPOINTS.items():
            if entry.family != variant.of or (variant.family == "align" and name not in _FINE_TUNED):
                continue
            changed = replace(entry, family=variant.family, description=f"{entry.description}: {variant.title}")
            if variant.family in ("transcript", "align"):
                changed = replace(changed, dim=0, layers=0, rate=None)  # tables
            found[f"{variant.prefix}{name}{variant.suffix}"] = changed
    return found


# Where the weights that are one file can be had, and under which licence.
_ALEXNET = ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",)
_VGG_FACE = (
    "https://github.com/serengil/deepface_models/releases/download/v1.0/vgg_face_weights.h5",
    "https://github.com/rcmalli/keras-vggface/releases/download/v2.0/rcmalli_vggface_tf_notop_vgg16.h5",
)
_MARLIN = (
    "{hub}/ControlNet/MARLIN/resolve/main/marlin_vit_SIZE_ytf.encoder.pt",
    "https://github.com/ControlNet/MARLIN/releases/download/model_v1/marlin_vit_SIZE_ytf.encoder.pt",
)
_GLOVE = ("https://nlp.stanford.edu/data/glove.840B.300d.zip",)
_FACES = ("extract,faces", "dlib")
_EGEMAPS = ("extract,egemaps", "opensmile")


def _own(family: str, dim: int, rate: float | None, description: str, file: str | None = None) -> EncoderEntry:
    return EncoderEntry(family, None, None, dim, 0, rate, description, file)


def _marlin(size: str, dim: int, layers: int) -> EncoderEntry:
    title = f"MARLIN {size}, one vector per 32 pictures"
    addresses = tuple(address.replace("SIZE", size) for address in _MARLIN)
    return EncoderEntry(
        "marlin", None, None, dim, layers, None, title, ".safetensors", addresses, licence="CC BY-NC 4.0", extra=_FACES
    )


REGISTRY: dict[str, EncoderEntry] = {
    "logmel": _own("logmel", 40, 100.0, "log-mel spectrogram, 40 bands, 25 ms Hamming window"),
    "mfcc": _own("mfcc", 40, 100.0, "40 cepstral coefficients of the log-mel spectrogram"),
    "mfcc-words": _own("mfcc-words", 40, None, "40 MFCC of the sound of each word by itself"),
    "mfcc39": _own("mfcc39", 39, 100.0, "12 MFCC and log energy with deltas and accelerations (HTK, MDRE)"),
    "mfcc-code": _own("mfcc-code", 40, 100.0, "40 MFCC as CAMuLeNet's released code takes them (librosa)"),
    "spectrogram": _own(
        "spectrogram", 128, 100.0, "log-mel spectrogram in dB, 128 bands, 40 ms Hamming window (CAMuLeNet)"
    ),
    "spectrogram-code": replace(
        _own("spectrogram-code", 128, 1600.0, "mel power spectrogram as CAMuLeNet's released code takes it, float32"),
        storage="float32",
    ),
    "alexnet": replace(
        _own("alexnet", 9216, None, "AlexNet over the spectrogram, one vector per utterance", ".safetensors"),
        addresses=_ALEXNET,
        licence="BSD-3-Clause",
    ),
    "alexnet-random": _own("alexnet", 9216, None, "AlexNet with fixed random weights", NO_FILE),
    "egemaps": replace(_own("egemaps", 25, 100.0, "eGeMAPSv02 low-level descriptors (openSMILE)"), extra=_EGEMAPS),
    "egemaps-functionals": replace(
        _own("egemaps-functionals", 88, None, "eGeMAPSv02 functionals, one vector per utterance (openSMILE)"),
        extra=_EGEMAPS,
    ),
    "face-boxes": replace(
        _own("face-boxes", 4, None, "where the face is, one box per picture; other encoders take it from there"),
        storage="float32",
        extra=_FACES,
    ),
    "face-dlib": replace(
        _own("face-dlib", 128, None, "dlib's face descriptor, one per picture, weights by pip"), extra=_FACES
    ),
    "vgg-face": replace(
        _own("vgg-face", 512, None, "VGG-Face (VGG16), maximum over pool5, one per picture", ".h5"),
        addresses=_VGG_FACE,
        licence="non-commercial research only",
        extra=_FACES,
    ),
    "marlin-small": _marlin("small", 384, 12),
    "marlin-base": _marlin("base", 768, 12),
    "marlin-large": _marlin("large", 1024, 24),
    **_CHECKPOINTS,
    "glove-840b": replace(
        _own("glove", 300, None, "GloVe 840B, one vector per word", ".txt"),
        addresses=_GLOVE,
        member="glove.840B.300d.txt",
        licence="PDDL 1.0",
    ),
    **_variants(),
}
"""{name: entry}. A folder with a checkpoint of a known kind is an encoder too, without an entry here."""
