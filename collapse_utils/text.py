"""Real English that every Python carries, tidied into paragraphs of running text.

Two sources need no network: the language reference in :mod:`pydoc_data.topics` and the docstrings
of the standard library, which are read from the source files without importing them. Both are
human writing under the licence of Python. The text differs a little between versions of Python,
so store :func:`fingerprint` with every result.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from . import _checks

MIN_WORDS = 8
MIN_PLAIN = 0.75

# Folders that hold tests, vendored packages or generated files rather than prose.
_SKIPPED = {"test", "tests", "site-packages", "dist-packages", "lib2to3", "_vendor", "__pycache__"}
_MARKUP = (
    (re.compile(r":[\w:+-]+:`~?([^`<]+?)(?:\s*<[^>]*>)?`"), r"\1"),  # :class:`name`
    (re.compile(r"`+([^`]*)`+_{0,2}"), r"\1"),  # ``code``
    (re.compile(r"(?<!\w)\*{1,2}(\w[^*]*?)\*{1,2}(?!\w)"), r"\1"),  # *emphasis*
    (re.compile(r"\s\[\d+\]"), ""),  # footnote marks
)
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "—": "-", "–": "-"})
_BULLET = re.compile(r"^\s*(?:[*+-]|\d+[.)])\s+")
_NO_PROSE = re.compile(r"^\s*(?:>>>|\.\. |[|+=~^#@]|\w+ ?::=|Changed in version|Added in version)")
_PLAIN = re.compile(r"[(\"']*[A-Za-z]+(?:[-'][A-Za-z]+)*[)\"']*[,;:.!?]*[)\"']*")
_TOKEN = re.compile(r"(?:e\.g|i\.e|etc|cf|vs)\.(?=\s+[^A-Z]|,)|\.?\w+(?:['.-]\w+)*|[.,;:!?]")
_SENTENCE_END = frozenset(".!?")
_HOLDERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BODIES = ("body", "handlers", "orelse", "finalbody", "cases")


@lru_cache(maxsize=1)
def reference_paragraphs() -> tuple[str, ...]:
    """Paragraphs of the language reference that ``help()`` shows.

    Returns
    -------
    tuple of str
        Each paragraph once, on one line, in the order of the topics' names.
    """
    from pydoc_data import topics

    return _unique(_paragraphs(topics.topics[name] for name in sorted(topics.topics)))


@lru_cache(maxsize=1)
def docstring_paragraphs() -> tuple[str, ...]:
    """Paragraphs of the docstrings of the standard library.

    Returns
    -------
    tuple of str
        Each paragraph once, on one line; none of them is in :func:`reference_paragraphs`.

    Raises
    ------
    FileNotFoundError
        If this Python came without the source files of its standard library.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if _SKIPPED.isdisjoint(path.relative_to(root).parts)
    ]
    if not files:
        raise FileNotFoundError(
            f"the standard library in {str(root)!r} has no source files to read docstrings from; "
            "use reference_paragraphs() or a Python with its sources"
        )
    taken = {_key(paragraph) for paragraph in reference_paragraphs()}
    return _unique(_paragraphs(_docstrings(files)), taken)


def fingerprint(paragraphs: Iterable[str]) -> str:
    """Hash of a text (the first 16 hexadecimal digits of SHA-256), to store with results."""
    return hashlib.sha256("\n".join(paragraphs).encode()).hexdigest()[:16]


def held_out(
    paragraphs: Sequence[str], share: float = 0.1
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split paragraphs into a part to train on and a part to test on.

    Each paragraph's own hash decides, so a paragraph stays on its side when the text around it
    changes, and no seed is needed.

    Parameters
    ----------
    paragraphs : sequence of str
    share : float
        Expected share of the test part, between 0 and 1.

    Returns
    -------
    train, test : tuple of str

    Raises
    ------
    ValueError
        If `share` lies outside (0, 1) or a part comes out empty.
    """
    share = _checks.real("share", share, 0, 1, open_low=True, open_high=True)
    tests = [int(fingerprint([_key(p)]), 16) < share * 16**16 for p in paragraphs]
    train = tuple(p for p, test in zip(paragraphs, tests, strict=True) if not test)
    rest = tuple(p for p, test in zip(paragraphs, tests, strict=True) if test)
    if not train or not rest:
        raise ValueError(
            f"share={share:g} leaves {len(train)} paragraphs to train on and {len(rest)} to test "
            f"on, out of {len(paragraphs)}; both parts must hold at least one"
        )
    return train, rest


def words(paragraphs: Iterable[str]) -> list[str]:
    """Lower-case words and punctuation marks, in order.

    Parameters
    ----------
    paragraphs : iterable of str

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If there is not a single word.
    """
    tokens = [token for p in paragraphs for token in _tokens(p)]
    if not any(token[0].isalnum() for token in tokens):
        raise ValueError(f"paragraphs must hold at least one word, got {len(tokens)} tokens")
    return tokens


def sentences(paragraphs: Iterable[str]) -> list[list[str]]:
    """Lower-case words of each sentence, without the full stop.

    A sentence ends at ``. ! ?`` or with its paragraph; commas, colons and semicolons stay.

    Parameters
    ----------
    paragraphs : iterable of str

    Returns
    -------
    list of list of str
        No sentence is empty.

    Raises
    ------
    ValueError
        If there is no sentence.
    """
    found: list[list[str]] = []
    for paragraph in paragraphs:
        sentence: list[str] = []
        for token in [*_tokens(paragraph), "."]:
            if token not in _SENTENCE_END:
                sentence.append(token)
            elif sentence:
                found.append(sentence)
                sentence = []
    if not found:
        raise ValueError("paragraphs must hold at least one sentence, got none")
    return found


def _tokens(paragraph: str) -> list[str]:
    return [token.lower() for token in _TOKEN.findall(paragraph.translate(_QUOTES))]


def _docstrings(files: Iterable[Path]) -> Iterator[str]:
    for path in files:
        # Bytes, so that ast follows the encoding that the file declares.
        yield from _docstrings_of([ast.parse(path.read_bytes(), filename=str(path))])


def _docstrings_of(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _HOLDERS) and (doc := ast.get_docstring(node)):
            yield doc
        for field in _BODIES:  # an expression holds no docstring
            if inner := getattr(node, field, None):
                yield from _docstrings_of(inner)


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    """Blocks between blank lines that read as running English."""
    for text in texts:
        for block in re.split(r"\n\s*\n", text):
            if _NO_PROSE.match(block):
                continue
            line = " ".join(_BULLET.sub("", block).translate(_QUOTES).split())
            for pattern, plain in _MARKUP:
                line = pattern.sub(plain, line)
            if _is_prose(line):
                yield line


def _is_prose(line: str) -> bool:
    parts = line.split()
    return (
        len(parts) >= MIN_WORDS
        and line[0].isupper()
        and line[-1] in ".!?:"
        and sum(_PLAIN.fullmatch(part) is not None for part in parts) >= MIN_PLAIN * len(parts)
    )


def _key(paragraph: str) -> str:
    """What two paragraphs share when only case, spacing or punctuation tell them apart."""
    return " ".join(re.findall(r"\w+", paragraph.lower()))


def _unique(paragraphs: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    seen = set(taken)
    kept = []
    for paragraph in paragraphs:
        key = _key(paragraph)
        if key not in seen:
            seen.add(key)
            kept.append(paragraph)
    return tuple(kept)
