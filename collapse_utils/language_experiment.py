"""The language-model experiment: one setting, several conditions, a process for each."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checks, language_base, language_data, loop
from .language import LanguageModel
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
        Blocks to train and to test on, at most; None takes all.
    epochs, batch, rate, device
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

    def prepare(self, *, progress: bool = False) -> Prepared:
        """Read (or pre-train) the network and cut the corpus into blocks."""
        human = language_data.corpus(self.corpus)
        checks.integer("block", self.block, 2)
        network, tokenizer = language_base.base(self.model, recipe=self.recipe, progress=progress)
        train = language_data.blocks(human.train, tokenizer, self.block)
        test = language_data.blocks(human.test, tokenizer, self.block)
        return Prepared(
            network, tokenizer, _first("n_blocks", train, self.n_blocks),
            _first("n_test", test, self.n_test), human.fingerprint,
        )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """Network, tokenizer, and blocks of human text, shape (n, L), to train and to test on."""

    network: PreTrainedModel
    tokenizer: Any
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str

    def model(self, setting: Setting, **options: Any) -> LanguageModel:
        """Model of this setting, with the same number of steps in every generation."""
        steps = setting.epochs * math.ceil(len(self.train) / min(setting.batch, len(self.train)))
        return LanguageModel(
            self.network, self.train, epochs=setting.epochs, steps=steps, batch=setting.batch,
            rate=setting.rate, device=setting.device, **options,
        )  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """One line of an experiment: what each generation trains on and how it writes."""

    workflow: Workflow
    decoding: Decoding
    n_generations: int


def run(
    setting: Setting,
    conditions: Mapping[str, Condition],
    *,
    seed: int,
    n_workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> dict[str, loop.History]:
    """Run independent conditions, each in a process of its own.

    All conditions share the seed, so that their first generations are the same model.

    Parameters
    ----------
    setting : Setting
    conditions : dict of name -> Condition
    seed : int
    n_workers : int
        Processes; 1 runs the conditions one after the other in this one.
    folder : path, optional
        Holds one checkpoint per condition, written after every generation. Run the same call
        again to continue after the last generation that was finished.
    progress : bool
        Bars (standard error); only with one worker.

    Returns
    -------
    dict of name -> History
        ``samples[...]`` holds all that was written, generation by generation.
    """
    n_workers = checks.integer("n_workers", n_workers, 1)
    checks.integer("seed", seed, 0)
    path = None if folder is None else Path(folder)
    if setting.model == language_data.EMBEDDED:
        # Made once, here; the processes then need not look at the text it was trained on.
        made = language_base.embedded(setting.recipe, progress=progress)
        setting = replace(setting, model=str(made), recipe=None)
    jobs = [
        (setting, c, seed, None if path is None else path / f"{_file_name(name)}.checkpoint")
        for name, c in conditions.items()
    ]
    if n_workers == 1:
        return {n: _run_one(*job, progress) for n, job in zip(conditions, jobs, strict=True)}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=spawn, initializer=_one_thread) as pool:
        waiting = [pool.submit(_run_one, *job) for job in jobs]
        return {name: one.result() for name, one in zip(conditions, waiting, strict=True)}


def first_model(setting: Setting, *, seed: int) -> tuple[Prepared, PreTrainedModel]:
    """The model of generation 1, which all conditions of :func:`run` with this seed share.

    Parameters
    ----------
    setting : Setting
    seed : int

    Returns
    -------
    prepared : Prepared
    network : transformers.PreTrainedModel
        Fine-tuned on the human text; it can judge the text of its descendants.
    """
    checks.integer("seed", seed, 0)
    ready = setting.prepare()
    history = _recurse(ready, setting, Condition(Replace(), Decoding(), 1), seed)
    return ready, history.models["all", 0].network


def _run_one(
    setting: Setting, condition: Condition, seed: int, checkpoint: Path | None, progress=False
) -> loop.History:
    ready = setting.prepare(progress=progress)
    history = _recurse(ready, setting, condition, seed, checkpoint=checkpoint, progress=progress)
    history.models.clear()  # networks are large, and the samples are what is asked for
    return history


def _recurse(
    ready: Prepared,
    setting: Setting,
    condition: Condition,
    seed: int,
    *,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> loop.History:
    return loop.recurse(
        ready.model(setting, decoding=condition.decoding, progress=progress),
        ready.train,
        workflow={"all": condition.workflow},
        n_generations=condition.n_generations,
        metrics={"language": Measures(ready.test)},
        keep_samples=len(ready.train),
        rng=np.random.default_rng(seed),
        progress=progress,
        checkpoint=checkpoint,
    )


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _first(name: str, X: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    return X if n is None else X[: checks.integer(name, n, 2)]


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
