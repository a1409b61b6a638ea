"""Parameters: how a cell is read, and what is refused before a kernel starts."""

from __future__ import annotations

import contextlib
import math
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import PARAMETERS, Author

from collapse_book.files import read_yaml
from collapse_book.messages import BadInput
from collapse_book.notebooks import read_cell, read_notebook, validate
from collapse_book.pages import render
from collapse_book.scenarios import check_scenarios, named_scenario, read_parameters


def test_cell_is_read_with_types_ranges_and_help():
    seed, n_samples, rate, dataset, quick = read_cell(PARAMETERS)
    assert (seed.name, seed.type, seed.default, seed.low, seed.high) == ("seed", "int", 1, 0, None)
    assert n_samples.help == "training-set size M per generation"
    assert (n_samples.low, n_samples.high) == (2, 1_000_000)
    assert rate.help == 'learning rate, a "#" is no end'
    assert (rate.low, rate.high) == (0.0, 1.0)
    assert dataset.choices == ("digits", "mnist")
    assert (quick.type, quick.default) == ("bool", False)


@pytest.mark.parametrize("end", ["[1]", "[Somebody 2024]", "[a]"])
def test_brackets_at_the_end_of_a_help_are_allowed_values_only_if_they_name_several(end):
    (n,) = read_cell(f"n: int = 3  # size, as in {end}")
    assert (n.help, n.choices, n.low, n.high) == (f"size, as in {end}", (), None, None)
    (n,) = read_cell(f"n: int = 3  # size, as in {end} [1|3]")
    assert (n.help, n.choices) == (f"size, as in {end}", (1, 3))


def test_hash_inside_text_is_not_a_comment():
    (colour,) = read_cell('colour: str = "#d55e00"  # colour of the model')
    assert (colour.default, colour.help) == ("#d55e00", "colour of the model")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n = 3  # sample size", "line 1: write `name: type = value"),
        ("n: int  # sample size", "line 1: write `name: type = value"),
        ("n: list = 3  # sample size", "must be one of int, float, str, bool"),
        ("n: int = 2 * m  # sample size", "literal"),
        ("n: int = 3", "needs a comment"),
        ("n: int = 3  # [1..]", "needs a comment"),
        ("n: int = 3  # size [1|2]", "must be one of 1, 2, got 3"),
        ("n: int = 3  # size [4..]", "must be an integer >= 4, got 3"),
        ("n: int = 3.0  # size", "must be an integer, got 3.0"),
        ("n: int = 3  # size [5..4]", "lower end"),
        ("n: int = 3  # size [..]", "write"),
        ("n: int = 3  # size [a..b]", "an integer, got 'a'"),
        ('n: str = "a"  # name [a..b]', "choices"),
        ("n: bool = True  # flag [0..1]", "no range"),
        ("n: int = 3  # size\nn: int = 4  # size", "twice"),
        ("n: int = (", "not Python"),
        ("import os", "line 1: write `name: type = value"),
        ("n: int = (2", "not Python"),
        ("n: int = " + "9" * 5000 + "  # size", "not Python"),
        ("n: int = " + "-" * 5000 + "1  # size", "not Python"),
        ("n: int = 2**63  # size", "literal"),
        ("n: int = 9223372036854775808  # size", "at most 9,223,372,036,854,775,807 in size"),
        ("x: float = 1e400  # size", "a finite number, got inf"),
        ("x: float = 1.0  # size [nan..]", "a finite number, got 'nan'"),
    ],
)
def test_malformed_cell_is_refused(line, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        read_cell(line)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_sampels", 50, "unknown parameter 'n_sampels'; did you mean 'n_samples'?"),
        ("zzz", 1, "unknown parameter 'zzz'; parameters: seed, n_samples, rate, dataset, quick"),
        ("n_samples", -5, "n_samples must be an integer from 2 to 1,000,000, got -5"),
        ("n_samples", "fifty", "n_samples must be an integer from 2 to 1,000,000, got 'fifty'"),
        ("n_samples", 50.0, "n_samples must be an integer from 2 to 1,000,000, got 50.0"),
        ("n_samples", True, "n_samples must be an integer from 2 to 1,000,000, got True"),
        ("n_samples", None, "n_samples must be an integer from 2 to 1,000,000, got None"),
        ("seed", -1, "seed must be an integer >= 0, got -1"),
        ("rate", math.nan, "rate must be a finite number from 0 to 1, got nan"),
        ("rate", math.inf, "rate must be a finite number from 0 to 1, got inf"),
        ("rate", False, "rate must be a finite number from 0 to 1, got False"),
        ("rate", 1.5, "rate must be a finite number from 0 to 1, got 1.5"),
        ("rate", "1e-3", "rate must be a finite number from 0 to 1, got '1e-3'"),
        (
            "rate",
            10**350,
            f"rate must be a finite number from 0 to 1, got 1{'0' * 27}...{'0' * 29}",
        ),
        (
            "seed",
            2**64,
            "seed must be an integer >= 0 and at most 9,223,372,036,854,775,807 in size, "
            "got 18446744073709551616",
        ),
        (
            "dataset",
            "digits\ud800",
            "dataset must be one of digits, mnist in Unicode, got 'digits\\ud800'",
        ),
        ("dataset", "cifar", "dataset must be one of digits, mnist, got 'cifar'"),
        ("quick", 1, "quick must be true or false, got 1"),
        ("quick", "yes", "quick must be true or false, got 'yes'"),
    ],
)
def test_wrong_value_is_refused_in_one_line(name, value, message):
    with pytest.raises(BadInput) as error:
        validate(read_cell(PARAMETERS), {name: value})
    assert str(error.value) == message


