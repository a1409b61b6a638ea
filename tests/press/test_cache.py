"""The cache: what makes a notebook run again, and what does not."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from miniature import PARAMETERS, Author

from collapse_book import cache, press
from collapse_book.cache import Library, Store, expected_seconds, installed, remember_seconds
from collapse_book.execute import Options, Outcome
from collapse_book.files import locked, write_atomic
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.notebooks import parameters_of, read_notebook
from collapse_book.press import Run, Runs, book_runs


def key(author: Author, chapter: str = "gaussian", **parameters) -> str:
    return book_runs(author.project, {chapter: parameters}).key(chapter)


def edit(author: Author, name: str, before: str, after: str) -> None:
    path = author.root / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture
def chapter(author: Author) -> Author:
    author.chapter("gaussian", "from collapse_utils import gaussian", "md:Some prose.")
    return author


def test_prose_does_not_change_the_key(chapter: Author):
    before = key(chapter)
    edit(chapter, "notebooks/gaussian.ipynb", "Some prose.", "Other prose.")
    assert key(chapter) == before


def test_install_cell_does_not_change_the_key(chapter: Author):
    before = key(chapter)
    edit(chapter, "notebooks/gaussian.ipynb", "library is missing", "library is gone")
    assert key(chapter) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("notebooks/gaussian.ipynb", "result = ", "outcome = "),
        ("collapse_utils/gaussian.py", "loop", "loop  # edited"),
        ("collapse_utils/loop.py", "Replace", "Replace  # edited"),
        ("collapse_utils/workflows.py", "...", "...  # edited"),
        ("collapse_utils/__init__.py", "__name__}.", "__name__}.new."),
    ],
)
def test_what_the_outputs_depend_on_changes_the_key(chapter: Author, name, old, new):
    before = key(chapter)
    edit(chapter, name, old, new)
    assert key(chapter) != before


@pytest.mark.parametrize(
    ("name", "old"),
    [("collapse_utils/figures.py", "SCRIPT"), ("collapse_utils/player.js", "playing")],
)
def test_module_that_is_not_imported_does_not_change_the_key(chapter: Author, name, old):
    before = key(chapter)
    edit(chapter, name, old, f"{old}_")
    assert key(chapter) == before


def test_new_lazy_name_does_not_change_the_key_but_a_moved_one_does(chapter: Author):
    chapter.chapter("gaussian", "from collapse_utils import recurse")
    before = key(chapter)
    edit(chapter, "collapse_utils/__init__.py", '"gaussian", ', '"gaussian", "vae", ')
    edit(chapter, "collapse_utils/__init__.py", '{"recurse"', '{"Vae": "figures", "recurse"')
    assert key(chapter) == before
    edit(chapter, "collapse_utils/__init__.py", '"recurse": "loop"', '"recurse": "figures"')
    assert key(chapter) != before


def test_parameters_change_the_key(chapter: Author):
    assert len({key(chapter), key(chapter, seed=2), key(chapter, seed=3)}) == 3
    assert key(chapter, seed=2, n_samples=5) == key(chapter, n_samples=5, seed=2)


def test_a_default_that_is_given_is_the_same_run(chapter: Author):
    assert key(chapter, seed=1, rate=0.5) == key(chapter)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder of installed packages: one imports another, a third is a stranger."""
    for name, needs in (("direct", "Requires-Dist: Deeper_one\n"), ("deeper-one", ""), ("odd", "")):
        distribution(tmp_path, name, "1.0", needs)
    monkeypatch.syspath_prepend(tmp_path)
    forget_installed()
    yield tmp_path
    forget_installed()


def distribution(folder: Path, name: str, version: str, needs: str = "") -> None:
    for old in folder.glob(f"{name.replace('-', '_')}-*"):
        old.rename(folder / f"old-{old.name}")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    (info / "METADATA").write_text(about + 'Requires-Dist: odd; extra == "all"\n')
    (info / "top_level.txt").write_text(f"{name.replace('-', '_')}_module\n")


def forget_installed() -> None:
    cache._distributions.cache_clear()
    cache.distribution.cache_clear()


