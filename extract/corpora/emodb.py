"""EmoDB, the Berlin database of acted German speech: ten speakers, ten sentences, seven emotions, named 03a01Fa.wav.

Burkhardt et al. 2005, "A Database of German Emotional Speech"; the names are explained in its erklaerung.txt.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from .files import MediaHasher, media, media_files, one_per_stem

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])[a-z]")  # speaker, sentence, emotion, version
_MEN = frozenset(("03", "10", "11", "12", "15"))
_WOMEN = frozenset(("08", "09", "13", "14", "16"))
_EMOTIONS = {
    "W": "angry",
    "L": "boredom",
    "E": "disgust",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each recording below `root`, in whatever folder (wav/, wav_corpus/); id is the stem.

    Raises:
        EmocacheError: no recording below `root`.
    """
    del mapping
    files = {s: p for s, p in one_per_stem(media_files(root)).items() if _NAME.fullmatch(s)}
    if not files:
        raise EmocacheError(f"corpus emodb: no file named like wav/03a01Fa.wav below {root}")
    probes = hasher.probe(files.values())
    utterances = []
    for stem, path in files.items():
        speaker, sentence, emotion = stem[:2], stem[2:5], stem[5]
        utterances.append(
            Utterance(
                id=stem,
                media=(media(root, path, "audio", probes),),
                duration=probes[path].duration,
                speaker=speaker,
                language="de",
                gender="male" if speaker in _MEN else "female" if speaker in _WOMEN else None,
                text=_SENTENCES.get(sentence),
                labels={"emotion": _EMOTIONS[emotion], "sentence": sentence},
            )
        )
    return Manifest.from_utterances("emodb", utterances)
