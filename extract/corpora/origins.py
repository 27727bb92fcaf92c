"""Who gives out each corpus, under which licence, and in which layout: the one table of addresses and terms.

No address was tried from where this was written. RAVDESS, CaFE: their Zenodo records and CaFE's own Readme.txt; EmoDB:
the `source` and `license` of audeering/emodb; BhavVani: the README of arnav10goel/CAMuLeNet; the others: their pages.
"""

import os
import shlex
from dataclasses import dataclass

ZENODO = "EMOCACHE_ZENODO"
"""The variable that leads to a mirror of zenodo.org."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One corpus as its owner gives it out.

    Attributes:
        title: what it is called.
        who: its owner. page: the address that tells of it.
        licence: its licence, or the terms that are known.
        citation: the paper to cite.
        layout: the files that the loader looks for, below the corpus folder.
        steps: what to do by hand, a step a line; none where it can be fetched.
        record: address of what Zenodo tells of its record, with sizes and md5; "" where it is not there.
        archives: addresses of the zip archives that make the corpus; none where it cannot be fetched.
        video: addresses of further ones, with the pictures.
    """

    title: str
    who: str
    page: str
    licence: str
    citation: str
    layout: tuple[str, ...]
    steps: tuple[str, ...] = ()
    record: str = ""
    archives: tuple[str, ...] = ()
    video: tuple[str, ...] = ()


_RAVDESS = "{zenodo}/records/1188976/files/"
_IEMOCAP = Origin(
    title="IEMOCAP",
    who="the SAIL laboratory of the University of Southern California, on request",
    page="https://sail.usc.edu/iemocap/iemocap_release.htm",
    licence="the owner's own, for those whose request is granted",
    citation="Busso et al. 2008, IEMOCAP: interactive emotional dyadic motion capture database, Language Resources and"
    " Evaluation, doi 10.1007/s10579-008-9076-6",
    layout=(
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
        "Session1/dialog/transcriptions/Ses01F_impro01.txt",
        "Session1/sentences/ForcedAlignment/... and Session1/dialog/avi/DivX/... (words and video, where wanted)",
    ),
    steps=(
        "fill in the release form on that page, and wait for the owner's answer",
        "unpack what they send: the folder is IEMOCAP_full_release, with Session1 to Session5",
    ),
)
_SEWA = "https://db.sewaproject.eu"

