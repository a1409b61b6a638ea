"""The small library behind the executable book on model collapse.

One loop (:func:`recurse`) trains generation after generation; a workflow says what each
generation trains on; a ``Ledger`` compares what was measured with what theory or a paper
expects. Sub-modules are imported when first used, so that ``import collapse_utils`` is quick
and needs neither torch, transformers nor matplotlib.
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "History": "loop",
    "Snapshot": "loop",
    "recurse": "loop",
    "mean_se": "metrics",
    "Accumulate": "workflows",
    "AccumulateSubsample": "workflows",
    "FreshData": "workflows",
    "Mix": "workflows",
    "Replace": "workflows",
    "Yardstick": "yardstick",
    "diagnose": "report",
    "Ledger": "claims",
    "glue": "claims",
}


def _modules() -> list[str]:
    """Modules that are imported when first used."""
    from pkgutil import iter_modules  # brings inspect, which takes longer than all of this

    return [name for _, name, _ in iter_modules(__path__) if not name.startswith("_")]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name == "__all__":
        return [*_EXPORTS, *_modules()]
    if not name.startswith("_") and name in _modules():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS, *_modules()})
