"""The package is light to import and complete."""

import subprocess
import sys

import pytest

import collapse_utils

HEAVY = {"torch", "torchvision", "transformers", "tokenizers", "matplotlib", "seaborn", "sklearn"}
ALSO_LATER = {"numpy", "scipy", "pandas", "IPython", "tqdm"}


def modules_after(statement):
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    loaded = modules_after("import collapse_utils")
    assert "collapse_utils" in loaded
    assert not loaded & (HEAVY | ALSO_LATER)


def test_the_loop_and_the_simulators_need_no_network_library_and_no_plots():
    loaded = modules_after("from collapse_utils import Ledger, Mix, glue, lineages, recurse")
    assert {"numpy", "pandas", "scipy"} <= loaded
    assert not loaded & HEAVY


def test_drawing_imports_seaborn_only_where_it_draws():
    assert "seaborn" not in modules_after("from collapse_utils import figures")


def test_claims_that_compare_numbers_need_no_distributions():
    code = "from collapse_utils import Ledger, glue"
    listed = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "scipy.special" in listed.stdout and "scipy.stats" not in listed.stdout.split()


@pytest.mark.parametrize("name", collapse_utils.__all__)
def test_every_public_name_resolves(name):
    value = getattr(collapse_utils, name)
    assert value.__doc__
    assert name in dir(collapse_utils)
    assert value is getattr(collapse_utils, name)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'collapse_utils' has no attribute 'colapse'"):
        collapse_utils.colapse  # noqa: B018
    with pytest.raises(ImportError, match="colapse"):
        from collapse_utils import colapse  # noqa: F401
