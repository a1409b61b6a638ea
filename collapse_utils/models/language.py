"""A language model that is fine-tuned on its own text, in the loop's convention.

The experiment of Shumailov et al. (2024, section "Language models"): text is cut into blocks of 64
tokens; the pre-trained network is fine-tuned on blocks of human text; each of those blocks is then
a prompt whose next 64 tokens the model writes, which gives an artificial data set of the same
size; the next generation starts from the pre-trained network again and is fine-tuned on that.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _checks, data, text
from .._checks import checked, number, whole
from .writing import Decoding, block_rows, reach, write

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# Tokens that are read at once. Their logits take 2 MB in the network made here, which a processor
# keeps near by, and 0.2 GB in OPT-125m.
_TOGETHER = 1024


@checked(length=whole(2))
def blocks(
    paragraphs: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int = 64
) -> NDArray[np.int64]:
    """Text as blocks of tokens, shape (n, length), cut without regard to paragraphs.

    The remainder at the end is dropped.
    """
    lines = [paragraph + "\n" for paragraph in paragraphs]
    encoded = tokenizer(lines, add_special_tokens=False)["input_ids"] if lines else []
    tokens = np.array([i for line in encoded for i in line], dtype=np.int64)
    n = len(tokens) // length
    if n == 0:
        raise ValueError(
            f"the corpus must fill at least one block of {length} tokens, got {len(tokens)} tokens"
        )
    return tokens[: n * length].reshape(n, length)


@checked(
    vocabulary=whole(300),
    rate=number(0, above=True),
    steps=whole(),
    seed=whole(),
    **dict.fromkeys(("hidden", "layers", "heads", "context", "batch", "warm_up"), whole(1)),
)
@dataclass(frozen=True)
class Recipe:
    """Size and pre-training of the embedded network (OPT, Zhang et al. 2022, made small)."""

    vocabulary: int = 512
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
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden must be a multiple of heads={self.heads}, got hidden={self.hidden}"
            )


def base(
    name: str = "embedded", recipe: Recipe | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Pre-trained network from which every generation starts, and its tokenizer.

    `name` is ``"embedded"``, a folder with a checkpoint, or a name on the Hugging Face hub such as
    ``"facebook/opt-125m"``: only safetensors weights are read and no code of a checkpoint is ever
    run. The embedded network needs no download: it is `pretrained` by the recipe on the docstrings
    of the standard library. The network comes in single precision, in evaluation mode, on the GPU
    if there is one.
    """
    if name == "embedded":
        return pretrained(text.paragraphs("docstrings"), data.corpus()[0], recipe or Recipe())
    if not isinstance(name, str) or not (os.path.isdir(name) or _HUB_NAME.fullmatch(name)):
        raise ValueError(
            'model must be "embedded", a folder with a checkpoint, or a name on the hub such as '
            f'"facebook/opt-125m", got {name!r}'
        )
    try:
        return _read(name, local_only=True)  # a folder, or already in the hub's cache
    except (OSError, ValueError) as error:
        if os.path.isdir(name):
            raise FileNotFoundError(
                f"model {name!r} is not a folder with config.json, a tokenizer and "
                f"model.safetensors ({_checks.first_line(error)})"
            ) from error
    try:
        data.reach_hub()
        return _read(name, local_only=False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"model {name!r} is not in the cache and could not be downloaded as safetensors "
            f"({_checks.first_line(error)}); without a network choose "
            'model="embedded" or a local folder'
        ) from error


