"""Who gives out each corpus, under which licence, and in which layout. Read by `make` too, with Python alone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """One corpus as its owner gives it out.

    Attributes:
        title: what it is called. who: its owner, and the address that tells of it.
        licence: its licence, or the terms that are known.
        layout: the files that the loader looks for, below the corpus folder.
    """

    title: str
    who: str
    licence: str
    layout: tuple[str, ...]


ORIGINS = {
    "emodb": Origin(
        "EmoDB",
        "Technische Universität Berlin; http://emodb.bilderbar.info",
        "CC0 1.0, according to audeering/emodb",
        ("wav/03a01Fa.wav", "silb/03a01Fa.silb and erkennung.txt (words and judgements, where wanted)"),
    ),
    "ravdess": Origin(
        "RAVDESS, its speech",
        "Livingstone and Russo; https://zenodo.org/records/1188976",
        "CC BY-NC-SA 4.0",
        ("Actor_01/03-01-06-01-02-01-01.wav", "Actor_01/01-01-06-01-02-01-01.mp4 (video, where wanted)"),
    ),
    "sewa": Origin(
        "SEWA as packaged for AVEC 2018 and 2019",
        "the SEWA project and the organisers of AVEC, on request; https://db.sewaproject.eu",
        "the EULA of the SEWA database, for academic use",
        ("labels/Train_DE_01.csv", "audio/Train_DE_01.wav", "video/Train_DE_01.avi (video, where wanted)"),
    ),
}


def origin_of(corpus: str) -> Origin | None:
    """Return who gives out a corpus; None for what nobody gives out."""
    return ORIGINS.get(corpus)


def tell_origin(corpus: str, folder: str = "DIR") -> str:
    """Tell who gives out a corpus, under which licence, in which layout.

    Args:
        corpus: a name of the registry, or any other.
        folder: where it is to lie.

    Returns:
        Some lines of plain text; "" for what `origin_of` does not know.
    """
    origin = origin_of(corpus)
    if origin is None:
        return ""
    lines = [f"{corpus}: {origin.title}", f"  from: {origin.who}", f"  licence: {origin.licence}"]
    return "\n".join(
        [*lines, f"  layout in {folder}: {origin.layout[0]}", *(f"    {file}" for file in origin.layout[1:])]
    )
