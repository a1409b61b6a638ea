"""The small library behind the executable book on model collapse.

One loop (:func:`recurse`) trains generation after generation; a workflow says what each
generation trains on; a ``Ledger`` compares what was measured with what theory or a paper
expects. Sub-modules are imported when first used, so that ``import collapse_utils`` is quick
and needs neither torch, transformers nor matplotlib.
"""

from importlib import import_module
from pkgutil import iter_modules

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
#: Modules that are imported when first used.
_MODULES = tuple(name for _, name, _ in iter_modules(__path__) if not name.startswith("_"))

__all__ = [*_EXPORTS, *_MODULES]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
