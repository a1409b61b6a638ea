"""The networks from which every generation of the language-model chapter starts.

The default needs no download: an OPT network of 0.12 million parameters, pre-trained here on the
docstrings of the standard library and kept in a cache. ``"facebook/opt-125m"``, or a folder with a
checkpoint, takes its place in the published setting.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checks, compat, text
from .language_data import EMBEDDED, blocks, corpus, first_line
from .language_decoding import token_bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Recipe:
    """Size and pre-training of the embedded network (OPT, Zhang et al. 2022, made small)."""

    vocabulary: int = 1024
    hidden: int = 64
    layers: int = 1
    heads: int = 4
    context: int = 128
    steps: int = 800
    batch: int = 8
    rate: float = 2e-3
    warm_up: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("vocabulary", 300), ("hidden", 1), ("layers", 1), ("heads", 1), ("context", 2),
            ("steps", 0), ("batch", 1), ("warm_up", 1), ("seed", 0),
        ):  # fmt: skip
            checks.integer(name, getattr(self, name), low)
        checks.real("rate", self.rate, 0, open_low=True)
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden must be a multiple of heads={self.heads}, got hidden={self.hidden}"
            )


def base(
    name: str = EMBEDDED, *, recipe: Recipe | None = None, progress: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Pre-trained network from which every generation starts, and its tokenizer.

    Parameters
    ----------
    name : str
        ``"embedded"``, a folder with a checkpoint, or a name on the Hugging Face hub such as
        ``"facebook/opt-125m"``. Only safetensors weights are read and no code of a checkpoint is
        ever run.
    recipe : Recipe, optional
        Size and pre-training of the embedded network. It is pre-trained once and then read from
        :func:`cache_folder`, under a hash of the recipe, the text, and the versions of torch,
        transformers and tokenizers.
    progress : bool
        Show a bar while pre-training (standard error).

    Returns
    -------
    network : transformers.PreTrainedModel
        On the CPU, in single precision, in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerBase

    Raises
    ------
    ValueError
        If the name is neither of these.
    FileNotFoundError
        If the checkpoint is incomplete, or neither in the cache nor to be had from the network.
    """
    if name == EMBEDDED:
        return _read(str(embedded(recipe, progress=progress)), local_only=True)
    is_folder = isinstance(name, str) and name != "" and Path(name).is_dir()
    if not is_folder and not (isinstance(name, str) and _HUB_NAME.fullmatch(name)):
        raise ValueError(
            f'model must be "{EMBEDDED}", a folder with a checkpoint, or a name on the hub such as '
            f'"facebook/opt-125m", got {name!r}'
        )
    try:
        return _read(name, local_only=True)  # a folder, or already in the hub's cache
    except (OSError, ValueError) as error:
        if is_folder:
            raise FileNotFoundError(
                f"model {name!r} is not a folder with config.json, a tokenizer and "
                f"model.safetensors ({first_line(error)})"
            ) from error
    try:
        return _read(name, local_only=False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"model {name!r} is not in the cache and could not be downloaded as safetensors "
            f'({first_line(error)}); without a network choose model="{EMBEDDED}" or a local folder'
        ) from error


def embedded(recipe: Recipe | None = None, *, progress: bool = False) -> Path:
    """Folder of the embedded network, which is pre-trained now if it is not in the cache.

    Parameters
    ----------
    recipe, progress
        See :func:`base`.

    Returns
    -------
    Path
        In :func:`cache_folder`, with safetensors weights, configuration and tokenizer.
    """
    ready()
    import tokenizers
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()

    recipe = recipe or Recipe()
    train = corpus(EMBEDDED).train
    pretraining = text.docstring_paragraphs()
    versions = [torch.__version__, transformers.__version__, tokenizers.__version__]
    content = [asdict(recipe), text.fingerprint(train), text.fingerprint(pretraining), versions]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / f"opt-{key}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        tokenizer = _tokenizer([*pretraining, *train], recipe.vocabulary)
        tokenizer.save_pretrained(part)
        network = _pretrain(blocks(pretraining, tokenizer, recipe.context), recipe, progress)
        network.save_pretrained(part)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # unless another process was quicker
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """``COLLAPSE_CACHE_DIR``, else ``~/.cache/collapse``. Nothing is created here."""
    chosen = os.environ.get("COLLAPSE_CACHE_DIR") or "~/.cache/collapse"
    return Path(chosen).expanduser().absolute()


def ready() -> None:
    """Make it safe and silent to import transformers."""
    compat.mend_torchvision()
    with warnings.catch_warnings():
        # Said once, where a notebook has no widgets; transformers then draws its bars as text.
        warnings.filterwarnings("ignore", message="IProgress not found")
        import tqdm.auto  # noqa: F401


def _read(name: str, *, local_only: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    ready()
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local_only}
    tokenizer = AutoTokenizer.from_pretrained(name, **safe)
    network = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, **safe)
    return network.float().eval(), tokenizer


def _tokenizer(paragraphs: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Byte-level byte-pair encoding, as OPT has, trained on these paragraphs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    encoder = Tokenizer(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=marks,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    encoder.train_from_iterator((p + "\n" for p in paragraphs), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=encoder, bos_token="</s>", eos_token="</s>", pad_token="<pad>"
    )


def untrained(recipe: Recipe) -> PreTrainedModel:
    """OPT of this size with random weights."""
    ready()
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        word_embed_proj_dim=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        ffn_dim=4 * recipe.hidden,
        max_position_embeddings=recipe.context,
        dropout=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return OPTForCausalLM(config).eval()


def _pretrain(X: NDArray[np.int64], recipe: Recipe, progress: bool) -> PreTrainedModel:
    """AdamW with a short warm-up and a linear decay over random blocks."""
    import torch

    network = untrained(recipe)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, fused=True)
    rng, rows = np.random.default_rng(recipe.seed), torch.from_numpy(X)
    network.train()
    with token_bar("pre-training", recipe.steps * recipe.batch * recipe.context, progress) as bar:
        for step in range(recipe.steps):
            warm, left = (step + 1) / recipe.warm_up, 1 - step / recipe.steps
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * min(warm, left)
            batch = rows[rng.integers(len(rows), size=recipe.batch)]
            loss = network(batch, labels=batch, use_cache=False).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if not math.isfinite(loss.item()):
                raise FloatingPointError(
                    f"pre-training diverged at step {step + 1} with rate={recipe.rate:g}; choose a "
                    "smaller rate"
                )
            bar.update(batch.numel())
    return network.eval()
