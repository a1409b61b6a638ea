"""Parameters: how a cell is read, and what is refused before a kernel starts."""

from __future__ import annotations

import math

import pytest
import yaml
from conftest import PARAMETERS, Author
from hypothesis import given
from hypothesis import strategies as st

from collapse_book.errors import BadInput
from collapse_book.notebooks import read_notebook
from collapse_book.pages import parameters_page
from collapse_book.parameters import read_cell, validate, yaml_float
from collapse_book.scenarios import check_scenarios, named_scenario


def test_cell_is_read_with_types_ranges_and_help():
    seed, n_samples, rate, dataset, quick = read_cell(PARAMETERS)
    assert (seed.name, seed.type, seed.default, seed.low, seed.high) == ("seed", "int", 1, 0, None)
    assert n_samples.help == "training-set size M per generation"
    assert (n_samples.low, n_samples.high) == (2, 1_000_000)
    assert rate.help == 'learning rate, a "#" is no end'
    assert (rate.low, rate.high) == (0.0, 1.0)
    assert dataset.choices == ("digits", "mnist")
    assert (quick.type, quick.default) == ("bool", False)


def test_hash_inside_text_is_not_a_comment():
    (colour,) = read_cell('colour: str = "#d55e00"  # colour of the model')
    assert (colour.default, colour.help) == ("#d55e00", "colour of the model")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n = 3  # sample size", "must read"),
        ("n: int  # sample size", "must read"),
        ("n: list = 3  # sample size", "must be one of int, float, str, bool"),
        ("n: int = 2 * m  # sample size", "literal"),
        ("n: int = 3", "needs a comment"),
        ("n: int = 3  # [1..]", "needs a comment"),
        ("n: int = 3  # size [4..]", "must be an integer >= 4, got 3"),
        ("n: int = 3.0  # size", "must be an integer, got 3.0"),
        ("n: int = 3  # size [5..4]", "lower end"),
        ("n: int = 3  # size [..]", "write"),
        ("n: int = 3  # size [a..b]", "invalid literal"),
        ('n: str = "a"  # name [a..b]', "choices"),
        ("n: bool = True  # flag [0..1]", "no range"),
        ("n: int = 3  # size\nn: int = 4  # size", "twice"),
        ("n: int = (", "not Python"),
        ("import os", "must read"),
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
        (
            "rate",
            "1e-3",
            "rate must be a finite number from 0 to 1, got '1e-3' "
            "(YAML reads 1e-3 as text: write 1.0e-3)",
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
        ("n_samples", "10_000", 10_000),
        ("rate", "1e-3", 0.001),
        ("rate", "1", 1.0),
        ("dataset", "mnist", "mnist"),
        ("quick", "true", True),
        ("quick", "False", False),
    ],
)
def test_text_of_the_command_line_is_cast(name, text, value):
    checked = validate(read_cell(PARAMETERS), {name: text}, cast=True)
    assert checked == {name: value}
    assert type(checked[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("n_samples", "fifty"), ("n_samples", "5.0"), ("rate", "nan"), ("rate", "x"), ("quick", "1")],
)
def test_text_that_does_not_fit_is_refused(name, text):
    with pytest.raises(BadInput, match=f"{name} must be"):
        validate(read_cell(PARAMETERS), {name: text}, cast=True)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_suggested_spelling_is_a_number_in_yaml(number):
    for text in (repr(number), f"{number:e}", f"{number:.16e}".replace("+", "")):
        assert yaml.safe_load(yaml_float(text)) == float(text)


SCENARIO = "description: a sentence\nchapters:\n  gaussian: {{{}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SCENARIO.format("n_sampels: 5"), "gaussian: unknown parameter 'n_sampels'; did you mean"),
        (SCENARIO.format("rate: 1e-3"), "write 1.0e-3"),
        (SCENARIO.format("rate: .nan"), "got nan"),
        (SCENARIO.format("n_samples: -5"), "got -5"),
        (SCENARIO.format("seed: 1, seed: 2"), "line 3: broken YAML: 'seed' is written twice"),
        ("description: x\nchapters:\n  gausian: {seed: 1}\n", "did you mean 'gaussian'?"),
        ("description: x\nchapters: {gaussian: 3}\n", "must map parameters"),
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
        "description: >\n  small\n  runs\nchapters:\n  gaussian: {rate: 1.0e-3}\n  digits:\n",
    )
    scenario = named_scenario(author.project, "test")
    assert scenario.description == "small runs"
    assert scenario.chapters == {"gaussian": {"rate": 0.001}, "digits": {}}


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
    page = parameters_page(notebooks)
    assert "## It forgets\n\n{doc}`/notebooks/gaussian`" in page
    assert (
        "| `n_samples` | int | `100` | an integer from 2 to 1,000,000 "
        "| training-set size M per generation |" in page
    )
    assert "| `kind` | str | `'a'` | one of a, b | a\\|b |" in page
    assert "collapse-book run digits -p seed 5\n" in page
    assert page.count("\n| `") == 7
