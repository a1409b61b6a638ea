"""Real digits, and MNIST read from small synthesised idx files."""

import functools
import gzip
import hashlib
import http.server
import importlib.util
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from collapse_utils import data
from collapse_utils.compat import mend_torchvision


def idx(array):
    """Bytes of an idx file that holds unsigned bytes."""
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder, part="t10k", n=7, packed=False):
    """Write a small MNIST part; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)
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
        "print({'torch', 'torchvision', 'matplotlib', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_digits_are_real_and_scaled():
    pixels, labels = data.digits()
    assert pixels.shape == (1797, 64) and pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (0.0, 1.0)
    assert set(labels) == set(range(10))


def test_digits_split_is_a_partition_and_always_the_same():
    pixels, _ = data.digits()
    train, train_labels = data.digits("train")
    test, test_labels = data.digits("test")
    joined = np.concatenate([train, test])
    assert np.array_equal(np.sort(joined, axis=0), np.sort(pixels, axis=0))
    assert len(test) == 360
    share = np.bincount(test_labels) / np.bincount(np.concatenate([train_labels, test_labels]))
    assert share.min() > 0.18 and share.max() < 0.22
    assert np.array_equal(train, data.digits("train")[0])


@pytest.mark.parametrize("kw", [{"split": "valid"}, {"split": "test", "test_share": 1.5}])
def test_digits_refuses_bad_arguments(kw):
    with pytest.raises(
        ValueError, match=r"must (be|lie)|must be a finite number in \[0.01, 0.99\]"
    ):
        data.digits(**kw)


def test_unknown_dataset_is_refused():
    with pytest.raises(
        ValueError, match=r"dataset must be one of digits, mnist, mnist10k, got 'cat'"
    ):
        data.images("cat")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "mnist", ""])
def test_mnist_is_found_and_read(tmp_path, place, packed):
    pixels, labels = write_mnist(tmp_path / place, packed=packed)
    before = everything_in(tmp_path)
    got, got_labels = data.mnist(tmp_path, train=False)
    assert got.dtype == np.float32 and got.shape == (7, 784)
    np.testing.assert_array_equal(got, (pixels.reshape(7, -1) / 255).astype(np.float32))
    assert np.array_equal(got_labels, labels)
    assert everything_in(tmp_path) == before


def test_mnist_folder_comes_from_the_environment(tmp_path, monkeypatch):
    write_mnist(tmp_path / "mnist", part="train", n=3)
    monkeypatch.setenv("COLLAPSE_DATA_DIR", str(tmp_path))
    assert data.data_folder() == tmp_path
    assert data.images("mnist", download=False)[0].shape == (3, 784)


def test_missing_mnist_names_the_folder_and_the_offline_choice(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        data.mnist(tmp_path / "nowhere")
    message = str(error.value)
    assert str(tmp_path / "nowhere") in message and 'dataset="digits"' in message
    assert "train-images-idx3-ubyte" in message and "COLLAPSE_DATA_DIR" in message
    assert "\n" not in message
    assert everything_in(tmp_path) == []


def test_missing_training_part_points_at_the_test_part_that_is_there(tmp_path):
    write_mnist(tmp_path, packed=True)
    with pytest.raises(FileNotFoundError, match='dataset="mnist10k", which is there'):
        data.mnist(tmp_path)


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
    with pytest.raises(FileNotFoundError, match=r'404.*dataset="digits"') as error:
        data.mnist(tmp_path / "here", train=False, download=True)
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
        got, _ = data.mnist(here, train=False, download=True)
        np.testing.assert_array_equal(got, (pixels.reshape(7, -1) / 255).astype(np.float32))
        assert everything_in(here) == ["MNIST", "raw", *names]
    else:
        with pytest.raises(FileNotFoundError, match="could not be downloaded"):
            data.mnist(here, train=False, download=True)
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
        data.mnist(tmp_path / "here", train=False, download=True)
    assert everything_in(tmp_path / "here") == ["MNIST", "raw"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [3, 40, -1])
def test_truncated_idx_file_is_refused(tmp_path, packed, kept):
    write_mnist(tmp_path, packed=packed)
    path = next(tmp_path.glob("t10k-images*"))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.*truncated or damaged"):
        data.mnist(tmp_path, train=False)


def test_labels_in_the_place_of_images_are_refused(tmp_path):
    _, labels = write_mnist(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(idx(labels))
    with pytest.raises(ValueError, match=f"{path} must hold an array of 3 axes, got 1"):
        data.mnist(tmp_path, train=False)


def test_images_and_labels_must_match(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(6)))
    with pytest.raises(ValueError, match="7 images but 6 labels"):
        data.mnist(tmp_path, train=False)


def test_torchvision_imports_after_mending_and_mending_twice_does_nothing():
    code = (
        "from collapse_utils.compat import mend_torchvision; mend_torchvision(); "
        "import torchvision; from torchvision.utils import make_grid; "
        "print(mend_torchvision())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False" and done.stderr == ""


def test_without_torchvision_only_mnist_is_refused(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *package: None if name == "torchvision" else find(name, *package),
    )
    assert mend_torchvision() is False
    with pytest.raises(ModuleNotFoundError, match=r'torchvision is not .* dataset="digits"'):
        data.images("mnist", download=False)
    assert data.images("digits")[0].shape == (1797, 64)
