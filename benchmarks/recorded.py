"""Repeat the paper's three systems on real data, at the published settings as far as time goes.

    python benchmarks/recorded.py [--minutes 40] [--data FOLDER] [mixtures] [digits] [language]

A run times a short step of itself, settles what fits into MINUTES of processor time (one thread, or
a GPU's host), and keeps that plan in ``_build/recorded``. Cut off, it goes on after its last
generation when the same command is given again. It ends with ``recorded/NAME.json``, from which
the page *Recorded runs* is made.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from machine import described
from sklearn.mixture import GaussianMixture

from collapse_book.files import write_atomic
from collapse_book.pages import revision
from collapse_book.project import Project
from collapse_utils import Mix, Replace, data, figures, recurse, text
from collapse_utils.metrics import mean_se
from collapse_utils.models import language, mixture
from collapse_utils.models.language import LanguageModel, block_losses
from collapse_utils.models.vae import ConvVAE
from collapse_utils.models.writing import Decoding
from collapse_utils.publishing import variants

Plan = dict[str, Any]
EDGES = np.geomspace(1, 1e4, 33)  # of the histogram of perplexities
#: Sizes of OPT to choose from: width, layers, heads; the last is that of OPT-125m.
SIZES = ((64, 1, 4), (128, 2, 4), (192, 3, 6), (256, 4, 8), (384, 6, 8), (512, 8, 8), (768, 12, 12))


def clock(_: object) -> dict[str, float]:
    """Processor time so far, in every generation: a run in several pieces adds them up."""
    return {"seconds": time.process_time()}


def spent(frame: Any) -> float:
    """Seconds of processor time of a run; where the clock fell back, another process went on."""
    seconds = frame.loc[frame["metric"] == "seconds"].groupby("generation", sort=True)["value"]
    steps = np.diff(seconds.max().to_numpy(), prepend=0.0)
    later = seconds.max().to_numpy()
    return float(np.where(steps < 0, later, steps).sum())


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time of the second of two calls."""
    work()
    start = time.process_time()
    work()
    return time.process_time() - start


# --------------------------------------------------------------------------- Gaussian mixtures


SEEN = (1, 50, 100, 150, 200, 350, 2000, 2050)  # the released notebook's generations


def plan_mixtures(seconds: float, _: str | None) -> Plan:
    """As many chains as fit, 4 to 100; all else as released."""
    plan = {"n_samples": 1000, "n_generations": 2050, "tol": 1e-5, "seed": 1}
    # A whole chain is timed: its first fits take several times as long as its last ones.
    each = timed(lambda: _chains(plan | {"n_replicates": 1}, None))
    return plan | {"n_replicates": int(np.clip(seconds / each, 4, 100))}


def _chains(plan: Plan, checkpoint: Path | None) -> Any:
    def from_first(snapshot: Any) -> dict[str, float]:
        if snapshot.generation not in SEEN:
            return {}
        mine, first = (
            mixture.Params.of(one.weights_, one.means_, one.covariances_)
            for one in (snapshot.model, snapshot.first_model)
        )
        variance = np.trace(mine.moments()[1][0]) / 2
        return {"l2": mixture.l2_distance(mine, first)[0], "sd": math.sqrt(variance)}

    return recurse(
        GaussianMixture(2, max_iter=2000, tol=plan["tol"]),
        lambda n, rng: rng.standard_normal((n, 2)),
        n_samples=plan["n_samples"],
        n_generations=plan["n_generations"],
        n_replicates=plan["n_replicates"],
        n_eval=1,
        metrics={"from first": from_first, "seconds": clock},
        rng=np.random.default_rng(plan["seed"]),
        checkpoint=checkpoint,
        progress=checkpoint is not None,
    )


def run_mixtures(plan: Plan, folder: Path, _: str | None) -> tuple[Plan, float]:
    """Distances from the first fit, and spread, over the chains: 10 %, 50 %, 90 %."""
    history = _chains(plan, folder / "run.checkpoint")
    seen = [g for g in SEEN if g <= plan["n_generations"]]
    found = {
        metric: np.quantile(history.array(metric)[seen], (0.1, 0.5, 0.9), axis=1).T.tolist()
        for metric in ("l2", "sd")
    }
    above = float((history.array("l2")[seen[-1]] > 536.28).mean())
    return {"generations": seen, "above": above} | found, spent(history.frame)


# --------------------------------------------------------------------------- digits


def plan_digits(seconds: float, root: str | None) -> Plan:
    """Five generations, as stored, of as many passes as fit, 1 to 30; then more generations."""
    images, _ = data.images("mnist10k", root=root, download=False)
    rng = np.random.default_rng(0)
    step = timed(lambda: ConvVAE(n_steps=4).fit(images, rng)) / 4
    each = step * math.ceil(len(images) / 256)  # one pass
    passes = int(np.clip(seconds / (5 * each), 1, 30))
    generations = int(np.clip(seconds / (passes * each), 5, 20))
    return {"passes": passes, "n_generations": generations, "batch_size": 256, "seed": 1}


