"""The language-model experiment: one setting, several conditions, each of them repeated."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checks, language_base, language_data, loop
from .language import LanguageModel, check_block
from .language_decoding import Decoding
from .language_metrics import Measures
from .workflows import Replace, Workflow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Setting:
    """What all conditions of an experiment share.

    Attributes
    ----------
    model, corpus : str
        See :func:`collapse_utils.language_base.base` and ``corpus``.
    recipe : Recipe, optional
        Of the embedded network.
    block : int
        Tokens per block.
    n_blocks, n_test : int or None
        Blocks to train and to test on, at most; None takes all. Each replicate trains on a random
        choice of its own.
    epochs, batch, rate, device, precision
        See :class:`LanguageModel`. Every condition takes the steps of `epochs` passes over
        `n_blocks` blocks, also where its training set grows.
    """

    model: str = language_data.EMBEDDED
    corpus: str = language_data.EMBEDDED
    recipe: language_base.Recipe | None = None
    block: int = 64
    n_blocks: int | None = None
    n_test: int | None = None
    epochs: int = 5
    batch: int = 16
    rate: float = 1e-3
    device: str = "auto"
    precision: str = "auto"

    def prepare(self, *, progress: bool = False) -> Prepared:
        """Read (or pre-train) the network and cut the corpus into blocks."""
        human = language_data.corpus(self.corpus)
        checks.integer("block", self.block, 2)
        if self.n_blocks is not None:
            checks.integer("n_blocks", self.n_blocks, 2)
        if self.model == language_data.EMBEDDED:  # before it is pre-trained
            check_block(self.block, (self.recipe or language_base.Recipe()).context)
        network, tokenizer = language_base.base(self.model, recipe=self.recipe, progress=progress)
        check_block(self.block, network.config.max_position_embeddings)
        train = language_data.blocks(human.train, tokenizer, self.block)
        test = language_data.blocks(human.test, tokenizer, self.block)
        return Prepared(
            network, tokenizer, train, _at_most("n_test", test, self.n_test), human.fingerprint
        )


@dataclass(frozen=True)
class Prepared:
    """Network, tokenizer, and blocks of human text, shape (n, L), to train and to test on."""

    network: PreTrainedModel
    tokenizer: Any
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str

    def model(self, setting: Setting, train: NDArray[np.int64], **options: Any) -> LanguageModel:
        """Model that continues `train`, with the same number of steps in every generation."""
        steps = setting.epochs * math.ceil(len(train) / min(setting.batch, len(train)))
        return LanguageModel(
            self.network, train, epochs=setting.epochs, steps=steps, batch=setting.batch,
            rate=setting.rate, device=setting.device, precision=setting.precision, **options,
        )  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """One line of an experiment: what each generation trains on and how it writes."""

    workflow: Workflow
    decoding: Decoding
    n_generations: int


@dataclass(frozen=True)
class Replicate:
    """One repetition of an experiment.

    Attributes
    ----------
    train : array of int, shape (n_blocks, L)
        Its own random choice from the human blocks.
    first : LanguageModel
        Generation 1, which its conditions share; it can judge the text of its descendants.
    runs : dict of name -> History
        ``samples[...]`` holds all that was written, generation by generation.
    """

    train: NDArray[np.int64]
    first: LanguageModel
    runs: dict[str, loop.History]


def run(
    setting: Setting,
    conditions: Mapping[str, Condition],
    *,
    seed: int,
    n_replicates: int = 1,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[Prepared, list[Replicate]]:
    """Run independent conditions, each several times, one after the other.

    The conditions of a replicate share its human text, its random numbers and its first
    generation; replicates share nothing but the pre-trained network and the test text.

    Parameters
    ----------
    setting : Setting
    conditions : dict of name -> Condition
    seed : int
    n_replicates : int
    folder : path, optional
        Holds one checkpoint per condition and replicate, written after every generation. Run the
        same call again to continue after the last generation that was finished.
    progress : bool
        Bars (standard error).

    Returns
    -------
    Prepared
    list of Replicate
    """
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    checks.integer("seed", seed, 0)
    path = None if folder is None else Path(folder)
    ready = setting.prepare(progress=progress)
    found = []
    for r in range(n_replicates):
        train = _choose(ready.train, setting.n_blocks, [seed, r])
        one = partial(_lineage, ready, setting, train, [seed, r], progress=progress)
        start = Condition(Replace(), Decoding(), 1)
        first = one(start, None, _file(path, "first", seed, r)).models["all", 0]
        runs = {
            name: one(condition, first, _file(path, name, seed, r))
            for name, condition in conditions.items()
        }
        for history in runs.values():
            history.models.clear()  # networks are large, and the samples are what is asked for
        found.append(Replicate(train, first, runs))
    return ready, found


def _lineage(
    ready: Prepared,
    setting: Setting,
    train: NDArray[np.int64],
    entropy: list[int],
    condition: Condition,
    first: LanguageModel | None,
    checkpoint: Path | None,
    progress: bool,
) -> loop.History:
    model = ready.model(setting, train, decoding=condition.decoding, first=first, progress=progress)
    return loop.recurse(
        model,
        train,
        workflow={"all": condition.workflow},
        n_generations=condition.n_generations,
        metrics={"language": Measures(ready.test)},
        keep_samples=len(train),
        rng=np.random.default_rng(entropy),
        progress=progress,
        checkpoint=checkpoint,
    )


def _choose(X: NDArray[np.int64], n: int | None, entropy: list[int]) -> NDArray[np.int64]:
    if n is None or n >= len(X):
        return X
    # 1: not the random numbers of the loop
    return X[np.sort(np.random.default_rng([*entropy, 1]).choice(len(X), n, replace=False))]


def _file(folder: Path | None, name: str, seed: int, replicate: int) -> Path | None:
    plain = "".join(c if c.isalnum() else "-" for c in name)
    return None if folder is None else folder / f"{plain}-{seed}-{replicate}.checkpoint"


def _at_most(name: str, X: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    return X if n is None else X[: checks.integer(name, n, 2)]
