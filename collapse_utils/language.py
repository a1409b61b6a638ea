"""A language model that is fine-tuned on its own text, in the loop's convention.

The experiment of Shumailov et al. (2024, section "Language models"): text is cut into blocks of 64
tokens; the pre-trained network is fine-tuned on blocks of human text; each of those blocks is then
a prompt whose next 64 tokens the model writes, which gives an artificial data set of the same
size; the next generation starts from the pre-trained network again and is fine-tuned on that.

Taught in the chapter on the language model. The text comes from
:mod:`collapse_utils.language_data`, the pre-trained network from
:mod:`collapse_utils.language_base`; the choice of the next token is in
:mod:`collapse_utils.language_decoding`, what is measured in
:mod:`collapse_utils.language_metrics`, the whole in :mod:`collapse_utils.language_experiment`.
"""

from __future__ import annotations

import copy
import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checks
from .language_decoding import Decoding, block_rows, some, token_bar, write

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16")


class LanguageModel:
    """A causal language model that starts from the same pre-trained network at every fit.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        The pre-trained network. It is never changed: each fit works on a copy.
    prompts : array of int, shape (N, L)
        Blocks of human text, each continued by L tokens.
    epochs : int
        Passes over the training set.
    steps : int, optional
        Number of gradient steps instead, whatever the size of the training set.
    batch : int
        Blocks per step.
    rate : float
        Highest learning rate of AdamW; a cosine takes it to a twentieth.
    decoding : Decoding
    device : {"auto", "cpu", "cuda"}
        Where it trains and writes; "auto" takes a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}
        Of the products of matrices in training; weights and optimizer stay in single precision,
        and so does all reading and writing. "auto" is bfloat16 on a GPU that computes with it
        (not a T4), else float32.
    first : LanguageModel, optional
        A fitted twin. Where this one would repeat its fit or its text (same start, text, settings
        and random numbers), it takes over the result: several conditions share generation 1.
    progress : bool
        Bars with tokens per second and the time left (standard error).

    Raises
    ------
    ValueError
        If an argument is out of range, or the context of the network does not hold a prompt and
        its continuation.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        prompts: NDArray[np.int64],
        *,
        epochs: int = 5,
        steps: int | None = None,
        batch: int = 16,
        rate: float = 1e-3,
        decoding: Decoding | None = None,
        device: str = "auto",
        precision: str = "auto",
        first: LanguageModel | None = None,
        progress: bool = False,
    ) -> None:
        self.prompts = block_rows("prompts", prompts)
        self.epochs = checks.integer("epochs", epochs, 1)
        self.steps = None if steps is None else checks.integer("steps", steps, 1)
        self.batch = checks.integer("batch", batch, 1)
        self.rate = checks.real("rate", rate, 0, open_low=True)
        self.decoding = Decoding() if decoding is None else decoding
        self.device = checks.choice("device", device, DEVICES)
        self.precision = checks.choice("precision", precision, PRECISIONS)
        self.first = first
        self.progress = progress
        check_block(self.prompts.shape[1], network.config.max_position_embeddings)
        self.base: PreTrainedModel | None = network
        self.network: PreTrainedModel | None = None
        self._written: NDArray[np.int64] | None = None
        self._start = _hash_network(network)
        self._fit_key: tuple | None = None  # what the fit, and the text, were made from
        self._text_key: tuple | None = None

    def __repr__(self) -> str:
        settings = (self.epochs, self.steps, self.batch, self.rate, self.precision, self.decoding)
        return f"LanguageModel{settings}, {_hash(self.prompts)}, {self._start}"

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageModel:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)  # base, prompts and first never change
        twin.network = copy.deepcopy(self.network, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """A stored model that was fitted can write and be measured, but not be fitted again."""
        state = {**self.__dict__, "first": None}
        if self.network is not None:
            # On the CPU, so that a machine without a GPU can read it.
            state |= {"base": None, "network": copy.deepcopy(self.network).cpu()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.network is not None:
            self.network = self.network.to(_device(self.device))

    def fit(self, X: NDArray[np.int64], rng: np.random.Generator) -> LanguageModel:
        """Fine-tune a copy of the pre-trained network on blocks of text.

        AdamW, one cosine over all steps, gradients clipped to norm 1. Every pass visits the
        blocks in a new random order.

        Parameters
        ----------
        X : array of int, shape (n, L)
        rng : numpy.random.Generator

        Returns
        -------
        LanguageModel
            Itself.

        Raises
        ------
        ValueError
            If X has no block or another length, or the model was stored after its fit.
        FloatingPointError
            If the loss is no longer finite.
        """
        X = block_rows("X", X, self.prompts.shape[1])
        checks.generator(rng)
        if self.base is None:
            raise ValueError("this model was stored after its fit; make a new LanguageModel to fit")
        seed = int(rng.integers(2**63))
        settings = (self.epochs, self.steps, self.batch, self.rate, self.precision)
        key = (self._start, _hash(X), settings, seed)
        if self.first is not None and self.first._fit_key == key:
            self.network = self.first.network
        else:
            self.network = self._train(X, seed)
        self._fit_key, self._written, self._text_key = key, None, None
        return self

    def _train(self, X: NDArray[np.int64], seed: int) -> PreTrainedModel:
        import torch
        from torch.nn.functional import cross_entropy

        device = torch.device(_device(self.device))
        network = copy.deepcopy(self.base).to(device)
        batch = min(self.batch, len(X))
        steps = self.steps or self.epochs * math.ceil(len(X) / batch)
        passes = math.ceil(steps * batch / len(X))
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(len(X)) for _ in range(passes)])
        order = torch.from_numpy(order).to(device)
        rows = torch.from_numpy(X).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, self.rate / 20)
        reduced = torch.autocast(device.type, torch.bfloat16, _is_reduced(self.precision, device))
        network.train()
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            token_bar("training", steps * batch * X.shape[1], self.progress) as bar,
        ):
            torch.manual_seed(seed)  # dropout, where the network has it
            for step in range(steps):
                chosen = rows[order[step * batch : (step + 1) * batch]]
                with reduced:
                    logits = network(chosen, use_cache=False).logits
                following = chosen.roll(-1, dims=1)
                following[:, -1] = -100  # the last token has none; this number is left out
                loss = cross_entropy(logits.flatten(0, 1).float(), following.flatten())
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                if not torch.isfinite(norm):
                    raise FloatingPointError(
                        f"training diverged at step {step + 1} of {steps} with rate={self.rate:g}; "
                        "choose a smaller rate"
                    )
                optimizer.step()
                schedule.step()
                bar.update(chosen.numel())
        return network.eval()

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Continuations of n of the prompts.

        The model continues every prompt once, when it is first asked, and that text is its data
        set: a smaller n is a random choice from it, the same n the same text again.

        Parameters
        ----------
        n : int
            At most the number of prompts.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of int, shape (n, L)

        Raises
        ------
        ValueError
            If the model was not fitted or there are fewer than n prompts.
        """
        n = checks.integer("n", n, 1, len(self.prompts))
        checks.generator(rng)
        if self.network is None:
            raise ValueError("the model must be fitted before it can write")
        if self._written is None:
            seed = int(rng.integers(2**63))
            key = (self._fit_key, _hash(self.prompts), self.decoding, seed)
            if self.first is not None and self.first._text_key == key:
                self._written = self.first._written
            else:
                self._written = write(
                    self.network, self.prompts, decoding=self.decoding,
                    rng=np.random.default_rng(seed), progress=self.progress,
                )  # fmt: skip
            self._text_key = key
        return some(self._written, n, rng)


def check_block(length: int, context: int) -> None:
    """Refuse blocks that the context of a network does not hold twice: prompt and continuation."""
    if 2 * length > context:
        raise ValueError(
            f"block must be at most {context // 2} tokens, so that a prompt and its continuation "
            f"fit the context of {context} tokens, got {length}"
        )


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError('device must be "auto" or "cpu" on this machine, which has no CUDA device')
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _is_reduced(precision: str, device: torch.device) -> bool:
    """Whether to train in bfloat16; a T4 would only emulate it, slowly."""
    import torch

    if precision == "auto":
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return precision == "bfloat16"


def _hash(X: NDArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(X).tobytes()).hexdigest()[:16]


def _hash_network(network: PreTrainedModel | None) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items() if network is not None else ():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
