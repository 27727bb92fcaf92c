"""The two kinds of trouble: what the user can mend, and what the input itself makes impossible."""


class EmocacheError(Exception):
    """A problem the user can mend.

    The command line prints its message as one line and exits with status 1, so the message names the thing at fault,
    what was found, what was expected and the remedy.
    """


class InputFailure(Exception):
    """One utterance that cannot be encoded because of what it is; committed to the stream as a failure.

    Causes outside the input (out of memory, I/O errors, a missing codec) must never be raised as this class: a
    committed failure is not tried again unless asked for.

    Args:
        reason: one of `REASONS`.
        detail: one line that names what was found and, where there is one, the remedy.
    """

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown failure reason {reason!r}; add it to emocache.cache.errors.REASONS")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


REASONS = {
    "empty": "the file or the segment holds no samples",
    "no_audio": "the media holds no audio track",
    "no_video": "the media holds no video track",
    "no_face": "no face was found in any frame",
    "undecodable": "the bytes are not the media they claim to be",
    "truncated": "the media ends before its header or the segment says it should",
    "not_finite": "the input or the encoder's output holds NaN or infinity",
    "overflow": "an output value does not fit the storage dtype",
    "no_text": "the utterance has no text: the corpus gives none, or the transcript is empty",
    "no_words": "the words have no time spans, or the audio does not fit the text",
    "no_frames": "the encoder gave no frame",
}
"""Every reason a failure may be committed for, with its meaning."""
