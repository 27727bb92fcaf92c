"""EmoDB, the Berlin database of acted German speech: ten speakers, ten sentences, seven emotions, named 03a01Fa.wav.

Burkhardt et al. 2005, "A Database of German Emotional Speech"; the names are explained in its erklaerung.txt.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from .emodb_files import read_judgements, read_words
from .files import MediaHasher, Published, media, media_files, one_per_stem

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
_SENTENCES = {  # with hyphens between the syllables
    "a01": "Der Lap-pen liegt auf dem Eis-schrank.",
    "a02": "Das will sie am Mitt-woch ab-ge-ben.",
    "a04": "Heu-te a-bend könn-te ich es ihm sa-gen.",
    # Lists of the sentences say "Stück Papier"; the actors say "Blatt Papier", and so do the label files.
    "a05": "Das schwar-ze Blatt Pa-pier be-fin-det sich da o-ben ne-ben dem Holz-stück.",
    "a07": "In sie-ben Stun-den wird es so-weit sein.",
    "b01": "Was sind denn das für Tü-ten, die da un-ter dem Tisch ste-hen?",
    "b02": "Sie ha-ben es ge-ra-de hoch-ge-tra-gen und jetzt ge-hen sie wie-der run-ter.",
    "b03": "An den Wo-chen-en-den bin ich jetzt im-mer nach Hau-se ge-fah-ren und ha-be Ag-nes be-sucht.",
    "b09": "Ich will das e-ben weg-brin-gen und dann mit Karl was trin-ken ge-hen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie im-mer hin-le-gen.",
}


PUBLISHED = Published(
    utterances=535,
    speakers=10,
    classes={
        "emotion": {
            "angry": 127, "boredom": 81, "neutral": 79, "happy": 71, "fearful": 69, "sad": 62, "disgust": 46,
        }
    },
    source="the published archive, whose recordings are listed in emo-box/EmoBox, emodb.jsonl",
)  # fmt: skip


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each recording below `root`, in whatever folder (wav/, wav_corpus/); id is the stem.

    Where the folder silb/ is there too, utterances have timed words; where erkennung.txt is, the labels `recognised`
    and `natural`: how many per cent of the listeners heard the emotion meant, and how many found it natural.

    Args:
        root: the corpus folder; media paths are relative to it.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no recording below `root`, or a label file that cannot be read.
    """
    del mapping
    files = {s: p for s, p in one_per_stem(media_files(root, notes=hasher.notes)).items() if _NAME.fullmatch(s)}
    if not files:
        raise EmocacheError(f"corpus emodb: no file named like wav/03a01Fa.wav below {root};"
                            " give the corpus's own folder with --data")  # fmt: skip
    probes = hasher.probe(files.values())
    syllables = one_per_stem(media_files(root, frozenset((".silb",))))
    judged = one_per_stem(media_files(root, frozenset((".txt",)))).get("erkennung")
    judgements = read_judgements(judged) if judged else {}
    utterances = []
    for stem, path in files.items():
        speaker, sentence, emotion = stem[:2], stem[2:5], stem[5]
        syllabified = _SENTENCES.get(sentence)
        words = read_words(syllables[stem], syllabified) if syllabified and stem in syllables else ()
        utterances.append(
            Utterance(
                id=stem,
                media=(media(root, path, "audio", probes),),
                duration=probes[path].duration,
                speaker=speaker,
                language="de",
                gender="male" if speaker in _MEN else "female" if speaker in _WOMEN else None,
                text=syllabified and syllabified.replace("-", ""),
                words=words,
                words_source="corpus" if words else None,
                labels={"emotion": _EMOTIONS[emotion], "sentence": sentence, **judgements.get(stem, {})},
            )
        )
    return Manifest.from_utterances("emodb", utterances)