def pretrained(
    pretraining: Sequence[str], human: Sequence[str], recipe: Recipe
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Network pre-trained by the recipe on some paragraphs, and a tokenizer made for all of them.

    Trained once, then read from a cache (``COLLAPSE_CACHE_DIR``, else ``~/.cache/collapse``), under
    a hash of the recipe, the text, and the versions of torch, transformers and tokenizers.
    """
    _ready()
    import tokenizers
    import torch
    import transformers

    versions = [package.__version__ for package in (torch, transformers, tokenizers)]
    content = [asdict(recipe), text.fingerprint(human), text.fingerprint(pretraining), versions]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("COLLAPSE_CACHE_DIR") or "~/.cache/collapse").expanduser()
    folder = cache.absolute() / f"opt-{key}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(suffix=".part", dir=folder.parent) as place:
            part = Path(place, folder.name)
            tokenizer = _tokenizer([*pretraining, *human], recipe.vocabulary)
            tokenizer.save_pretrained(part)
            _pretrain(blocks(pretraining, tokenizer, recipe.context), recipe).save_pretrained(part)
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # unless another process was quicker
                    raise
    return _read(str(folder), local_only=True)


def _ready() -> None:
    """Make it safe and silent to import transformers."""
    data.mend_torchvision()
    with warnings.catch_warnings():
        # Said once, where a notebook has no widgets; transformers then draws its bars as text.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from transformers.utils import logging
    logging.disable_progress_bar()


def _read(name: str, *, local_only: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    _ready()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local_only}
    tokenizer = AutoTokenizer.from_pretrained(name, **safe)
    network = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, **safe)
    return network.float().eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _tokenizer(paragraphs: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Byte-level byte-pair encoding, as OPT has, trained on these paragraphs."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    encoder = ByteLevelBPETokenizer()
    encoder.train_from_iterator(
        (p + "\n" for p in paragraphs), vocabulary, min_frequency=0, show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=encoder._tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>"
    )


def untrained(recipe: Recipe) -> PreTrainedModel:
    """OPT of this size with random weights."""
    _ready()
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


def _pretrain(X: NDArray[np.int64], recipe: Recipe) -> PreTrainedModel:
    """AdamW with a short warm-up and a linear decay over random blocks."""
    rng, at = np.random.default_rng(recipe.seed), np.arange(recipe.steps)
    chosen = (X[rng.integers(len(X), size=recipe.batch)] for _ in range(recipe.steps))
    rates = np.minimum((at + 1) / recipe.warm_up, 1 - at / recipe.steps) * recipe.rate
    return _optimise(untrained(recipe), chosen, rates, "pre-training")


def _optimise(network: PreTrainedModel, batches: Iterable[NDArray], rates: NDArray, what: str):
    """A step of AdamW for each batch of blocks, at these rates; gradients clipped to norm 1."""
    import torch
    from torch.nn.functional import cross_entropy, pad

    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    reduced = torch.autocast(network.device.type, torch.bfloat16, _is_reduced(network.device))
    network.train()
    for step, (batch, rate) in enumerate(zip(batches, rates.tolist(), strict=True), 1):
        optimizer.param_groups[0]["lr"] = rate
        rows = torch.from_numpy(batch).to(network.device)
        # The last token predicts none; to leave its logits out would copy all others.
        following = pad(rows[:, 1:], (0, 1), value=-100)
        with reduced:
            logits = network(rows, use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1).float(), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"{what} diverged at step {step} with rate={rate:g}; choose a smaller rate"
            )
        optimizer.step()
    return network.eval()


def _is_reduced(device: torch.device) -> bool:
    """Whether to train in bfloat16; a T4 would only emulate it, slowly."""
    import torch

    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def block_losses(network: PreTrainedModel, X: ArrayLike) -> NDArray[np.float64]:
    """Negative log-probability per token of each block of X (n, L), shape (n,), in nats.

    Each block stands alone: its first token is given, the other L - 1 are predicted. The
    exponential of a (mean) loss is a perplexity.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rows = torch.from_numpy(np.ascontiguousarray(X, dtype=np.int64))
    together = max(1, _TOGETHER // rows.shape[1])
    losses = []
    with torch.inference_mode():
        for part in rows.split(together):
            part = part.to(network.device)
            logits = network(part, use_cache=False).logits[:, :-1].float()
            loss = cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
            losses.append(loss.view(len(part), -1).double().mean(dim=1).cpu())
    return torch.cat(losses).numpy()


class LanguageModel:
    """A causal language model that starts from the same pre-trained network at every fit.

    Every fit takes the steps of `epochs` passes over as many blocks as there are prompts, however
    many it is given, so that conditions compare at equal training.

    - `network` (transformers.PreTrainedModel): The pre-trained network. It is never changed: each
      fit works on a copy.
    - `prompts` (array of int, shape (N, L)): Blocks of human text, each continued by L tokens.
    - `rate`: Highest learning rate of AdamW; a cosine takes it to a twentieth.
    - `decoding` (Decoding)
    """

    @checked(epochs=whole(1), batch=whole(1), rate=number(0, above=True))
    def __init__(
        self,
        network: PreTrainedModel,
        prompts: NDArray[np.int64],
        *,
        epochs: int = 5,
        batch: int = 16,
        rate: float = 1e-3,
        decoding: Decoding | None = None,
    ) -> None:
        self.prompts = block_rows("prompts", prompts)
        self.epochs, self.batch, self.rate = epochs, batch, rate
        self.decoding = Decoding() if decoding is None else decoding
        length, context = self.prompts.shape[1], reach(network)
        if 2 * length > context:
            raise ValueError(
                f"block must be at most {context // 2} tokens, so that a prompt and its "
                f"continuation fit the context of {context} tokens, got {length}"
            )
        self.base, self.network = network, None
        self.written: NDArray[np.int64] | None = None  # its text, once it was asked for one

    def __repr__(self) -> str:
        return f"LanguageModel{(self.epochs, self.batch, self.rate, self.decoding)}"

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageModel:
        return copy.copy(self)  # networks and texts are replaced, never changed

    def fit(self, X: NDArray[np.int64], rng: np.random.Generator) -> LanguageModel:
        """Fine-tune a copy of the pre-trained network on blocks of text, shape (n, L).

        AdamW, one cosine over all steps. Every pass visits the blocks in a new random order.
        """
        X = block_rows("X", X, self.prompts.shape[1])
        seed = int(_checks.rng("rng", rng).integers(2**63))
        self.network, self.written = self.train(X, seed), None
        return self

    def train(self, X: NDArray[np.int64], seed: int) -> PreTrainedModel:
        """A copy of the pre-trained network, fitted to X by `seed`."""
        import torch

        n = len(self.prompts)
        batch = min(self.batch, n, len(X))
        steps = self.epochs * math.ceil(n / min(self.batch, n))
        rng = np.random.default_rng(seed)
        passes = math.ceil(steps * batch / len(X))
        order = np.concatenate([rng.permutation(len(X)) for _ in range(passes)])
        chosen = (X[order[i * batch : (i + 1) * batch]] for i in range(steps))
        cosine = (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
        rates = self.rate * (1 / 20 + (1 - 1 / 20) * cosine)
        network = copy.deepcopy(self.base)
        devices = [network.device] if network.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)  # dropout, where the network has it
            return _optimise(network, chosen, rates, "training")

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Continuations of n of the N prompts, shape (n, L).

        The model continues every prompt once, when it is first asked, and that text is its data
        set: a smaller n is a random choice from it, the same n the same text again.
        """
        n = _checks.whole(1, len(self.prompts))("n", n)
        if self.network is None:
            raise ValueError("the model must be fitted before it can write")
        if self.written is None:
            seed = int(_checks.rng("rng", rng).integers(2**63))
            self.written = self.write(np.random.default_rng(seed))
        if n == len(self.prompts):
            return self.written
        return self.written[np.sort(rng.choice(len(self.prompts), n, replace=False))]

    def write(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A continuation of every prompt, shape (N, L)."""
        return write(self.network, self.prompts, decoding=self.decoding, rng=rng)
