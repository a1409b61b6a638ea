"""Comparing what a chapter publishes under two numerical kernels."""

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from test_gate import claims, glued

from collapse_utils import Ledger

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels.py"
spec = importlib.util.spec_from_file_location("kernels", PATH)
kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)


@pytest.mark.parametrize(
    ("a", "b", "digits"),
    [
        ("0.1232 ± 0.02", "0.1234 ± 0.02", 3),
        ("1,232", "1,228", 3),
        ("12.5 %", "−12.5 %", 0),
        ("3 of 20", "4 of 20", 0),
        ("the cat", "the dog", 0),
        ("0.5 to 1", "0.5 to 1 or so", 0),
    ],
)
def test_digits_that_two_texts_share(a, b, digits):
    assert kernels.shared_digits(a, b) == kernels.shared_digits(b, a) == digits


def written(path, measured, **texts):
    """An executed notebook that claims `measured` against zero and glues some texts."""
    ledger = Ledger()
    ledger.check("A1", "It is zero.", "S", law=0.0, rival=(9.0, "nine"), measured=measured, se=0.1)
    output = claims()
    output["metadata"]["collapse"]["claims"] = [asdict(ledger.claims[0])]
    cells = [(["ledger.show()", [output]])]
    for name, text in texts.items():
        value = glued(name)
        mime = f"{kernels.GLUE_PREFIX}text/plain"
        value["data"][mime] = repr(text)
        cells.append(["time.process_time()" if name == "clock" else "", [value]])
    cells = [{"cell_type": "code", "source": s, "outputs": o, "metadata": {}} for s, o in cells]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    return path


def test_comparison_of_two_runs(tmp_path):
    one = written(tmp_path / "one.ipynb", 0.1, w2="0.123", sd="1.0", clock="5 s")
    same = written(tmp_path / "same.ipynb", 0.1, w2="0.123", sd="1.0", clock="6 s")
    near = written(tmp_path / "near.ipynb", 0.15, w2="0.124", sd="1.0", clock="7 s")
    far = written(tmp_path / "far.ipynb", 5.0, w2="0.123", clock="8 s")
    found = kernels.compare(one, {"same": same})
    assert (found["claims"], found["numbers"]) == (1, 2)
    assert (found["verdicts"], found["changed"], found["digits"]) == ([], [], None)
    found = kernels.compare(one, {"same": same, "near": near})
    assert found["changed"] == ["w2"] and found["digits"] == 2
    assert found["standard_errors"] == 0.5
    found = kernels.compare(one, {"far": far})
    assert found["verdicts"] == ["A1: reproduced, contradicted under far"]
    assert found["changed"] == ["sd"] and found["digits"] == 0


def test_every_setting_differs_and_default_sets_nothing(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    found = kernels.settings()
    assert not set(kernels.VARIABLES) & set(found["default"])
    chosen = [tuple(found[name].get(v) for v in kernels.VARIABLES) for name in found]
    assert len(set(chosen)) == len(chosen) == 3
