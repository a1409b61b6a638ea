"""What other packages need: a torchvision that imports, and a hub that answers.

PyPI's torchvision wheel is compiled against CUDA. Beside a CPU build of torch its compiled
operators cannot load, and ``import torchvision`` (and with it ``from transformers import
OPTForCausalLM``) stops with "operator torchvision::nms does not exist". The book needs only
torchvision's data sets and transforms, which are plain Python, so it is enough to declare the two
missing operators: torchvision then attaches its shape rules to the declarations and imports.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_BOX_FILTERS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def mend_torchvision() -> bool:
    """Declare torchvision's box operators if its compiled library cannot load.

    Call it before the first import of torchvision or of a transformers model. On a healthy install
    the compiled library loads and nothing else happens; calling it again does nothing, and neither
    does a call where torchvision is not installed.

    Returns bool: True when the operators had to be declared. Non-maximum suppression and
    ``torchvision.io`` decoding are then not available; data sets and transforms are.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return False
    for library in sorted(Path(spec.origin).parent.glob("_C*.*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:  # the CUDA libraries it was linked to are not here
            continue
        return False
    for name in _BOX_FILTERS:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return True


def reach_hub() -> None:
    """Ask the Hugging Face hub once; without a network its client goes on for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of requests or of httpx, by the version of the client
        raise OSError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