def test_versions_that_count_are_those_installed_of_what_is_reached(author: Author, packages: Path):
    author.write("collapse_utils/gaussian.py", "import direct_module.part\n")
    author.chapter("gaussian", "from collapse_utils import gaussian")
    author.chapter("other", "import odd_module, os, json")
    before = key(author), key(author, "other")
    assert installed(frozenset({"direct_module"})) == {"deeper-one": "1.0", "direct": "1.0"}

    author.write("constraints.txt", "direct==7.0\n")  # the lock is not what is installed
    assert (key(author), key(author, "other")) == before
    for changed in ("odd", "deeper-one", "direct"):
        distribution(
            packages, changed, "2.0", "Requires-Dist: Deeper_one\n" * (changed == "direct")
        )
        forget_installed()
        after = key(author), key(author, "other")
        assert (after[0] != before[0], after[1] != before[1]) == (
            changed != "odd", changed == "odd",
        )  # fmt: skip
        before = after


PATHS = PARAMETERS + (
    'corpus: str = "embedded"  # a name, or a text [path]\n'
    'checkpoints: str = ""  # where to go on from [folder]\n'
)


def test_path_counts_from_where_the_user_stands(author: Author, tmp_path, monkeypatch):
    author.chapter("texts", parameters=PATHS)
    corpus, checkpoints = parameters_of(read_notebook(author.project.notebook("texts")))[-2:]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "embedded").mkdir()
    assert corpus.help == "a name, or a text"
    assert corpus.check("texts/") == str(tmp_path / "texts")
    assert corpus.check("embedded") == "embedded"  # the default is a name
    assert corpus.check("wikitext-2") == "wikitext-2"
    assert corpus.check("a/b" * 2000) == "a/b" * 2000
    assert checkpoints.check("") == ""
    assert checkpoints.check("runs_ck") == str(tmp_path / "runs_ck")


def test_what_is_read_behind_a_path_is_part_of_the_key(author: Author, tmp_path):
    author.chapter("texts", parameters=PATHS)
    folder = tmp_path / "texts"
    text = folder / "deep/train.txt"
    text.parent.mkdir(parents=True)
    seen = set()
    for content in ("first", "other", "others"):
        text.write_text(content)
        seen.add(key(author, "texts", corpus=str(folder)))
        seen.add(key(author, "texts", corpus=str(text)))
    assert len(seen) == 6
    text.touch()
    assert key(author, "texts", corpus=str(text)) in seen
    before = key(author, "texts", checkpoints=str(folder))
    text.write_text("more")
    assert key(author, "texts", checkpoints=str(folder)) == before


# ---------------------------------------------------------------- what happens during a run


class Stub:
    """In the place of the engine: does something, and calls that an executed notebook."""

    def __init__(self, act=lambda: None) -> None:
        self.act = act
        self.ran: list[str] = []

    def __call__(self, tasks, options, packages) -> Iterator[Outcome]:
        for task in tasks:
            self.ran.append(task.name)
            self.act()
            notebook = task.notebook | {"metadata": {"collapse_book": {"seconds": 1.5}}}
            yield Outcome(task.name, notebook)


def test_data_that_a_run_fetches_becomes_part_of_its_key(author: Author, tmp_path, monkeypatch):
    monkeypatch.setenv("COLLAPSE_DATA_DIR", str(tmp_path / "data"))
    author.chapter("digits")
    images = tmp_path / "data/MNIST/raw/train-images-idx3-ubyte"
    stub = Stub(lambda: write_atomic(images, "pixels"))
    monkeypatch.setattr(press, "execute", stub)

    def execute() -> dict[str, str]:
        runs = book_runs(author.project, {"digits": {"dataset": "mnist60k"}})
        return runs.execute(["digits"], Options())

    assert execute() == {}
    assert execute() == {}
    assert len(stub.ran) == 1
    images.write_text("others")
    stub.act = lambda: images.write_text("edited meanwhile")
    assert list(execute()) == ["digits"]
    stub.act = lambda: None
    assert execute() == execute() == {}
    assert len(stub.ran) == 3


@pytest.mark.parametrize("name", ["gaussian.py", "__init__.py"])
def test_library_that_is_edited_during_a_run_makes_it_worthless(chapter: Author, monkeypatch, name):
    edit_it = Stub(lambda: chapter.write(f"collapse_utils/{name}", "edited = True\n"))
    monkeypatch.setattr(press, "execute", edit_it)
    runs = book_runs(chapter.project)
    (message,) = runs.execute(["gaussian"], Options()).values()
    assert f"collapse_utils/{name} was edited while the notebook ran: run it again" in message
    assert runs.raw("gaussian") is None