def run_digits(plan: Plan, folder: Path, root: str | None) -> tuple[Plan, float]:
    """Spread of the codes that the first encoder gives to each generation's images."""
    images, _ = data.images("mnist10k", root=root, download=False)

    def spread(snapshot: Any) -> dict[str, float]:
        if snapshot.model is None:
            return {}
        codes = snapshot.first_model.encode(snapshot.sample)
        loss = float(snapshot.model.loss_[-40:].mean()) * plan["batch_size"]
        return {"spread": codes.std(), "mean": codes.mean(), "loss": loss}

    steps = plan["passes"] * math.ceil(len(images) / plan["batch_size"])
    history = recurse(
        ConvVAE(n_steps=steps, batch_size=plan["batch_size"]),
        images,
        n_generations=plan["n_generations"],
        metrics={"spread": spread, "seconds": clock},
        rng=np.random.default_rng(plan["seed"]),
        checkpoint=folder / "run.checkpoint",
        progress=True,
    )
    found = {name: history.array(name)[1:, 0].tolist() for name in ("spread", "mean", "loss")}
    return {"images": len(images), "steps": steps} | found, spent(history.frame)


# --------------------------------------------------------------------------- language


#: The two published conditions: passes, and what a generation trains on.
CONDITIONS = {
    "nothing kept": (5, Replace()),
    "10 % kept": (10, Mix(alpha=0.9, gamma=0.1)),
}


RATES = (1e-4, 3e-4, 1e-3)


def _texts(root: str | None, plan: Plan) -> tuple[Any, Any, Any, Any]:
    """Network, and blocks to train on, to choose by, to test on; the rest is for pre-training."""
    paragraphs, held_out = data.corpus(str(data.data_folder(root) / "wikitext-2"))
    rest, human = text.held_out(paragraphs, plan["share"])
    width, layers, heads = plan["size"]
    recipe = language.Recipe(
        vocabulary=plan["vocabulary"], hidden=width, layers=layers, heads=heads,
        steps=plan["pretraining"], rate=plan["pretraining_rate"],
    )  # fmt: skip
    pretraining = [*text.paragraphs("docstrings"), *rest]
    network, tokenizer = language.pretrained(pretraining, human, recipe)
    blocks, spare = np.split(language.blocks(human, tokenizer), [plan["n_blocks"]])
    return network, blocks, spare, language.blocks(held_out, tokenizer)[:512]


def plan_language(seconds: float, root: str | None) -> Plan:
    """The largest OPT that fits, or the smallest of all, and its best rate for human text."""
    data.corpus(str(data.data_folder(root) / "wikitext-2"))
    plan = {"n_blocks": 384, "vocabulary": 2048, "share": 0.2, "n_generations": 10, "batch": 16}
    plan |= {"pretraining": 1000, "pretraining_rate": 2e-3, "seed": 1}
    chosen = None
    for size in SIZES:
        recipe = language.Recipe(plan["vocabulary"], *size[:2], heads=size[2])
        blocks = np.random.default_rng(0).integers(4, plan["vocabulary"], (48, 64))
        model = LanguageModel(language.untrained(recipe), blocks, epochs=1, batch=16)
        train = timed(lambda m=model, b=blocks: m.fit(b, np.random.default_rng(0))) / 48
        model.decoding = Decoding(beams=5)
        write = timed(lambda m=model: m.write(np.random.default_rng(0))) / 48
        total = plan["pretraining"] * recipe.batch * recipe.context / 64 * train
        # Two conditions: 15 passes, two texts, and a look at them and at the test text.
        total += plan["n_generations"] * plan["n_blocks"] * (15 * train + 2 * write)
        total += plan["n_generations"] * 2 * (plan["n_blocks"] + 512) * train / 3
        if total > seconds and chosen is not None:
            break
        chosen = {"size": size, "estimate": round(total)}
    plan |= chosen
    network, blocks, spare, _ = _texts(root, plan)
    losses = {}
    for rate in RATES:
        model = LanguageModel(network, blocks, epochs=5, batch=plan["batch"], rate=rate)
        fitted = model.fit(blocks, np.random.default_rng(plan["seed"])).network
        losses[rate] = block_losses(fitted, spare).mean()
    return plan | {"rate": min(losses, key=losses.get)}


