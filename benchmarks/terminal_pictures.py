"""The end of a terminal as a page: a command runs under a pseudo terminal, and its last lines are shown in colour."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 100, 40
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: {background}; color: {foreground}; }}
pre {{ display: inline-block; margin: 0; padding: 14px 18px; font: 14px/1.35 "DejaVu Sans Mono", monospace; }}
{stylesheet}
</style><pre>{code}</pre>"""


def run_in_terminal(command: Sequence[str], columns: int = COLUMNS, rows: int = ROWS) -> str:
    """Run a command in a pseudo terminal of its own.

    Args:
        command: the program and its arguments.
        columns, rows: the size that it is told.

    Returns:
        All that it wrote, with its colours.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    told = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)}
    silenced = ("NO_COLOR", "EMOCACHE_QUIET")
    environment = {key: value for key, value in os.environ.items() if key not in silenced} | told
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True)
    os.close(theirs)
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # Linux says so where nobody is left at the other end
                break
            if not part:
                break
            written += part
    if code := process.wait():
        raise subprocess.CalledProcessError(code, list(command), written)
    return written.decode("utf-8", "replace")


def last_screen(written: str, rows: int = ROWS) -> list[str]:
    """Return the last lines that are on the screen in the end: of lines written over each other the last.

    >>> last_screen("a\\r\\n 10 %\\r 20 %\\r\\nb\\r\\n", 2)
    [' 20 %', 'b']
    """
    text = re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", "", written)  # movements; colours, which end in m, stay
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines[-rows:]


def terminal_page(command: Sequence[str], rows: int = ROWS) -> str:
    """Return an HTML page with a prompt, the command, and its last lines.

    Args:
        command: to run.
        rows: the lines to show.
    """
    lines = last_screen(run_in_terminal(command, rows=rows), rows)
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), (" ".join(command), "bold")), soft_wrap=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
    return console.export_html(theme=MONOKAI, code_format=PAGE, inline_styles=True)