ORIGINS: dict[str, Origin] = {
    "bhavvani": Origin(
        title="BhavVani",
        who="Goel, Hira and Gupta, IIIT Delhi, on request",
        page="https://github.com/NLP-SBILAB/CAMuLeNet",
        licence="not known here; what the owners' answer says",
        citation="Goel et al. 2024, Exploring Multilingual Unseen Speaker Emotion Recognition, Interspeech,"
        " doi 10.21437/Interspeech.2024-1820",
        layout=("final_annotation.csv", "Data/train_....wav", "Data_/train_....mp4 (video, where wanted)"),
        steps=(
            "fill in the form https://forms.gle/9AqxS2oY4XVSeH1UA",
            "say which columns of final_annotation.csv hold the file and the emotion: --map file=COLUMN,emotion=COLUMN",
        ),
    ),
    "cafe": Origin(
        title="CaFE",
        who="Gournay, Lahaie and Lefebvre, Université de Sherbrooke",
        page="https://zenodo.org/records/1478765",
        licence="CC BY-NC-SA 4.0",
        citation="Gournay, Lahaie & Lefebvre 2018, A Canadian French Emotional Speech Dataset",
        layout=("CaFE_48k/Peur/Fort/12-P-2-5.wav (folders of any name)",),
        record="{zenodo}/api/records/1478765",
        archives=("{zenodo}/records/1478765/files/CaFE_48k.zip",),
    ),
    "cremad": Origin(
        title="CREMA-D",
        who="Cao et al., on GitHub with Git LFS",
        page="https://github.com/CheyneyComputerScience/CREMA-D",
        licence="ODbL 1.0, its contents DbCL 1.0",
        citation="Cao et al. 2014, CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Transactions on"
        " Affective Computing 5(4), doi 10.1109/TAFFC.2014.2336244",
        layout=(
            "AudioWAV/1001_DFA_ANG_XX.wav",
            "VideoFlash/1001_DFA_ANG_XX.flv (video, where wanted)",
            "VideoDemographics.csv, SentenceFilenames.csv, processedResults/summaryTable.csv",
        ),
        steps=(
            "install Git LFS (git lfs install); without it every recording is a text of three lines",
            "GIT_LFS_SKIP_SMUDGE=1 git clone https://github.com/CheyneyComputerScience/CREMA-D {folder}",
            'git -C {folder} lfs pull --include "AudioWAV/*" (and "VideoFlash/*" for the video)',
        ),
    ),
    "emodb": Origin(
        title="EmoDB",
        who="Burkhardt, Paeschke, Rolfes, Sendlmeier and Weiss, Technische Universität Berlin",
        page="http://emodb.bilderbar.info",
        licence="CC0 1.0, according to audeering/emodb",
        citation="Burkhardt et al. 2005, A Database of German Emotional Speech, Interspeech",
        layout=("wav/03a01Fa.wav", "silb/03a01Fa.silb and erkennung.txt (words and judgements, where wanted)"),
        archives=("http://emodb.bilderbar.info/download/download.zip",),
    ),
    "emotionshare": Origin(
        title="Emotion Share (Hume-Prosody, ComParE 2023)",
        who="the organisers of ComParE 2023, with Hume AI, on request",
        page="https://github.com/EIHW/ComParE2023 (branch HP-C)",
        licence="not known here; the terms of the challenge",
        citation="Schuller et al. 2023, The ACM Multimedia 2023 Computational Paralinguistics Challenge",
        layout=("lab/train.csv, lab/devel.csv, lab/test.csv", "wav/*.wav"),
        steps=(
            "ask the organisers for the data of the Emotion Share sub-challenge; what they want signed, they will say",
            "take their folder data, which holds lab and wav",
        ),
    ),
    "iemocap": _IEMOCAP,
    "iemocap-segments": _IEMOCAP,
    "meld": Origin(
        title="MELD",
        who="Poria et al., the declare-lab, tables on GitHub and clips at the University of Michigan",
        page="https://github.com/declare-lab/MELD",
        licence="not known here; what that page says, of scenes from a television series",
        citation="Poria et al. 2019, MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations,"
        " ACL, arXiv 1810.02508",
        layout=(
            "train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv",
            "train_splits/dia0_utt0.mp4, dev_splits_complete/..., output_repeated_splits_test/... (in folders or not)",
        ),
        steps=(
            "fetch http://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz, or what that page names now",
            "tar -xf MELD.Raw.tar.gz -C {folder}, and unpack train.tar.gz, dev.tar.gz and test.tar.gz, which are in it",
            "where a table is not among it, take it from data/MELD of that page",
        ),
    ),
    "msp-podcast": Origin(
        title="MSP-Podcast",
        who="the MSP laboratory of the University of Texas at Dallas, on request",
        page="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
        licence="the owner's own, for those whose institution signs it",
        citation="Lotfian & Busso 2019, Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving"
        " Emotional Speech from Existing Podcast Recordings, IEEE Transactions on Affective Computing 10(4),"
        " doi 10.1109/TAFFC.2017.2736999",
        layout=(
            "Audios/MSP-PODCAST_0001_0008.wav",
            "Labels/labels_consensus.csv",
            "Transcripts/MSP-PODCAST_0001_0008.txt (texts, where wanted)",
        ),
        steps=(
            "ask the owner, as that page says",
            "unpack what they send: the folder is called after the release, such as MSP-PODCAST-1.11",
        ),
    ),
    "ravdess": Origin(
        title="RAVDESS, its speech",
        who="Livingstone and Russo, Ryerson University",
        page="https://zenodo.org/records/1188976",
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone & Russo 2018, The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS),"
        " PLoS ONE 13(5): e0196391",
        layout=("Actor_01/03-01-06-01-02-01-01.wav", "Actor_01/01-01-06-01-02-01-01.mp4 (video, where wanted)"),
        record="{zenodo}/api/records/1188976",
        archives=(f"{_RAVDESS}Audio_Speech_Actors_01-24.zip",),
        video=tuple(f"{_RAVDESS}Video_Speech_Actor_{actor:02}.zip" for actor in range(1, 25)),
    ),
    "sewa": Origin(
        title="SEWA as packaged for AVEC 2018 and 2019, or the database itself",
        who="the SEWA project and the organisers of AVEC, on request",
        page="https://github.com/AudioVisualEmotionChallenge/AVEC2019",
        licence="the EULA of the SEWA database, for academic use",
        citation="Kossaifi et al. 2019, SEWA DB: A Rich Database for Audio-Visual Emotion and Sentiment Research in the"
        " Wild, arXiv 1901.02839",
        layout=(
            "labels/Train_DE_01.csv",
            "audio/Train_DE_01.wav",
            "video/Train_DE_01.avi (video, where wanted)",
            "or the database: folders with a metadata.ini each, and sewa.toml, which says what its names mean",
        ),
        steps=(
            f"sign the EULA of {_SEWA}, and ask there or the organisers for the packaging of AVEC",
            "unpack labels, audio and video beside each other; for the database, docs/corpora.md has a sewa.toml",
        ),
    ),
    "sewa-basic": Origin(
        title="the SEWA database",
        who="the SEWA project, on request",
        page=_SEWA,
        licence="its EULA, for academic use",
        citation="Kossaifi et al. 2019, SEWA DB: A Rich Database for Audio-Visual Emotion and Sentiment Research in the"
        " Wild, arXiv 1901.02839",
        layout=("folders with a metadata.ini each, and their *.wav and *.avi",),
        steps=(
            f"sign the EULA of {_SEWA}",
            "say which names the database uses, in sewa.toml beside its folders (docs/corpora.md has one)",
        ),
    ),
}


