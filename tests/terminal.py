"""A terminal for tests of what is told."""

import io


class Terminal(io.StringIO):
    """A terminal; when it is gone, writing to it fails."""

    gone = False

    def isatty(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Keep it."""
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)
