"""Fixtures of the library's tests."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from collapse_utils import figures


@pytest.fixture
def theme():
    """The book's theme, and nothing left open or changed afterwards."""
    with mpl.rc_context():
        figures.use_theme()
        yield
        assert plt.get_fignums() == []
        plt.close("all")


@pytest.fixture
def displayed(monkeypatch):
    """What cells would display: (data, metadata) of each output."""
    outputs = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, *, raw, metadata: outputs.append((data, metadata)),
    )
    return outputs