def origin_of(corpus: str) -> Origin | None:
    """Return who gives out a corpus, and how.

    Args:
        corpus: a name of the registry, or any other.

    Returns:
        Its origin; None for what nobody gives out: the demo corpus, importers such as `table`, loaders of the user's.
    """
    return ORIGINS.get(corpus)


def tell_origin(corpus: str, folder: str = "DIR") -> str:
    """Tell who gives out a corpus, under which licence, in which layout, and how it is got.

    Args:
        corpus: a name of the registry, or any other.
        folder: where it is to lie.

    Returns:
        Some lines of plain text; "" for what `origin_of` does not know.
    """
    origin = origin_of(corpus)
    if origin is None:
        return ""
    quoted = shlex.quote(folder)
    steps = [step.format(folder=quoted) for step in origin.steps] or [f"emocache corpora {corpus} --fetch {quoted}"]
    if origin.video:
        steps.append(f"emocache corpora {corpus} --fetch {quoted} --video, for sound and video")
    lines = [
        f"{corpus}: {origin.title}",
        f"  from: {origin.who}; {origin.page}",
        f"  licence: {origin.licence}",
        f"  cite: {origin.citation}",
        f"  to get it: {steps[0]}",
        *(f"             {step}" for step in steps[1:]),
        f"  layout in {folder}: {origin.layout[0]}",
        *(f"    {file}" for file in origin.layout[1:]),
    ]
    return "\n".join(lines)


def led(address: str) -> str:
    """Return an address of the table with the server that the environment says: zenodo.org, or a mirror of it."""
    return address.replace("{zenodo}", (os.environ.get(ZENODO) or "https://zenodo.org").rstrip("/"))
