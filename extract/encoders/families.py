"""The families of encoders: which code runs which kind of checkpoint, and the other uses of some."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Variant:
    """Another use of a checkpoint of some family, told from the name: `transcript-whisper-base`, `roberta-base-cls`."""

    prefix: str
    suffix: str
    of: str  # the family it needs
    family: str  # the family that runs it
    title: str  # what it adds to a description

    def base(self, name: str) -> str | None:
        """Tell the name of the checkpoint that `name` is this variant of; None where it is not."""
        inner = name.removeprefix(self.prefix).removesuffix(self.suffix)
        return inner if inner and name == f"{self.prefix}{inner}{self.suffix}" else None


VARIANTS = (
    Variant("", "-cls", "text", "text-cls", "first token's vector"),
    Variant("", "-padded", "whisper", "whisper-padded", "all 1500 frames of each 30 s"),
    Variant("", "-overlap", "whisper", "whisper-overlap", "windows of 30 s every 20 s"),
    Variant("", "-clip", "whisper", "whisper-clip", "the clip's own length and a short silence, not 30 s"),
    Variant("", "-10s", "wav2vec2", "wav2vec2-10s", "499 frames of 10 s, zeros after shorter clips"),
    Variant("transcript-", "-15s", "whisper", "transcript-15s", "text, translation and word times of the first 15 s"),
    Variant("transcript-", "", "whisper", "transcript", "text, English translation and word times"),
    Variant("align-", "", "wav2vec2", "align", "word times by CTC forced alignment"),
    Variant("", "-whole", "picture", "picture-whole", "the whole picture, not the face"),
)

IMPLEMENTATIONS = {
    "logmel": "acoustic:LogMel",
    "mfcc": "acoustic:Mfcc",
    "spectrogram": "acoustic:Spectrogram",
    "spectrogram-code": "acoustic:SpectrogramCode",
    "mfcc-code": "acoustic:MfccCode",
    "mfcc39": "acoustic:Mfcc39",
    "mfcc-words": "word_mfcc:WordMfcc",
    "alexnet": "alexnet:SpectrogramAlexNet",
    "egemaps": "egemaps:Egemaps",
    "egemaps-functionals": "egemaps:EgemapsFunctionals",
    "face-boxes": "face_boxes:FaceBoxes",
    "face-dlib": "dlib_face:DlibFace",
    "vgg-face": "vgg_face:VggFace",
    "marlin": "marlin:Marlin",
    "picture": "picture_models:FacePictures",
    "picture-whole": "picture_models:WholePictures",
    "whisper": "whisper:Whisper",
    "whisper-padded": "whisper:PaddedWhisper",
    "whisper-overlap": "whisper:OverlappingWhisper",
    "whisper-clip": "whisper_clip:ClipWhisper",
    "wav2vec2": "wav2vec2:Wav2Vec2",
    "wav2vec2-10s": "wav2vec2:TenSecondWav2Vec2",
    "wav2vec2-bert": "wav2vec2_bert:Wav2Vec2Bert",
    "any-audio": "any_model:AnyAudio",
    "any-text": "any_model:AnyText",
    "text": "text:TokenText",
    "text-cls": "text:ClsText",
    "glove": "glove:WordVectors",
    "transcript": "transcript:Transcript",
    "transcript-15s": "transcript:FifteenSecondTranscript",
    "align": "ctc_align:CtcAlign",
}
"""{family: "module:class"} in this package. A class is imported only when an encoder of its family is loaded."""


def implementation(family: str) -> Any:
    """Import the class that runs a family."""
    module, _, class_name = IMPLEMENTATIONS[family].partition(":")
    return getattr(import_module(f".{module}", __package__), class_name)


FAMILY_OF_MODEL_TYPE = {
    "whisper": "whisper",
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio"), "wav2vec2"),
    "wav2vec2-conformer": "wav2vec2",
    "wav2vec2-bert": "wav2vec2-bert",
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"), "text"),
    **dict.fromkeys(("deberta-v2", "modernbert", "mpnet", "llama", "qwen3"), "text"),
    **dict.fromkeys(("clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "vit"), "picture"),
}
"""{`model_type` of a checkpoint's config.json: family}."""