def test_full_disk_is_one_line(chapter: Author, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(press, "execute", Stub())
    monkeypatch.setattr(os, "fsync", fail)
    runs = book_runs(chapter.project)
    with pytest.raises(BuildFailed) as error:
        runs.execute(["gaussian"], Options())
    path = runs.place("gaussian")
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert list(Path(path).parent.iterdir()) == []  # nothing half


def test_failures_are_told_in_reading_order_whatever_fails_first(author: Author, monkeypatch):
    def backwards(tasks, options, packages) -> Iterator[Outcome]:
        for task in reversed(tasks):
            yield Outcome(task.name, task.notebook | {"metadata": {}}, "broken")

    for name in ("one", "two", "three"):
        author.chapter(name)
    monkeypatch.setattr(press, "execute", backwards)
    runs = book_runs(author.project)
    failures = runs.execute(["one", "two", "three"], Options())
    assert list(failures) == ["one", "two", "three"]


def test_runs_of_one_key_run_once(chapter: Author, monkeypatch):
    monkeypatch.setattr(press, "execute", stub := Stub())
    chapter.chapter("twin", "from collapse_utils import gaussian", "md:Some prose.")
    store = Store(chapter.root / "_build")
    runs = [Run("same", "gaussian", {"seed": 1}), Run("other", "gaussian", {"seed": 2})]
    runs += [Run("gaussian", "gaussian"), Run("twin", "twin")]
    all_runs = Runs(chapter.project, store, runs)
    assert all_runs.execute(["gaussian", "same", "other", "twin"], Options()) == {}
    assert stub.ran == ["gaussian", "other", "twin"]
    assert all_runs.finished(all_runs.runs) == {"gaussian", "same", "other", "twin"}


def test_order_of_a_fresh_clone_comes_from_recorded_seconds(chapter: Author):
    project = chapter.project
    assert expected_seconds(project) == {}
    chapter.write("recorded/seconds.json", '{"gaussian": 9.0, "digits": 5.0}\n')
    remember_seconds(project, "gaussian", 2.5)
    assert expected_seconds(project) == {"gaussian": 2.5, "digits": 5.0}
    chapter.write("recorded/seconds.json", "half")
    with pytest.raises(BadInput, match=r"cannot read .*recorded/seconds\.json"):
        expected_seconds(project)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_files_are_as_readable_as_the_umask_says(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "a/file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a/file").stat().st_mode & 0o777 == mode


def test_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BuildFailed, match=r"cannot write .*/file/a: (Not a directory|File exists)"):
        write_atomic(tmp_path / "file/a", "x")


def test_file_system_without_locks_is_said_and_not_fatal(tmp_path, monkeypatch, capsys):
    def flock(handle: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with locked(tmp_path / "a/.lock", "busy"):
        with pytest.raises(BuildFailed, match="busy"), locked(tmp_path / "a/.lock", "busy"):
            pass
        monkeypatch.setattr(fcntl, "flock", flock)
        with locked(tmp_path / "a/.lock", "busy"):
            pass
    said = f"{tmp_path}/a cannot be locked (Function not implemented): start nothing else there"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy as np", []),
        ("from collapse_utils import recurse", ["__init__", "loop", "workflows"]),
        ("from collapse_utils import Replace as R", ["__init__", "workflows"]),
        ("from collapse_utils import figures", ["__init__", "figures", "player.js"]),
        ("import collapse_utils.figures as f", ["__init__", "figures", "player.js"]),
        ("from collapse_utils.loop import recurse", ["__init__", "loop", "workflows"]),
        ("def f():\n    from collapse_utils import figures", ["__init__", "figures", "player.js"]),
        ("%matplotlib inline\nfrom collapse_utils import Replace", ["__init__", "workflows"]),
        ("from collapse_utils import __version__", ["__init__"]),
    ],
)
def test_closure_of_imports(author: Author, source, modules):
    files = Library(author.root / "collapse_utils").files_for([source])
    assert sorted(path.name.removesuffix(".py") for path in files) == modules


