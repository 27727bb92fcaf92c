"""CaFE, Canadian French: twelve actors, six sentences, six emotions of two strengths and neutral, named 12-P-2-5.wav.

Gournay et al. 2018, "A Canadian French Emotional Speech Dataset".
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from .files import MediaHasher, Published, media, media_files, one_per_stem

_NAME = re.compile(r"(?:0[1-9]|1[0-2])-(?:[CDJPST]-[12]|N-1)-[1-6]")  # actor, emotion, strength, sentence
_EMOTIONS = {
    "C": "angry",
    "D": "disgust",
    "J": "happy",
    "N": "neutral",
    "P": "fearful",
    "S": "surprised",
    "T": "sad",
}
_STRENGTHS = {"1": "weak", "2": "strong"}
_SENTENCES = (
    "Un cheval fou dans mon jardin",
    "Deux ânes aigris au pelage brun",
    "Trois cygnes aveugles au bord du lac",
    "Quatre vieilles truies éléphantesques",
    "Cinq pumas fiers et passionnés",
    "Six ours aimants domestiqués",
)
PUBLISHED = Published(
    utterances=936,
    speakers=12,
    classes={
        "emotion": {emotion: 72 if emotion == "neutral" else 144 for emotion in _EMOTIONS.values()},
        "strength": dict.fromkeys(_STRENGTHS.values(), 432),
    },
    source="the published archive, whose recordings are listed in emo-box/EmoBox, cafe.jsonl",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each recording below `root`, flat or in folders of any name; id is the stem.

    Folders say nothing here, since unpacking garbles their accents. Where both editions are there, the .wav (48 kHz)
    is taken, not the .aiff (192 kHz). `strength` is missing for neutral, which has none.

    Args:
        root: the corpus folder; media paths are relative to it.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no recording below `root`.
    """
    del mapping
    paths = media_files(root, notes=hasher.notes)
    large = [path for path in paths if path.suffix.lower() in (".aif", ".aiff")]
    copies = one_per_stem(large) | one_per_stem(set(paths).difference(large))
    files = {stem: path for stem, path in copies.items() if _NAME.fullmatch(stem)}
    if not files:
        raise EmocacheError(f"corpus cafe: no file named like CaFE_48k/Peur/Fort/12-P-2-5.wav below {root};"
                            " give the corpus's own folder with --data")  # fmt: skip
    probes = hasher.probe(files.values())
    utterances = []
    for stem, path in files.items():
        actor, emotion, strength, sentence = stem.split("-")
        utterances.append(
            Utterance(
                id=stem,
                media=(media(root, path, "audio", probes),),
                duration=probes[path].duration,
                speaker=actor,
                language="fr",
                gender="male" if int(actor) % 2 else "female",
                text=_SENTENCES[int(sentence) - 1],
                labels={
                    "emotion": _EMOTIONS[emotion],
                    "strength": None if emotion == "N" else _STRENGTHS[strength],
                    "sentence": sentence,
                },
            )
        )
    return Manifest.from_utterances("cafe", utterances)
