"""What the press says: its two kinds of error, one line of progress, and how a message is put."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

import click
from tqdm import tqdm


class BadInput(click.ClickException):
    """What the user typed or wrote in a file cannot be used: one line, exit code 2."""

    exit_code = 2


class BuildFailed(click.ClickException):
    """A notebook, the gate or the site builder failed: exit code 1."""


def say(text: str) -> None:
    """Print a line on standard output, above the bar that tqdm may show."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def one_line(error: object) -> str:
    """The message of an error, which may have line breaks."""
    return " ".join(str(error).split())


def counted(number: int, noun: str) -> str:
    """``1 point``, ``2,000 points``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def suggestion(name: str, known: Iterable[str], noun: str) -> str:
    """``; did you mean 'x'?``, or the list of what there is when nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; {noun}: {', '.join(known)}" if known else f"; there are no {noun}"
