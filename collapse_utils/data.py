"""Real images: 8x8 digits that scikit-learn carries, and MNIST through torchvision.

Both come as ``(images, labels)``: images flattened to rows, in [0, 1], ``float32``.
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

from . import _checks

DATASETS = ("digits", "mnist", "mnist10k")
SPLITS = (None, "train", "test")
_DAMAGED = "is truncated or damaged; remove it and download it again"
OFFLINE = 'without a network choose dataset="digits", which scikit-learn carries'


def images(dataset: str = "digits", *, root: str | Path | None = None, download: bool = True):
    """Images by name: ``"digits"``, ``"mnist"`` (60,000) or ``"mnist10k"`` (MNIST's test part).

    Returns
    -------
    images : ndarray, shape (n, pixels), float32 in [0, 1]
    labels : ndarray, shape (n,), int64

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError
        If MNIST is neither on disk nor to be had from the network.
    """
    _checks.choice("dataset", dataset, DATASETS)
    if dataset == "digits":
        return digits()
    return mnist(root, train=dataset == "mnist", download=download)


def digits(split: str | None = None, *, test_share: float = 0.2):
    """Load 1,797 real handwritten digits of 8x8 pixels, embedded in scikit-learn.

    Parameters
    ----------
    split : None, "train" or "test"
        None for all images. The split is stratified by digit and always the same.
    test_share : float
        Share of the images in the test part.

    Returns
    -------
    images : ndarray, shape (n, 64), float32, multiples of 1/16 in [0, 1]
    labels : ndarray, shape (n,), int64

    Raises
    ------
    ValueError
        If a parameter is outside what is allowed.

    Notes
    -----
    Source: Alpaydin and Kaynak (1998), UCI "Optical Recognition of Handwritten Digits", test part.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in SPLITS:
        raise ValueError(f'split must be None, "train" or "test", got {split!r}')
    _checks.real("test_share", test_share, 0.01, 0.99)
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16.0).astype(np.float32)
    if split is None:
        return pixels, labels
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=test_share, stratify=labels, random_state=0
    )
    return (train_x, train_y) if split == "train" else (test_x, test_y)


def data_folder(root: str | Path | None = None) -> Path:
    """Folder that holds downloaded data: ``root``, else ``COLLAPSE_DATA_DIR``, else a cache.

    The cache is ``~/.cache/collapse_utils``. Nothing is created here.
    """
    chosen = root or os.environ.get("COLLAPSE_DATA_DIR") or "~/.cache/collapse_utils"
    return Path(chosen).expanduser().absolute()


def stored(name: str) -> list[Path]:
    """Files of a named data set that are on this machine: what a run with it would read.

    Empty for a set that a package carries, for one that is not here yet, and for any other text.
    """
    if name in ("mnist", "mnist10k"):
        part, folder = ("train" if name == "mnist" else "t10k"), data_folder()
        places = (folder / "MNIST" / "raw", folder / "mnist", folder)
        return [path for place in places for path in sorted(place.glob(f"{part}-*-ubyte*"))]
    if name == "wikitext-2":
        from .models.language import wikitext_files

        return wikitext_files()
    return []


