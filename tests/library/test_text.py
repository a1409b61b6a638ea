"""The text that every Python carries: prose only, each paragraph once, on one side."""

import pytest

from collapse_utils import text


@pytest.fixture(scope="module")
def reference():
    return text.paragraphs()


def test_reference_is_running_english(reference):
    assert len(reference) > 500
    assert sum(map(len, text.sentences(reference))) > 20_000
    for paragraph in reference:
        assert len(paragraph.split()) >= text.MIN_WORDS
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
