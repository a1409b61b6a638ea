"""Does a language model collapse on its own text? Any causal model of transformers, any text.

    python own_language_model.py MODEL TEXT [--replicates 3] [--generations 4] ...

MODEL is a folder with a checkpoint (config, tokenizer, safetensors), TEXT a folder with train.txt
and test.txt. The same command goes on where it was cut off. A GPU is used if there is one.
"""

import argparse
import os
import resource
import sys
import time

import numpy as np
import torch

from collapse_utils import Accumulate, Mix, Replace, Yardstick, data, diagnose, recurse
from collapse_utils.models import language
from collapse_utils.models.language import LanguageModel, block_losses

WORKFLOWS = {
    "replace": Replace(),
    "accumulate": Accumulate(),
    "10 % real": Mix(alpha=0.9, gamma=0.1),
}


class Writer:
    """Fine-tunes the network on blocks of tokens, then continues as many human blocks."""

    def __init__(self, network, human, unseen, settings):
        self.network, self.settings = network, settings
        self.human, self.unseen = human, unseen

    def fit(self, X, rng):
        prompts = rng.permutation(self.human)[: self.settings["n_blocks"]]
        steps = {name: self.settings[name] for name in ("epochs", "batch", "rate")}
        tuned = LanguageModel(self.network, prompts, **steps).fit(X, rng)
        written = tuned.write(rng)
        loss = block_losses(tuned.network, self.unseen).mean()
        vars(self).clear()  # networks are large, and nobody asks this one again
        self.written, self.loss = written, loss
        return self

    def sample(self, n):
        return self.written[:n]


def repeated(X, n):
    """Share of the n-grams of each block that stood earlier in it."""
    grams = np.sort(np.lib.stride_tricks.sliding_window_view(X, n, axis=1) @ KEYS[:n], axis=1)
    return (np.diff(grams, axis=1) == 0).mean(axis=1)


KEYS = np.random.default_rng(0).integers(1, 2**61, 4)  # an n-gram as one number, modulo 2^64


def measures(judge, unseen, rng):
    """The yardstick of the report, on four numbers of a block, and four measures of the text."""

    def numbers(X):
        different = [len(np.unique(block)) / len(block) for block in X]
        return np.column_stack([block_losses(judge, X), different, repeated(X, 2), repeated(X, 4)])

    of_unseen = numbers(unseen)
    yardstick, unlikely = Yardstick(of_unseen, rng), np.quantile(of_unseen[:, 0], 0.95)

    def measure(snapshot):
        found = numbers(snapshot.sample)
        grams = np.lib.stride_tricks.sliding_window_view(snapshot.sample, 2, axis=1)
        values = {
            "distinct 2-grams": len(np.unique(grams.reshape(-1, 2), axis=0)) / grams[..., 0].size,
            "repeated 4-grams": found[:, 3].mean(),
            "tail under the first model": (found[:, 0] > unlikely).mean(),
        }
        if snapshot.model is not None:
            values["perplexity of human text"] = np.exp(snapshot.model.loss)
        return yardstick(found) | values

    return measure


def announce(network, human, settings, n_lineages, n_generations):
    """Times a few steps of a fit and a piece of writing, and says what the whole run will take."""
    n, rng, seconds = settings["n_blocks"], np.random.default_rng(0), []
    some = human[: min(n, 128)]
    model = LanguageModel(network, some, epochs=1, batch=settings["batch"], rate=settings["rate"])
    model.fit(some[:1], rng)  # what is only slow at first is no part of the time
    for work in (lambda: model.fit(some, rng), lambda: model.write(rng)):
        start = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - start) / len(some))
    fits = n_lineages * n_generations + 1
    total = fits * n * (settings["epochs"] * seconds[0] + seconds[1])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory *= 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated()
    disk = n_lineages * (n_generations + 4) * n * (human[0].nbytes + 8)
    print(
        f"{fits} fits to {n} blocks: about {total / 60:.1f} minutes, {memory / 1e9:.1f} GB of "
        f"{'graphics' if torch.cuda.is_available() else 'main'} memory, at most "
        f"{disk / 1e6:.1f} MB of disk",
        flush=True,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("text")
    for name, default in (
        ("replicates", 3), ("generations", 4), ("n_blocks", 400), ("block", 64), ("epochs", 3),
        ("batch", 16), ("rate", 2e-5), ("seed", 1), ("checkpoint", "run.pickle"),
        ("report", "report.html"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args(arguments)
    lowest = {"replicates": 3, "generations": 2, "n_blocks": 20, "epochs": 1, "seed": 0}
    for name, least in lowest.items():
        if getattr(given, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(given, name)}")
    for name in ("checkpoint", "report"):
        if not os.access(os.path.dirname(os.path.abspath(getattr(given, name))), os.W_OK):
            parser.error(
                f"--{name} must be in a folder that can be written, got {getattr(given, name)!r}"
            )
    settings = {name: getattr(given, name) for name in ("n_blocks", "epochs", "batch", "rate")}

    train, test = data.corpus(given.text)
    network, tokenizer = language.base(given.model)
    human = language.blocks(train, tokenizer, given.block)
    unseen = language.blocks(test, tokenizer, given.block)[: given.n_blocks]
    for part, blocks, least in (("train", human, given.n_blocks), ("test", unseen, 20)):
        if len(blocks) < least:
            parser.error(
                f"{part}.txt must fill {least} blocks of {given.block} tokens, got {len(blocks)}"
            )
    announce(network, human, settings, len(WORKFLOWS) * given.replicates, given.generations)

    rng = np.random.default_rng(given.seed)
    steps = {name: settings[name] for name in ("epochs", "batch", "rate")}
    judge = LanguageModel(network, human[: given.n_blocks], **steps).fit(human, rng).network
    history = recurse(
        lambda: Writer(network, human, unseen, settings),
        human,
        workflow=WORKFLOWS,
        n_samples=given.n_blocks,
        n_generations=given.generations,
        n_replicates=given.replicates,
        metrics={"text": measures(judge, unseen, rng)},
        rng=rng,
        checkpoint=given.checkpoint,
        progress=True,
    )
    report = diagnose(history)
    report.save(given.report)
    print(report)
    return report


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