@pytest.mark.parametrize(
    "source",
    [
        "import collapse_utils",
        "from collapse_utils import *",
        "from collapse_utils import odd",
        "x =",
    ],
)
def test_unclear_import_depends_on_everything(author: Author, source):
    files = Library(author.root / "collapse_utils").files_for([source])
    assert len(files) == 6


def test_module_imported_at_once_by_the_package_is_a_dependency(author: Author):
    text = (author.root / "collapse_utils/__init__.py").read_text()
    author.write("collapse_utils/__init__.py", "from . import figures\n" + text)
    files = Library(author.root / "collapse_utils").files_for(
        ["from collapse_utils import Replace"]
    )
    assert "figures.py" in [path.name for path in files]


def test_data_file_that_no_module_names_is_a_dependency_of_all(author: Author):
    author.write("collapse_utils/table.csv", "1,2\n")
    files = Library(author.root / "collapse_utils").files_for(
        ["from collapse_utils import Replace"]
    )
    assert "table.csv" in [path.name for path in files]


def test_store_keeps_those_used_last(tmp_path):
    store = Store(tmp_path, keep=2)
    for number in range(3):
        store.put("gaussian", f"key{number}", {"cells": [], "metadata": {"number": number}})
        os.utime(tmp_path / store.name("gaussian", f"key{number}"), (number, number))
    assert store.keys("gaussian") == {"key1", "key2"}
    assert store.get("gaussian", "key0") is None
    assert store.get("gaussian", "key1")["metadata"]["number"] == 1
    store.put("gaussian", "key3", {"cells": [], "metadata": {}})
    assert store.keys("gaussian") == {"key1", "key3"}


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_store_holds_whole_notebooks(tmp_path, kind):
    store = Store(str(tmp_path / "out") if kind == "local" else f"memory://{tmp_path.name}")
    assert store.get("gaussian", "a") is None
    assert store.keys("gaussian") == set()
    for number in (1, 2):
        cell = {"cell_type": "markdown", "metadata": {}, "source": "two\nlines"}
        store.put("gaussian", "a", {"cells": [cell], "metadata": {"number": number}})
        assert store.get("gaussian", "a") == {"cells": [cell], "metadata": {"number": number}}
    assert store.keys("gaussian") == {"a"}
    store.write("gaussian.csv", b"x")
    store.remove("gaussian.csv")
    store.remove("gaussian.csv")
    store.write(store.name("gaussian", "b"), b"half")
    with pytest.raises(
        BuildFailed, match=r"cannot read .*b\.ipynb: ValueError: damaged, delete it"
    ):
        store.get("gaussian", "b")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s4://x", "--out s4://x: Protocol not known"),
        ("", "--out is empty: give a folder or a URL"),
        (__file__, "is a file: give a folder"),
    ],
)
def test_store_that_cannot_be_is_bad_input(address, message):
    with pytest.raises(BadInput, match=message):
        Store(address)


def test_object_store_replaces_at_once(monkeypatch):
    """Nothing is removed before the new content is there."""
    store = Store("memory://whole")
    store.write("table.csv", b"first")
    monkeypatch.setattr(store._files, "rm_file", lambda path: 1 / 0)
    store.write("table.csv", b"second")
    assert store._files.cat_file("/whole/table.csv") == b"second"
    monkeypatch.setattr(store._files, "pipe_file", lambda path, data: 1 / 0)
    with pytest.raises(BuildFailed, match=r"cannot write memory.*: ZeroDivisionError"):
        store.write("table.csv", b"third")
    assert store._files.cat_file("/whole/table.csv") == b"second"


def test_modules_in_a_folder_are_followed(author: Author):
    author.write("collapse_utils/models/__init__.py", "")
    author.write("collapse_utils/models/writing.py", "")
    author.write(
        "collapse_utils/models/language.py", "from .. import loop\nfrom .writing import x\n"
    )
    library = Library(author.project.package)
    for source in (
        "from collapse_utils.models.language import LanguageModel",
        "from collapse_utils.models import language",
        "import collapse_utils.models.language",
    ):
        names = {str(path.relative_to(library.folder)) for path in library.files_for([source])}
        assert {f"models/{name}.py" for name in ("__init__", "language", "writing")} <= names
        assert "loop.py" in names and "gaussian.py" not in names
