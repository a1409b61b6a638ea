"""Human text: real English that every Python carries, and text of one's own.

Two sources need no network: the language reference in :mod:`pydoc_data.topics` and the docstrings
of the standard library, which are read from the source files without importing them. Both are
under the licence of Python. They differ a little between versions of Python, so store
:func:`fingerprint` with every result.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._checks import checked, number, one_of, texts, whole

#: A line is prose if it has so many words, of which such a share is plain.
_MIN_WORDS, _MIN_PLAIN = 8, 0.75

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


@lru_cache(maxsize=2)
@checked(name=one_of("reference", "docstrings"))
def paragraphs(name: str = "reference") -> tuple[str, ...]:
    """Paragraphs of running English, each once and on one line.

    - `name` ({"reference", "docstrings"}): What ``help()`` shows of the language, or the docstrings
      of the standard library without the paragraphs of the former.
    """
    if name == "reference":
        from pydoc_data import topics

        return _unique(_paragraphs(topics.topics[topic] for topic in sorted(topics.topics)))
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, inside, names in os.walk(root):
        inside[:] = set(inside) - _SKIPPED
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    if not files:
        raise FileNotFoundError(
            f"the standard library in {str(root)!r} has no source files to read docstrings from; "
            'use paragraphs("reference") or a Python with its sources'
        )
    # Bytes, so that ast follows the encoding that the file declares.
    modules = (ast.parse(path.read_bytes(), filename=str(path)) for path in sorted(files))
    return _unique(_paragraphs(_docstrings(modules)), map(_key, paragraphs()))


@checked(paragraphs=texts)
def fingerprint(paragraphs: Iterable[str]) -> str:
    """Hash of a text (the first 16 hexadecimal digits of SHA-256), to store with results."""
    return hashlib.sha256("\n".join(paragraphs).encode()).hexdigest()[:16]


@checked(paragraphs=texts, share=number(0, 1, above=True, below=True))
def held_out(
    paragraphs: Sequence[str], share: float = 0.1
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split paragraphs into a part to train on and a part to test on, of expected share `share`.

    Each paragraph's own hash decides, so a paragraph stays on its side when the text around it
    changes, and no seed is needed.
    """
    train, test = [], []
    for paragraph in paragraphs:
        drawn = int(fingerprint([_key(paragraph)]), 16)
        (test if drawn < share * 16**16 else train).append(paragraph)
    if not train or not test:
        raise ValueError(
            f"share={share:g} leaves {len(train)} paragraphs to train on and {len(test)} to test "
            f"on, out of {len(paragraphs)}; both parts must hold at least one"
        )
    return tuple(train), tuple(test)


@checked(n=whole(1))
def words(n: int = 5000) -> tuple[list[str], NDArray[np.float64]]:
    """The `n` most frequent words of English and their shares among these, most frequent first.

    As people wrote it up to 2021, rounded to steps of 2.3 % (wordfreq 3.1.1; Speer 2022). Left out
    are tokens with digits or marks other than the apostrophe, and single letters but "a" and "i".

    Returns list of n words, and ndarray of shape (n,) that sums to one.
    """
    try:
        from wordfreq import get_frequency_dict
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "real words come with the package wordfreq (57 MB), which is not installed: "
            "pip install wordfreq"
        ) from None
    share = {
        word: share
        for word, share in get_frequency_dict("en", "best").items()
        if word.replace("'", "").isalpha() and (len(word) > 1 or word in "ai")
    }
    if n > len(share):
        raise ValueError(f"n must be <= {len(share)}, the words that wordfreq knows, got {n}")
    names = sorted(share, key=lambda word: (-share[word], word))[:n]
    p = np.array([share[word] for word in names])
    return names, p / p.sum()


@checked(paragraphs=texts)
def sentences(paragraphs: Iterable[str]) -> list[list[str]]:
    """Lower-case words of each sentence, without the full stop.

    A sentence ends at ``. ! ?`` or with its paragraph; commas, colons and semicolons stay.
    """
    found: list[list[str]] = []
    for paragraph in paragraphs:
        sentence: list[str] = []
        for token in [*_TOKEN.findall(paragraph.translate(_QUOTES)), "."]:
            if token not in _SENTENCE_END:
                sentence.append(token.lower())
            elif sentence:
                found.append(sentence)
                sentence = []
    if not found:
        raise ValueError("paragraphs must hold at least one sentence, got none")
    return found


def _docstrings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _HOLDERS) and (doc := ast.get_docstring(node)):
            yield doc
        for field in _BODIES:  # an expression holds no docstring
            if inner := getattr(node, field, None):
                yield from _docstrings(inner)


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
        len(parts) >= _MIN_WORDS
        and line[0].isupper()
        and line[-1] in ".!?:"
        and sum(_PLAIN.fullmatch(part) is not None for part in parts) >= _MIN_PLAIN * len(parts)
    )


def _key(paragraph: str) -> str:
    """What two paragraphs share when only case, spacing or punctuation tell them apart."""
    return " ".join(re.findall(r"\w+", paragraph.lower()))


def _unique(paragraphs: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for paragraph in paragraphs:
        kept.setdefault(_key(paragraph), paragraph)
    for key in taken:
        kept.pop(key, None)
    return tuple(kept.values())
