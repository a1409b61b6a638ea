"""Human text for the language-model chapter, by name, in a part to train on and one to test on."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import checks, text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMBEDDED = "embedded"
WIKITEXT = "wikitext-2"
_FILES = [f"wikitext-2-raw-v1/{part}-00000-of-00001.parquet" for part in ("train", "test")]
_HUB = {"repo_id": "Salesforce/wikitext", "repo_type": "dataset"}
_TEST_SHARE = 0.2
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Corpus:
    """Human text, as paragraphs, in a part to train on and a part to test on."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of the text, to store with results."""
        return text.fingerprint([*self.train, "\0", *self.test])


def corpus(name: str = EMBEDDED) -> Corpus:
    """Human text by name.

    Parameters
    ----------
    name : str
        ``"embedded"`` (Python's language reference), ``"wikitext-2"`` (the raw version, from the
        Hugging Face hub or its cache), a text file, of which a fifth of the paragraphs is kept for
        testing, or a folder that holds ``train``, ``test`` and perhaps ``validation`` as ``.txt``
        or ``.txt.gz`` (``valid`` is read too, and trained on if there is no ``train``).

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        If the name is unknown or a part holds no words.
    FileNotFoundError
        If WikiText-2 is neither in the cache nor to be had from the network.
    """
    path = Path(name).expanduser() if isinstance(name, str) and name else None
    if name == EMBEDDED:
        train, test = text.held_out(text.reference_paragraphs(), _TEST_SHARE)
    elif name == WIKITEXT:
        train, test = _wikitext()
    elif path is not None and path.is_dir():
        train, test = _folder(path)
    elif path is not None and path.is_file():
        lines = _lines(path)
        _require_words(lines, f"corpus {name!r}")
        train, test = text.held_out(lines, _TEST_SHARE)
    else:
        raise ValueError(
            f'corpus must be "{EMBEDDED}", "{WIKITEXT}", or a text file or folder that exists, '
            f"got {name!r}"
        )
    _require_words(train, f"the training part of corpus {name!r}")
    _require_words(test, f"the test part of corpus {name!r}")
    return Corpus(str(name), tuple(train), tuple(test))


def blocks(
    paragraphs: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int = 64
) -> NDArray[np.int64]:
    """Text as blocks of tokens, joined by line ends and cut without regard to them.

    Parameters
    ----------
    paragraphs : iterable of str
    tokenizer : transformers tokenizer
    length : int
        Tokens per block; the remainder at the end is dropped.

    Returns
    -------
    ndarray of int, shape (n, length)

    Raises
    ------
    ValueError
        If the text does not fill one block.
    """
    length = checks.integer("length", length, 2)
    lines = [paragraph + "\n" for paragraph in paragraphs]
    encoded = tokenizer(lines, add_special_tokens=False)["input_ids"] if lines else []
    tokens = np.array([i for line in encoded for i in line], dtype=np.int64)
    n = len(tokens) // length
    if n == 0:
        raise ValueError(
            f"the corpus must fill at least one block of {length} tokens, got {len(tokens)} tokens"
        )
    return tokens[: n * length].reshape(n, length)


def wikitext_files() -> list[Path]:
    """Files of WikiText-2 in the cache of the Hugging Face hub, as far as they are there."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(filename=name, **_HUB) for name in _FILES]
    return [Path(path) for path in found if isinstance(path, str)]


def _wikitext() -> tuple[Sequence[str], Sequence[str]]:
    from huggingface_hub import hf_hub_download
    from pandas import read_parquet

    parts = []
    for name in _FILES:
        try:
            try:
                path = hf_hub_download(filename=name, local_files_only=True, **_HUB)
            except OSError:  # not in the cache yet
                path = hf_hub_download(filename=name, **_HUB)
        except OSError as error:
            raise FileNotFoundError(
                f'corpus "{WIKITEXT}" is not in the cache and could not be downloaded '
                f'({first_line(error)}); without a network choose corpus="{EMBEDDED}" or a local '
                "folder"
            ) from error
        lines = read_parquet(path)["text"]
        parts.append([line.strip() for line in lines if line.strip()])
    return parts[0], parts[1]


def _folder(path: Path) -> tuple[Sequence[str], Sequence[str]]:
    found: dict[str, list[str]] = {}
    for file in sorted(path.iterdir()):
        stem = file.name.split(".")[0].lower()
        part = "validation" if stem == "valid" else stem
        if part in _PARTS and file.name.endswith((".txt", ".txt.gz")):
            found[part] = _lines(file)
    train = found.get("train", found.get("validation"))
    if train is None or "test" not in found:
        raise ValueError(
            f"corpus {str(path)!r} must hold test.txt and train.txt or valid.txt (or .txt.gz), "
            f"found {', '.join(found) or 'none of them'}"
        )
    return train, found["test"]


def _lines(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def _require_words(paragraphs: Sequence[str], what: str) -> None:
    if not any(character.isalnum() for p in paragraphs for character in p):
        raise ValueError(f"{what} must hold text, got {len(paragraphs)} lines without a word")


def first_line(error: BaseException) -> str:
    """First line of a library's message, to be part of one clear line."""
    return str(error).strip().split("\n")[0][:160]