def test_integer_is_taken_for_a_float_and_becomes_one():
    checked = validate(read_cell(PARAMETERS), {"rate": 1})
    assert checked == {"rate": 1.0}
    assert type(checked["rate"]) is float


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n_samples", "50", 50),
        ("n_samples", "0500", 500),
        ("n_samples", "010", 10),
        ("n_samples", "0o17", 15),
        ("n_samples", "0x1F", 31),
        ("n_samples", "+12", 12),
        ("rate", "1e-3", 0.001),
        ("rate", "+.5", 0.5),
        ("rate", "0.", 0.0),
        ("rate", "2E-01", 0.2),
        ("rate", "1", 1.0),
        ("dataset", "mnist", "mnist"),
        ("quick", "true", True),
        ("quick", "False", False),
        # Not numbers and not true or false; YAML 1.1 has 750, 10000, 49 and True.
        ("n_samples", "12:30", None),
        ("n_samples", "10_000", None),
        ("n_samples", "0b110001", None),
        ("quick", "yes", None),
        ("quick", "on", None),
        ("n_samples", "fifty", None),
        ("n_samples", "5.0", None),
        ("n_samples", "2020-99-99", None),
        ("n_samples", "²", None),
        ("n_samples", "٣", None),
        ("n_samples", "", None),
        ("n_samples", "~", None),
        ("n_samples", "9" * 5000, None),
        ("n_samples", "0x" + "f" * 5000, None),
        ("rate", "nan", None),
        ("rate", ".nan", None),
        ("rate", "-.inf", None),
        ("rate", "1e400", None),
        ("rate", "1" + "0" * 400, None),
        ("rate", "1e", None),
        ("quick", "1", None),
        ("dataset", "3", None),
    ],
)
def test_numbers_are_those_of_yaml_1_2_on_the_command_line_and_in_a_file(
    author: Author, name, text, value
):
    parameters = read_cell(PARAMETERS)
    path = author.write("given.yml", f"{name}: {text}\n")
    ways = (
        lambda: validate(parameters, {name: text}, cast=True),
        lambda: validate(parameters, read_yaml(path, "given.yml")),
    )
    for way in ways:
        if value is None:
            with pytest.raises(
                BadInput, match=rf"^({name} must be|given.yml, line 1: broken)"
            ) as e:
                way()
            assert "\n" not in str(e.value) and len(str(e.value)) < 200
        else:
            assert way() == {name: value}
            assert type(way()[name]) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}", {"x": 1, "y": 3}),
        ("base: &b {x: 1}\nown: {y: 3, <<: [*b, {x: 2, z: 4}]}", {"x": 1, "y": 3, "z": 4}),
        ("own: {'<<': 1}", {"<<": 1}),
        ("own: [no, off, n, 1:2:3, '5', !!str 5, 0o8, 2001-01-01]",
         ["no", "off", "n", "1:2:3", "5", "5", "0o8", "2001-01-01"]),
        ("own: [~, null, '', .INF]", [None, None, "", math.inf]),
    ],
)  # fmt: skip
def test_yaml_is_that_of_its_version_1_2(author: Author, text, value):
    assert read_yaml(author.write("given.yml", text), "given.yml")["own"] == value


LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
)
MERGES = "m0: &m0 {x: 1}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}\n" for i in range(1, 40)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: 1\nseed: 2", "line 2: broken YAML: 'seed' is written twice"),
        (b"own: {<<: 3}", "line 1: broken YAML: `<<` takes a mapping"),
        (b"? [a]\n: 1", "line 1: broken YAML: a key must be a single value"),
        (b"a: !!python/object/apply:os.getcwd []", "line 1: broken YAML: the tag"),
        (b"a: !!timestamp 2020-99-99", "line 1: broken YAML: the tag"),
        (b"a: *nobody", "line 1: broken YAML: found undefined alias 'nobody'"),
        (b"a: &a [*a]", "nested too deeply"),
        (b"[" * 2000, "nested too deeply"),
        (b"a: 1\n---\na: 2", "line 2: broken YAML"),
        (b"a: '\xff'", "broken YAML: unacceptable character #x00ff"),
        (b"a: \x00", "broken YAML: unacceptable character #x0000"),
        (b'a: "\\UFFFFFFFF"', "broken YAML"),
        (b"%YAML " + b"1" * 5000 + b".2\n--- a", "broken YAML"),
        (b"a: " + b"9" * 5000, "line 1: broken YAML: a number of 5,000 characters"),
        (LAUGHS.encode(), "unknown parameter 'a0'"),
        (MERGES.encode(), "unknown parameter 'm0'"),
        (f"{LAUGHS}seed: *a39".encode(), "unknown parameter 'a0'"),
        (f"seed:\n{textwrap.indent(LAUGHS, ' ')}".encode(), "seed must be an integer >= 0, got {"),
        (b"#" * 1_000_001, "longer than 1,000,000 bytes"),
        (b"", "parameters must be mapped to values, got None"),
    ],
)
def test_what_no_parser_likes_is_one_line(author: Author, content, message):
    author.chapter("gaussian")
    (author.root / "given.yml").write_bytes(content)
    with pytest.raises(BadInput) as error:
        read_parameters(author.project, "gaussian", author.root / "given.yml")
    assert message in str(error.value)
    assert "given.yml" in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@given(st.text())
def test_any_cell_is_read_or_refused(source):
    with contextlib.suppress(ValueError):
        read_cell(source)


@given(st.text(alphabet="n: int=3#a.[]|\"'(-\n\\"))
def test_any_line_like_a_parameter_is_read_or_refused(source):
    with contextlib.suppress(ValueError):
        read_cell(f"n: int = 3  # size {source}")


