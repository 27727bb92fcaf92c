"""When a transcript is not one: silence, and text that runs in circles. The thresholds published with Whisper.

Source: Radford et al. 2022 (arXiv:2212.04356), section 4.5, and `transcribe` of github.com/openai/whisper, the defaults
of no_speech_threshold, logprob_threshold and compression_ratio_threshold. There, text that fails one of the last two is
decoded again at a higher temperature; here decoding is greedy, and text that repeats itself is dropped.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from .encoder import Audio

NO_SPEECH_PROB = 0.6
AVG_LOGPROB = -1.0
COMPRESSION_RATIO = 2.4
DIGITAL_SILENCE = 2.0**-14
"""Two steps of 16-bit samples: what is left of no signal at all after dither and an offset."""

RULES = {
    "no_speech_prob_above": NO_SPEECH_PROB, "and_avg_logprob_below": AVG_LOGPROB,
    "compression_ratio_above": COMPRESSION_RATIO, "digital_silence_range": DIGITAL_SILENCE,
}  # fmt: skip
"""The thresholds as they stand in a recipe."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The text heard in one window of a clip, and how sure the decoder was.

    Attributes:
        text: as decoded.
        no_speech_prob: probability of the no-speech token where the transcript starts.
        logprob: sum over the sampled tokens, the end of the text included where it was reached.
        tokens: their number; the end of the text counts even where it was not reached, as in Whisper's own code.
        complete: whether the end of the text was reached before the limit of tokens.
    """

    text: str
    no_speech_prob: float
    logprob: float
    tokens: int
    complete: bool

    @property
    def flag(self) -> str | None:
        """The fault of the text, if it has one: "silence" and "repetition" void it, "truncated" does not."""
        if not self.text or (self.no_speech_prob > NO_SPEECH_PROB and self.logprob / self.tokens < AVG_LOGPROB):
            return "silence"
        if repeats(self.text):
            return "repetition"
        return None if self.complete else "truncated"

    @property
    def valid(self) -> bool:
        """True if the text counts."""
        return self.flag in (None, "truncated")


def is_digital_silence(audio: Audio) -> bool:
    """Tell whether the samples (n,) hold no signal at all, n > 0."""
    return bool(np.ptp(audio) <= DIGITAL_SILENCE)


def repeats(text: str) -> bool:
    """Tell whether zlib compresses the UTF-8 text so well that it can only be a loop of the decoder."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) > COMPRESSION_RATIO


def clip_flag(flags: list[str | None]) -> str | None:
    """Sum up the flags of a clip's windows.

    Args:
        flags: one for each window that holds a signal.

    Returns:
        "silence" only where all are silent; of those heard, "repetition" before "truncated" before None.
    """
    heard = [flag for flag in flags if flag != "silence"]
    return next((flag for flag in ("repetition", "truncated") if flag in heard), None) if heard else "silence"
