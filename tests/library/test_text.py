"""The text that every Python carries: prose only, each paragraph once, on one side."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from collapse_utils import data, text


@pytest.fixture(scope="module")
def reference():
    return text.paragraphs()


def test_reference_is_running_english(reference):
    assert len(reference) > 500
    assert sum(map(len, text.sentences(reference))) > 20_000
    for paragraph in reference:
        assert len(paragraph.split()) >= text._MIN_WORDS
        assert paragraph[0].isupper()
        assert paragraph[-1] in ".!?:"
        assert "\n" not in paragraph
        assert ">>>" not in paragraph
    assert len(set(reference)) == len(reference)


def test_docstrings_share_no_paragraph_with_the_reference(reference):
    docstrings = text.paragraphs("docstrings")
    assert sum(map(len, text.sentences(docstrings))) > 50_000
    assert len(set(docstrings)) == len(docstrings)
    both = {p.lower().strip(".:") for p in reference} & {p.lower().strip(".:") for p in docstrings}
    assert both == set()


def test_docstrings_are_read_without_importing(tmp_path, monkeypatch):
    prose = "This module would end the world if anybody were to import it now."
    (tmp_path / "bomb.py").write_text(f'"""{prose}\n\n>>> 1 / 0\n"""\nraise SystemExit\n')
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "broken.py").write_text("this is no Python\n")
    monkeypatch.setattr(text.sysconfig, "get_path", lambda name: str(tmp_path))
    assert text.paragraphs.__wrapped__("docstrings") == (prose,)


def test_a_python_without_sources_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(text.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="has no source files"):
        text.paragraphs.__wrapped__("docstrings")


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (
            "A list is\na :class:`mutable sequence <m>` of *any* ``objects`` you like.",
            ["A list is a mutable sequence of any objects you like."],
        ),
        ("* The first word of\n  this item comes after a bullet mark.",
         ["The first word of this item comes after a bullet mark."]),
        ("Too short to keep.", []),
        ("no capital begins this line although it is long enough.", []),
        ("No stop ends this line although it is long enough to keep", []),
        (">>> One two three four five six seven eight nine.", []),
        ("X = f(1) + g[2] / h{3} ** 4 % 5 == 6 and 7.", []),
        ("Return ‘curly’ quotes as straight ones; they mean the same thing.",
         ["Return 'curly' quotes as straight ones; they mean the same thing."]),
        ("The item a[0] of a list is the first one it holds [1].",
         ["The item a[0] of a list is the first one it holds."]),
    ],
)  # fmt: skip
def test_tidying(raw, kept):
    assert list(text._paragraphs([raw])) == kept


def test_paragraphs_that_differ_in_case_or_stops_count_once():
    assert text._unique(["One two.", "one  two:", "One three."], taken=["one three"]) == (
        "One two.",
    )


def test_sentences():
    paragraphs = ["It's a list, e.g. of str.format calls. It ends .here! Or not?", "Last one:"]
    assert text.sentences(paragraphs) == [
        ["it's", "a", "list", ",", "e.g.", "of", "str.format", "calls"],
        ["it", "ends", ".here"],
        ["or", "not"],
        ["last", "one", ":"],
    ]


def test_held_out_is_a_stable_partition(reference):
    train, test = text.held_out(reference, 0.1)
    assert sorted([*train, *test]) == sorted(reference)
    # Each paragraph is a coin of its own: 5 standard deviations is a false alarm of 6e-7.
    n = len(reference)
    assert abs(len(test) - 0.1 * n) < 5 * (0.09 * n) ** 0.5
    fewer = text.held_out(reference[::2], 0.1)[1]
    assert set(fewer) == set(test) & set(reference[::2])


def test_fingerprint_sees_every_letter_and_every_break():
    prints = {text.fingerprint(p) for p in (["a b"], ["a", "b"], ["a c"], ["a b", ""])}
    assert len(prints) == 4
    assert text.fingerprint(("a b",)) == text.fingerprint(["a b"])


@pytest.mark.parametrize("nothing", [[], [""], ["... !"]])
def test_an_empty_text_is_refused(nothing):
    with pytest.raises(ValueError, match="paragraphs must hold at least one"):
        text.sentences(nothing)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan"), "half"])
def test_share_out_of_range(share):
    with pytest.raises(ValueError, match="share must be"):
        text.held_out(["One paragraph."], share)


def test_share_that_leaves_nothing():
    with pytest.raises(ValueError, match=r"leaves .* out of 1"):
        text.held_out(["One paragraph."], 0.5)


# ------------------------------------------------------------------ text of one's own


def test_embedded_corpus_keeps_its_parts_apart():
    train, test = data.corpus()
    assert len(train) > 3 * len(test) > 100
    assert not set(train) & set(test)


def test_a_folder_without_train_trains_on_validation(tmp_path):
    (tmp_path / "valid.txt").write_text("to train on\n")
    (tmp_path / "test.txt").write_text("to test on\n")
    assert data.corpus(str(tmp_path)) == (("to train on",), ("to test on",))


def test_a_file_is_split(tmp_path):
    (tmp_path / "book.txt").write_text("\n".join(f"line number {i}" for i in range(100)))
    train, test = data.corpus(str(tmp_path / "book.txt"))
    assert len(train) + len(test) == 100
    assert len(test) > 5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "must hold test.txt and train.txt"),
        ({"train.txt": "a", "test.txt": " \n\n"}, "the test part of corpus"),
        ({"train.txt": "", "test.txt": "a"}, "the training part of corpus"),
    ],
)
def test_empty_corpus_is_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        data.corpus(str(tmp_path))


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="must hold text"):
        data.corpus(str(tmp_path / "empty.txt"))


@pytest.mark.parametrize("name", ["wikitext-3", "", None])
def test_unknown_corpus_is_refused(name):
    with pytest.raises(ValueError, match="corpus must be"):
        data.corpus(name)


# ------------------------------------------------------------------ files as people have them

HUMAN = [f"This is sentence number {i} of a text." for i in range(60)]


def corpus_of(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return data.corpus(str(tmp_path / name))


def test_a_mark_of_byte_order_is_no_text(tmp_path):
    train, test = corpus_of(tmp_path, "a.txt", "\n".join(HUMAN).encode("utf-8-sig"))
    assert sorted([*train, *test]) == sorted(HUMAN)


def test_lines_of_json_are_read(tmp_path):
    lines = "\n".join(json.dumps({"id": i, "text": text}) for i, text in enumerate(HUMAN))
    for name, content in (
        ("a.jsonl", lines.encode()),
        ("a.jsonl.gz", gzip.compress(lines.encode())),
    ):
        train, test = corpus_of(tmp_path, name, content)
        assert sorted([*train, *test]) == sorted(HUMAN)


def test_a_corpus_on_one_line_is_cut_into_paragraphs(tmp_path):
    words = [f"w{i}" for i in range(20_000)]
    train, test = corpus_of(tmp_path, "text8", " ".join(words).encode())
    assert sorted(" ".join([*train, *test]).split()) == sorted(words)
    assert {len(p.split()) for p in (*train, *test)} == {100}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"plain\ncaf\xe9", "must be text in UTF-8, .* line 2"),
        ("a.txt", "\n".join(HUMAN).encode("utf-16"), "must be text in UTF-8, .* line 1"),
        ("a.txt.gz", b"<html>moved</html>", "is no gzip file, or is truncated"),
        ("a.txt.gz", gzip.compress(b"hello world", mtime=0)[:-6], "or is truncated or damaged"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', r'must have .* in each line, not in line 2'),
        ("a.jsonl", b'{"text": "a"}\nplain', "not in line 2"),
        ("a.jsonl", b'{"text": null}', "not in line 1"),
    ],
)  # fmt: skip
def test_files_that_are_no_text_are_refused_by_name(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=rf"{name} .*{message}|{name} {message}") as error:
        corpus_of(tmp_path, name, content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("names", [("train.en.txt", "train.fr.txt"), ("train.txt", "train.txt.gz")])
def test_two_files_of_one_part_are_refused(tmp_path, names):
    for name in (*names, "test.txt"):
        packed = name.endswith("gz")
        (tmp_path / name).write_bytes(gzip.compress(b"a b") if packed else b"a b")
    with pytest.raises(ValueError, match="one file of each part, got {} and {}".format(*names)):
        data.corpus(str(tmp_path))


def test_words_are_the_most_frequent_of_english():
    names, p = text.words(2000)
    assert names[:3] == ["the", "to", "and"] and len(set(names)) == 2000
    assert (np.diff(p) <= 0).all() and p.sum() == pytest.approx(1)
    assert {"water", "music"} < set(names) and not {"2020", "s", "t"} & set(names)
    few, share = text.words(10)
    assert few == names[:10]
    np.testing.assert_allclose(share, p[:10] / p[:10].sum())


@pytest.mark.parametrize("n", [0, 2.5, 10**6])
def test_words_say_how_many_there_are(n):
    with pytest.raises((ValueError, TypeError), match=rf"n must be .*got {n}") as error:
        text.words(n)
    assert "\n" not in str(error.value)


def test_without_wordfreq_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(ModuleNotFoundError, match="pip install wordfreq"):
        text.words()


@pytest.mark.parametrize("what", [text.sentences, text.held_out, text.fingerprint])
@pytest.mark.parametrize("given", ["One text. Two sentences.", 5, [5], None])
def test_texts_are_a_list_and_not_one_text(what, given):
    with pytest.raises(ValueError, match="paragraphs must be a list of texts, got"):
        what(given)


def test_a_corpus_is_a_path_and_not_the_text_itself(tmp_path):
    (tmp_path / "short.txt").write_text("word")
    with pytest.raises(ValueError, match=r"short.txt' is too short: .* out of 1"):
        data.corpus(tmp_path / "short.txt")
    with pytest.raises(ValueError, match=r"text file or folder that exists, got 'word .*\.\.\.$"):
        data.corpus("word " * 200)
    with pytest.raises(ValueError, match="root must be a path, got 5"):
        data.images("mnist10k", root=5)


def test_files_that_may_not_be_read_are_told_by_the_parameter(tmp_path, monkeypatch):
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "train.txt", "test.txt"):
        (tmp_path / name).write_text("text")

    def shut(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", shut)  # root may read everything
    with pytest.raises(PermissionError, match=r"^corpus '.*' is shut: Permission denied: .*/train"):
        data.corpus(tmp_path)
    with pytest.raises(PermissionError, match=r"^corpus '.*test.txt' is shut: Permission denied"):
        data.corpus(tmp_path / "test.txt")
    with pytest.raises(PermissionError, match=r"^root '.*' is shut: Permission denied: .*/t10k"):
        data.images("mnist10k", root=tmp_path)