def mnist(root: str | Path | None = None, *, train: bool = True, download: bool = False):
    """MNIST (28x28 handwritten digits) read by torchvision.

    Looks for the idx files, unpacked or ``.gz``, in ``ROOT/MNIST/raw`` (where torchvision puts
    them), ``ROOT/mnist`` and ``ROOT``, with ROOT from `data_folder`. Their size must be the one
    their header states. A download goes to a temporary folder, is checked against torchvision's
    checksums, and is moved to ``ROOT/MNIST/raw`` only when whole.

    Parameters
    ----------
    root : path, optional
        See `data_folder`.
    train : bool
        The 60,000 training images, or the 10,000 test images.
    download : bool
        Whether the network may be used if the files are not there.

    Returns
    -------
    images : ndarray, shape (n, 784), float32 in [0, 1]
    labels : ndarray, shape (n,), int64

    Raises
    ------
    FileNotFoundError
        If the files are not there and could not be downloaded; names the folder and the data set
        that needs no network.
    ValueError
        If a file is truncated or damaged.

    Notes
    -----
    Source: LeCun, Cortes and Burges (1998), "The MNIST database of handwritten digits".
    """
    from .compat import mend_torchvision

    if importlib.util.find_spec("torchvision") is None:
        raise ModuleNotFoundError(
            'torchvision is not installed; install it, or use dataset="digits", which needs none'
        )
    mend_torchvision()
    from torchvision.datasets import MNIST

    folder = data_folder(root)
    places = [folder / "MNIST" / "raw", folder / "mnist", folder]

    def find(part: str):
        files = [(name, md5) for name, md5 in MNIST.resources if name.startswith(part)]
        stored = (p for p in places if all(_stored(p, name) for name, _ in files))
        return files, next(stored, None)

    files, here = find("train" if train else "t10k")
    if here is None:
        names = " and ".join(name.removesuffix(".gz") for name, _ in files)
        missing = f"MNIST is not in {folder} (looked for {names}, also .gz)"
        advice = f"put the files there or point COLLAPSE_DATA_DIR at them; {OFFLINE}"
        if train and find("t10k")[1] is not None:
            advice += ', or dataset="mnist10k", which is there'
        if not download:
            raise FileNotFoundError(f"{missing}; {advice}; or pass download=True")
        here = places[0]
        try:
            _download(MNIST.mirrors, files, here)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{missing} and {error}; {advice}") from error
    pixels, labels = (_read(here, name) for name, _ in files)
    if len(pixels) != len(labels):
        raise ValueError(f"{here} holds {len(pixels)} images but {len(labels)} labels")
    return (pixels.reshape(len(pixels), -1) / 255.0).astype(np.float32), labels.astype(np.int64)


def _stored(folder: Path, packed: str) -> bool:
    """Whether ``folder`` holds the file ``packed``, packed or not."""
    return (folder / packed).is_file() or (folder / packed.removesuffix(".gz")).is_file()


def _download(mirrors: list[str], files: list[tuple[str, str]], folder: Path) -> None:
    """Download ``files`` (name, md5) from the first mirror that gives them all, into ``folder``."""
    from torchvision.datasets.utils import download_and_extract_archive

    problems = []
    with tempfile.TemporaryDirectory() as here:
        for mirror in mirrors:
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # torchvision's progress bar
                    for name, md5 in files:
                        download_and_extract_archive(mirror + name, here, filename=name, md5=md5)
            except (OSError, RuntimeError) as error:  # a URLError is an OSError
                problems.append(f"{mirror}: {error}".splitlines()[0])
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for name, _ in files:
                part = folder / f"{name}.part"
                try:
                    shutil.copyfile(Path(here, name), part)
                    part.replace(folder / name)
                finally:
                    part.unlink(missing_ok=True)
            return
    raise FileNotFoundError(f"could not be downloaded ({'; '.join(problems)})")


def _read(folder: Path, packed: str) -> np.ndarray:
    """Read one idx file through torchvision; an unpacked file is preferred to a packed one."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    read, axes = (read_image_file, 3) if "images" in packed else (read_label_file, 1)
    path = folder / packed.removesuffix(".gz")
    if path.is_file():
        _check_header(path, axes, path)
        return read(str(path)).numpy()
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch, path.name)
        try:
            unpacked.write_bytes(gzip.decompress((folder / packed).read_bytes()))
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{folder / packed} {_DAMAGED} ({error})") from error
        _check_header(unpacked, axes, folder / packed)
        return read(str(unpacked)).numpy()


def _check_header(path: Path, expected_axes: int, stored: Path) -> None:
    """Raise ValueError, naming `stored`, unless the idx file is what its header and name say."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(4)
        axes = head[3] if len(head) == 4 and head[:3] == b"\x00\x00\x08" else 0
        shape = [int.from_bytes(file.read(4), "big") for _ in range(axes)]
    expected = 4 + 4 * axes + math.prod(shape)
    if axes == 0 or size != expected:
        what = "is not an idx file of bytes" if axes == 0 else f"has {size} bytes, not {expected}"
        raise ValueError(f"{stored} {what}: it {_DAMAGED}")
    if axes != expected_axes:
        raise ValueError(f"{stored} must hold an array of {expected_axes} axes, got {axes}")