SCENARIO = "description: a sentence\nchapters:\n  gaussian: {{{}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SCENARIO.format("n_sampels: 5"), "gaussian: unknown parameter 'n_sampels'; did you mean"),
        (SCENARIO.format("rate: 1e3"), "rate must be a finite number from 0 to 1, got 1000.0"),
        (SCENARIO.format("rate: .nan"), "got nan"),
        (SCENARIO.format("n_samples: -5"), "got -5"),
        (SCENARIO.format("seed: 1, seed: 2"), "line 3: broken YAML: 'seed' is written twice"),
        ("description: x\nchapters:\n  gausian: {seed: 1}\n", "did you mean 'gaussian'?"),
        ("description: x\nchapters: {gaussian: 3}\n", "gaussian: parameters must be mapped"),
        ("description: x\nchapter: {}\n", "unknown entry 'chapter'; did you mean 'chapters'?"),
        ("chapters: {gaussian: {seed: 1}}\n", "`description:`"),
        ("description: x\n", "`chapters:`"),
        ("- 1\n- 2\n", "must hold"),
        ("description: x\nchapters: {gaussian: {seed: 1\n", "line 2: broken YAML"),
        ("description: x\n\tchapters: 3\n", "line 2: broken YAML"),
    ],
)
def test_wrong_scenario_is_refused(author: Author, text, message):
    author.chapter("gaussian")
    author.write("scenarios/test.yml", text)
    with pytest.raises(BadInput) as error:
        named_scenario(author.project, "test")
    assert str(error.value).startswith("scenarios/test.yml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_good_scenario_is_read(author: Author):
    author.chapter("gaussian")
    author.chapter("digits")
    author.write(
        "scenarios/test.yml",
        "description: >\n  small\n  runs\nchapters:\n  gaussian: {rate: 1e-3}\n  digits:\n",
    )
    scenario = named_scenario(author.project, "test")
    assert scenario.description == "small runs"
    assert scenario.chapters == {"gaussian": {"rate": 0.001}, "digits": {}}


def test_file_of_one_chapter_is_flat_or_a_scenario(author: Author):
    author.chapter("gaussian")
    author.chapter("digits")
    flat = author.write("flat.yml", "n_samples: 50\nrate: 1\n")
    scenario = author.write("scenario.yml", SCENARIO.format("n_samples: 50"))
    assert read_parameters(author.project, "gaussian", flat) == {"n_samples": 50, "rate": 1.0}
    assert read_parameters(author.project, "gaussian", scenario) == {"n_samples": 50}
    assert read_parameters(author.project, "gaussian", author.write("none.yml", "{}")) == {}
    for text, chapter, message in [
        (SCENARIO.format(""), "digits", "it says nothing about chapter 'digits'"),
        ("n_sampels: 50", "gaussian", "unknown parameter 'n_sampels'; did you mean 'n_samples'?"),
        ("word: 50", "gaussian", "unknown parameter 'word'; parameters: seed, n_samples, rate, da"),
        ("[1]", "gaussian", "parameters must be mapped to values, got [1]"),
        ("n_samples: [50]", "gaussian", "n_samples must be an integer from 2 to 1,000,000, got [5"),
    ]:
        path = author.write("wrong.yml", text)
        with pytest.raises(BadInput) as error:
            read_parameters(author.project, chapter, path)
        assert str(error.value).startswith(f"{path}: {message}")


def test_smoke_must_name_every_chapter(author: Author):
    author.chapter("gaussian")
    author.chapter("digits")
    assert check_scenarios(author.project) == ["scenarios/smoke.yml does not exist"]
    author.write("scenarios/smoke.yml", SCENARIO.format("n_samples: 5"))
    assert check_scenarios(author.project) == ["scenarios/smoke.yml does not name digits"]
    author.write(
        "scenarios/smoke.yml", "description: x\nchapters: {gaussian: {seed: 1}, digits: {}}\n"
    )
    assert check_scenarios(author.project) == []


def test_parameter_page_has_every_parameter_of_every_chapter(author: Author):
    author.chapter("gaussian", title="It forgets")
    author.chapter(
        "digits", parameters='kind: str = "a"  # a|b [a|b]\nseed: int = 4  # seed [0..]\n'
    )
    notebooks = {
        name: read_notebook(author.project.notebook(name)) for name in ("gaussian", "digits")
    }
    page = render("parameters.md", notebooks=notebooks)
    assert "## It forgets\n\n{doc}`/notebooks/gaussian`" in page
    assert (
        "| `n_samples` | int | `100` | an integer from 2 to 1,000,000 "
        "| training-set size M per generation |" in page
    )
    assert "| `kind` | str | `'a'` | one of a, b | a\\|b |" in page
    assert "collapse-book run digits -p seed 5\n" in page
    assert page.count("\n| `") == 7