def run_language(plan: Plan, folder: Path, root: str | None) -> tuple[Plan, float]:
    """Perplexity of human text, and what the first model says of each generation's text."""
    network, blocks, _, test = _texts(root, plan)
    found: dict[str, Any] = {"zero_shot": block_losses(network, test).mean()}
    found |= {"weights": sum(p.numel() for p in network.parameters()), "n_test": len(test)}
    seconds = 0.0

    def measure(snapshot: Any) -> dict[str, float]:
        if snapshot.model is None:
            return {}
        judge = snapshot.first_model.network
        losses = block_losses(snapshot.model.network, test)
        counts = _histogram(block_losses(judge, snapshot.sample))
        values = {"loss": losses.mean(), "se": mean_se(losses)[1]} | counts
        if snapshot.generation == 1:
            values |= {f"human {k}": v for k, v in _histogram(block_losses(judge, test)).items()}
        return values

    for name, (epochs, workflow) in CONDITIONS.items():
        model = LanguageModel(
            network, blocks, epochs=epochs, batch=plan["batch"], rate=plan["rate"],
            decoding=Decoding(beams=5),
        )  # fmt: skip
        history = recurse(
            model,
            blocks,
            workflow={name: workflow},
            n_generations=plan["n_generations"],
            metrics={"text": measure, "seconds": clock},
            rng=np.random.default_rng(plan["seed"]),
            checkpoint=folder / f"{epochs}.checkpoint",
            progress=True,
        )
        bins = [f"bin {i:02}" for i in range(len(EDGES) + 1)]
        found[name] = {
            "loss": history.array("loss")[1:, 0].tolist(),
            "se": history.array("se")[1:, 0].tolist(),
            "judged": [history.array(bin)[1:, 0].tolist() for bin in bins],
            "human": [history.array(f"human {bin}")[1, 0] for bin in bins],
        }
        seconds += spent(history.frame)
    return found | {"edges": EDGES.tolist()}, seconds


def _histogram(losses: np.ndarray) -> dict[str, float]:
    """Share of the blocks in each bin of perplexity; the first and the last are open."""
    at = np.searchsorted(EDGES, np.exp(losses))
    shares = np.bincount(at, minlength=len(EDGES) + 1) / len(losses)
    return {f"bin {i:02}": share for i, share in enumerate(shares)}


def judged(numbers: Plan) -> str:
    """Histograms of a language run: what the first model says of each generation."""
    conditions, shown = ("nothing kept", "10 % kept"), (1, 2, 3, 4, 6, 10)
    inner = numbers["edges"]  # the first and the last bin are open
    centres = [(low * high) ** 0.5 for low, high in pairwise(inner)]
    centres = [inner[0], *centres, inner[-1]]
    axis = {"xscale": "log", "xlabel": "perplexity under the first model"}
    figures.use_theme()
    fig, axes = figures.panels(*conditions, sharey=True, ylabel="share of blocks", **axis)
    for ax, condition in zip(axes, conditions, strict=True):
        found = numbers[condition]
        for generation, colour in zip(shown, figures.generation_colours(len(shown)), strict=True):
            shares = [row[generation - 1] for row in found["judged"]]
            ax.plot(centres, shares, color=colour, label=f"generation {generation}")
        ax.plot(centres, found["human"], label="human test text", **figures.THEORY)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return variants(fig, alt="Two histograms: generated blocks by their perplexity, by generation.")


# --------------------------------------------------------------------------- command


RUNS = {
    "mixtures": (plan_mixtures, run_mixtures),
    "digits": (plan_digits, run_digits),
    "language": (plan_language, run_language),
}


def perform(project: Project, name: str, minutes: float, root: str | None) -> None:
    """One run from its plan to its file; goes on with the plan of a run that was cut off."""
    make_plan, run = RUNS[name]
    folder = project.build / "recorded" / name
    file = folder / "plan.json"
    saved = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if saved.get("minutes") != minutes:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        saved = {"minutes": minutes, "commit": revision(project)}
        saved |= {"plan": make_plan(60 * minutes, root)}
        write_atomic(file, json.dumps(saved))
    click.echo(f"{name}: {json.dumps(saved['plan'])}")
    numbers, seconds = run(saved["plan"], folder, root)
    record = described() | {"commit": saved["commit"], "minutes": minutes}
    record |= {"seconds": round(seconds), "parameters": saved["plan"], "numbers": rounded(numbers)}
    if name == "language":
        record["picture"] = judged(record["numbers"])
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomic(project.recorded / f"{name}.json", text + "\n")
    shutil.rmtree(folder)
    click.echo(f"{name}: {seconds / 60:.1f} minutes of processor time, recorded/{name}.json")


def rounded(thing: Any) -> Any:
    """Numbers to five digits."""
    if isinstance(thing, dict):
        return {key: rounded(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [rounded(value) for value in thing]
    return float(f"{thing:.5g}") if isinstance(thing, float) else thing


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*RUNS]))
@click.option("--minutes", default=40.0, show_default=True, type=click.FloatRange(min=0.01))
@click.option("--data", "root", help="Folder with mnist/ and wikitext-2/, else COLLAPSE_DATA_DIR.")
def main(names: tuple[str, ...], minutes: float, root: str | None) -> None:
    """Repeat NAMES (default: all), each in MINUTES of processor time; write recorded/NAME.json."""
    if not math.isfinite(minutes):  # which click takes for a number in the range
        raise click.BadParameter(f"{minutes} is not finite", param_hint="--minutes")
    torch.set_num_threads(1)
    for name in names or RUNS:
        perform(Project.find(), name, minutes, root)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
