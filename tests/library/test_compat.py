"""What other packages need."""

import time

import pytest

from collapse_utils import compat


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch, capfd):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9 cannot be reached: "):
        compat.reach_hub()
    assert time.monotonic() - start < 15  # the client's own tries take 25 s of waiting
    assert "Retry" not in capfd.readouterr().err
