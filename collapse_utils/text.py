"""Human text: real English that every Python carries, and text of one's own.

Two sources need no network: the language reference in :mod:`pydoc_data.topics` and the docstrings
of the standard library, which are read from the source files without importing them. Both are
under the licence of Python. They differ a little between versions of Python, so store
:func:`fingerprint` with every result.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import sysconfig
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import _checks, compat
from ._checks import checked, number, whole

TEXTS = ("reference", "docstrings")
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


@lru_cache(maxsize=2)
def paragraphs(name: str = "reference") -> tuple[str, ...]:
    """Paragraphs of running English, each once and on one line.

    - `name` ({"reference", "docstrings"}): What ``help()`` shows of the language, or the docstrings
      of the standard library without the paragraphs of the former.
    """
    _checks.one_of(*TEXTS)("name", name)
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
    return _unique(_paragraphs(_docstrings(sorted(files))), map(_key, paragraphs()))


def fingerprint(paragraphs: Iterable[str]) -> str:
    """Hash of a text (the first 16 hexadecimal digits of SHA-256), to store with results."""
    return hashlib.sha256("\n".join(paragraphs).encode()).hexdigest()[:16]


@checked(share=number(0, 1, above=True, below=True))
def held_out(
    paragraphs: Sequence[str], share: float = 0.1
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split paragraphs into a part to train on and a part to test on, of expected share `share`.

    Each paragraph's own hash decides, so a paragraph stays on its side when the text around it
    changes, and no seed is needed.
    """
    tests = [int(fingerprint([_key(p)]), 16) < share * 16**16 for p in paragraphs]
    train = tuple(p for p, test in zip(paragraphs, tests, strict=True) if not test)
    rest = tuple(p for p, test in zip(paragraphs, tests, strict=True) if test)
    if not train or not rest:
        raise ValueError(
            f"share={share:g} leaves {len(train)} paragraphs to train on and {len(rest)} to test "
            f"on, out of {len(paragraphs)}; both parts must hold at least one"
        )
    return train, rest


def corpus(name: str = "embedded") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paragraphs of human text, a part to train on and a part to test on.

    `name` is ``"embedded"`` (Python's language reference), ``"wikitext-2"`` (the raw version, from
    the Hugging Face hub or its cache), a text file, of which a fifth of the paragraphs is kept for
    testing, or a folder that holds ``train``, ``test`` and perhaps ``valid`` or ``validation``
    (trained on if there is no ``train``). Files are ``.txt`` in UTF-8, a paragraph a line, or
    ``.jsonl`` with a field ``text``, and may be packed with gzip.
    """
    path = Path(name).expanduser() if isinstance(name, str) and name else None
    if name == "embedded":
        return held_out(paragraphs(), 0.2)
    if name == "wikitext-2":
        parts = _wikitext()
    elif path is not None and path.is_dir():
        parts = _folder(path)
    elif path is not None and path.is_file():
        lines = _lines(path)
        _require_words(lines, f"corpus {name!r}")
        parts = held_out(lines, 0.2)
    else:
        raise ValueError(
            'corpus must be "embedded", "wikitext-2", or a text file or folder that exists, '
            f"got {name!r}"
        )
    for part, what in zip(parts, ("training", "test"), strict=True):
        _require_words(part, f"the {what} part of corpus {name!r}")
    return parts


_FILES = [f"wikitext-2-raw-v1/{part}-00000-of-00001.parquet" for part in ("train", "test")]
_HUB = {"repo_id": "Salesforce/wikitext", "repo_type": "dataset"}


def wikitext_files() -> list[Path]:
    """Files of WikiText-2 in the cache of the Hugging Face hub, as far as they are there."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(filename=name, **_HUB) for name in _FILES]
    return [Path(path) for path in found if isinstance(path, str)]


def _wikitext() -> tuple[tuple[str, ...], ...]:
    from huggingface_hub import hf_hub_download
    from pandas import read_parquet

    parts = []
    for name in _FILES:
        try:
            try:
                path = hf_hub_download(filename=name, local_files_only=True, **_HUB)
            except OSError:  # not in the cache yet
                compat.reach_hub()
                path = hf_hub_download(filename=name, **_HUB)
        except OSError as error:
            raise FileNotFoundError(
                'corpus "wikitext-2" is not in the cache and could not be downloaded '
                f"({_checks.first_line(error)}); without a network choose "
                'corpus="embedded" or a local folder'
            ) from error
        lines = read_parquet(path)["text"]
        parts.append(tuple(line.strip() for line in lines if line.strip()))
    return tuple(parts)


def _folder(path: Path) -> tuple[tuple[str, ...], ...]:
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        part = file.name.split(".")[0].lower().replace("validation", "valid")
        if part in ("train", "valid", "test") and file.name.endswith(_KINDS):
            if part in found:
                raise ValueError(
                    f"corpus {str(path)!r} must hold one file of each part, got "
                    f"{found[part].name} and {file.name}"
                )
            found[part] = file
    train = found.get("train", found.get("valid"))
    if train is None or "test" not in found:
        raise ValueError(
            f"corpus {str(path)!r} must hold test.txt and train.txt or valid.txt (or .jsonl, or "
            f"packed as .gz), found {', '.join(found) or 'none of them'}"
        )
    return _lines(train), _lines(found["test"])


_KINDS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
_FEW, _LONG = 20, 100  # a file of fewer lines is cut into paragraphs of so many words


def _lines(path: Path) -> tuple[str, ...]:
    """Paragraphs of a file of UTF-8: its lines, or the field ``text`` of each line of JSON."""
    content = path.read_bytes()
    try:
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} must be text in UTF-8, and is not in line {line}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is no gzip file, or damaged ({error})") from None
    lines = [line.strip() for line in decoded.splitlines() if line.strip()]
    if ".jsonl" in path.suffixes:
        lines = [_field(path, at, line) for at, line in enumerate(lines, 1)]
    elif len(lines) < _FEW:
        words = decoded.split()
        lines = [" ".join(words[i : i + _LONG]) for i in range(0, len(words), _LONG)]
    return tuple(lines)


def _field(path: Path, at: int, line: str) -> str:
    try:
        said = json.loads(line)["text"]
    except (ValueError, TypeError, KeyError):
        said = None
    if not isinstance(said, str):
        raise ValueError(f'{path} must have {{"text": "..."}} in each line, not in line {at}')
    return " ".join(said.split())


def _require_words(paragraphs: Sequence[str], what: str) -> None:
    if not any(character.isalnum() for p in paragraphs for character in p):
        raise ValueError(f"{what} must hold text, got {len(paragraphs)} lines without a word")


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


def sentences(paragraphs: Iterable[str]) -> list[list[str]]:
    """Lower-case words of each sentence, without the full stop.

    A sentence ends at ``. ! ?`` or with its paragraph; commas, colons and semicolons stay.
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
