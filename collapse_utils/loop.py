"""The one loop: fit, sample, compose the next training set, measure, repeat."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import _checkpoint, _checks, _tables
from .workflows import Replace, Sources, TrainingSet, Workflow


class Model(Protocol):
    """scikit-learn's convention for density models: ``fit(X)`` and ``sample(n)``."""

    def fit(self, X: _tables.Rows) -> Any: ...

    def sample(self, n: int) -> Any: ...


@dataclass(frozen=True)
class Snapshot:
    """What a metric may look at: one lineage at one generation. Rows are copies, for it alone.

    - `generation`, `replicate`: Generation 0 is the real data; replicates count from 0.
    - `workflow`: Name of the workflow.
    - `model`, `first_model` (Model or None): The fitted model of this generation and of generation
      1 (None at generation 0).
    - `training` (array or table): What the model was fitted on (the real data at generation 0).
    - `origin` (ndarray of int): Generation that wrote each training row.
    - `sample` (array or table): ``n_eval`` rows written by the model. At generation 0: as many real
      rows, or the whole first training set where the data are an array.
    """

    generation: int
    replicate: int
    workflow: str
    model: Any
    first_model: Any
    sample: _tables.Rows
    _trained_on: TrainingSet

    @functools.cached_property
    def training(self) -> _tables.Rows:
        return self._trained_on.X.copy()

    @functools.cached_property
    def origin(self) -> NDArray[np.int64]:
        return self._trained_on.origin.copy()


Metric = Callable[[Snapshot], float | Mapping[str, float]]


@dataclass
class History:
    """Everything measured along the generations.

    - `frame` (pandas.DataFrame): Tidy: one row per workflow, generation, replicate and metric.
    - `samples` (dict): ``samples[workflow, replicate][generation]`` are the rows that were kept.
    - `models` (dict): ``models[workflow, replicate]`` is the last fitted model.
    - `call` (dict): What was asked of `recurse`, in words, for a report.
    """

    frame: pd.DataFrame
    samples: dict[tuple[str, int], list[_tables.Rows]] = field(default_factory=dict)
    models: dict[tuple[str, int], Any] = field(default_factory=dict)
    call: dict[str, str] = field(default_factory=dict)

    def array(self, metric: str, workflow: str | None = None) -> NDArray[np.float64]:
        """Values of one metric.

        - `metric`: Name of the metric.
        - `workflow`: Needed when several workflows were run.

        Returns ndarray, shape (G + 1, R): Row g is generation g, column r is replicate r; NaN where
        the metric was not reported.
        """
        if self.frame.empty:
            raise ValueError(f"metric {metric!r} was not recorded: pass metrics to recurse")
        names = self.frame["workflow"].unique()
        if workflow is None and len(names) == 1:
            workflow = names[0]
        _checks.one_of(*names)("workflow", workflow)
        _checks.one_of(*self.frame["metric"].unique())("metric", metric)
        rows = self.frame[(self.frame["workflow"] == workflow) & (self.frame["metric"] == metric)]
        shape = self.frame["generation"].max() + 1, self.frame["replicate"].max() + 1
        table = np.full(shape, np.nan)
        table[rows["generation"], rows["replicate"]] = rows["value"]
        return table


@dataclass
class _Lineage:
    """State of one workflow x replicate."""

    workflow: str
    replicate: int
    rng: np.random.Generator
    original: TrainingSet
    training: TrainingSet
    pool: TrainingSet
    fresh: _RealData
    first_model: Any = None
    model: Any = None
    kept: list[_tables.Rows] = field(default_factory=list)


class _RealData:
    """Real rows that are handed out once: from an array or table, or from a law for ever."""

    def __init__(self, data: Any, kind: _tables.Kind | None, rng: np.random.Generator):
        self.data, self.kind = data, kind
        self._rng = rng
        self._order = None if callable(data) else rng.permutation(len(data))
        self._used = 0

    def __call__(self, n: int) -> _tables.Rows:
        if self._order is None:
            return self.draw(n, self._rng)
        if self._used + n > len(self.data):
            raise ValueError(
                f"the workflow needs {n} more real rows, but only {len(self.data) - self._used} of "
                f"{len(self.data)} are unseen; pass data as a callable (n, rng) -> rows, or fewer "
                "samples or generations"
            )
        rows = self._order[self._used : self._used + n]
        self._used += n
        return _tables.take(self.data, rows)

    def draw(self, n: int, rng: np.random.Generator) -> _tables.Rows:
        """Rows of a law; the first say of which kind all others are."""
        drawn = self.data(n, rng)
        if self.kind is not None:
            return self.kind(drawn, n, "data(n, rng)")
        rows = _tables.rows(drawn, "data(n, rng)")
        if len(rows) != n:
            raise ValueError(f"data(n, rng) must return n rows, got shape {rows.shape} for n={n}")
        self.kind = _tables.Kind(rows, whole=False)
        return rows

    def branch(self) -> _RealData:
        """A source that hands out the same unseen rows again, for another workflow."""
        twin = copy.copy(self)
        twin.data = self.data
        if self._order is None:  # rows of an array are in order already
            twin._rng = copy.deepcopy(self._rng)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # The data itself is passed again on resuming and may not be picklable.
        return {**self.__dict__, "data": None}


@_checks.checked(
    n_generations=_checks.whole(1),
    rng=_checks.rng,
    n_replicates=_checks.whole(1),
    n_eval=_checks.whole(1),
    keep_samples=_checks.whole(),
    metrics=_checks.metrics,
    checkpoint=_checks.path,
)
def recurse(
    model: Model | Callable[[], Model],
    data: _tables.Rows | Callable[[int, np.random.Generator], _tables.Rows],
    *,
    n_generations: int,
    rng: np.random.Generator,
    workflow: Workflow | Mapping[str, Workflow] | None = None,
    n_samples: _checks.Schedule | None = None,
    n_replicates: int = 1,
    metrics: Mapping[str, Metric] | None = None,
    n_eval: int | None = None,
    keep_samples: int = 0,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> History:
    """Train generation after generation on data that earlier generations wrote.

    Generation 0 is the real data. Generation 1 is fitted on it, and every later generation is
    fitted afresh on the training set that the workflow composes (*learning with generational
    data*, Shumailov et al. 2024, section "What is model collapse?").

    - `model` (object with ``fit(X)`` and ``sample(n)``, or a callable that makes one): An unfitted
      prototype, copied for every fit: scikit-learn's ``GaussianMixture`` and ``KernelDensity``, a
      pipeline that ends in one, the models of this package, or your own class. ``fit`` and
      ``sample`` may take ``rng`` (a Generator) or ``random_state`` (an int) for reproducible runs.
      A model with ``fit_many(list_of_X, rng)`` that returns a list of fitted models is trained for
      all lineages at once.
    - `data` (array of shape (N, ...), DataFrame, or callable ``(n, rng) -> rows``): The real rows,
      or a distribution to draw them from. A DataFrame keeps its columns, types and missing values.
    - `n_generations`: Number of generations G to fit, at least 1.
    - `rng`: Every lineage draws from its own child generator.
    - `workflow` (Workflow or dict of name -> Workflow): What each generation trains on; default
      :class:`Replace`. The workflows of a dict start from the same real rows, replicate by
      replicate.
    - `n_samples` (int, sequence, or callable ``generation -> int``): Rows for each generation (new
      rows, under :class:`Accumulate`). Default: all rows of `data` when that is an array.
    - `n_replicates`: Independent repetitions R.
    - `metrics` (dict of name -> callable): Each takes a :class:`Snapshot` and returns a number or a
      dict of numbers.
    - `n_eval`: Rows drawn from each model for the metrics; default the size of generation 1.
    - `keep_samples`: Rows of each generation to keep in ``History.samples``.
    - `progress`: Show how many fits are done and how long the rest will take (standard error).
    - `checkpoint`: File written after every generation. Run the same call again and it continues
      after the last generation that was finished; with a larger `n_generations` it extends the run.
      It is a pickle: only load your own.
    """
    make = _factory(model)
    if not callable(data):
        data = _tables.rows(data, "data")
        if len(data) == 0:
            raise ValueError(f"data must hold at least one row, got shape {data.shape}")
    if n_samples is None and callable(data):
        raise ValueError("n_samples must be given when data is a callable, got None")
    sizes = _checks.schedule(len(data) if n_samples is None else n_samples, n_generations)
    if not callable(data) and sizes[0] > len(data):
        raise ValueError(f"n_samples must be at most the {len(data)} rows of data, got {sizes[0]}")
    n_eval = int(sizes[0]) if n_eval is None else n_eval
    single = Replace() if workflow is None else workflow
    several = isinstance(workflow, Mapping)
    workflows = dict(workflow) if several else {type(single).__name__: single}
    if not workflows:
        raise ValueError("workflow must name at least one workflow, got an empty dict")
    for name, one in workflows.items():
        if not isinstance(name, str):
            raise ValueError(f"workflow must have names that are texts, got {name!r}")
        _checks.workflow("workflow", one, sizes, None if callable(data) else len(data))
    metrics = metrics or {}
    run = {"model": model, "data": data, "workflow": workflows, "metrics": metrics, "rng": rng}
    run |= {"n_replicates": n_replicates, "n_eval": n_eval, "keep_samples": keep_samples}
    # The sizes of the generations are compared separately, so that a run can be extended.
    same = {} if checkpoint is None else {k: _checkpoint.identity(v, k) for k, v in run.items()}
    call = {
        "model": _said(model),
        "data": _said(data),
        "workflow": ", ".join(f"{name}: {_said(one)}" for name, one in workflows.items()),
        "n_generations": f"{n_generations}",
        "n_samples": ", ".join(f"{size}" for size in dict.fromkeys(sizes.tolist())),
        "n_replicates": f"{n_replicates}",
        "seed": f"{getattr(rng.bit_generator.seed_seq, 'entropy', 'unknown')}",
    }
    # Spawned on resuming too, so that whatever `rng` is used for next does not depend on it.
    real_rngs, line_rngs = rng.spawn(n_replicates), rng.spawn(n_replicates * len(workflows))
    fit_rng = rng.spawn(1)[0]
    state = None if checkpoint is None else _checkpoint.load(checkpoint, same, sizes.tolist())
    if state is None:
        lineages = _start(data, workflows, int(sizes[0]), real_rngs, line_rngs)
        records, done = [], 0
        for line in lineages:
            with _placed(line, 0):
                own = callable(data)
                rows = line.fresh.draw(n_eval, line.rng) if own else line.original.X.copy()
                _measure(line, 0, None, rows, metrics, keep_samples, records)
    else:
        lineages, fit_rng, records, done = state
        for line in lineages:
            line.fresh.data = data

    n_lines = len(lineages)
    tick = _ticks(progress, done * n_lines, n_generations * n_lines)
    for generation in range(done + 1, n_generations + 1):
        if generation > 1:
            for line in lineages:
                with _placed(line, generation):
                    _compose(line, workflows[line.workflow], generation, int(sizes[generation - 1]))
        _fit(make, lineages, fit_rng, generation, tick)
        for line in lineages:
            if line.first_model is None:
                line.first_model = line.model
            with _placed(line, generation):
                sample = _draw(line, n_eval)
                _measure(line, generation, line.model, sample, metrics, keep_samples, records)
        if checkpoint is not None:
            state = (lineages, fit_rng, records, generation)
            _checkpoint.save(checkpoint, same, sizes[:generation].tolist(), state)
    names = ["workflow", "generation", "replicate", "metric", "value"]
    kept = {(line.workflow, line.replicate): line.kept for line in lineages}
    models = {(line.workflow, line.replicate): line.model for line in lineages}
    return History(pd.DataFrame(records, columns=names), kept, models, call)


def _said(thing: Any) -> str:
    """A model, a workflow or data in words."""
    if isinstance(thing, np.ndarray):
        return f"array of shape {thing.shape}, {thing.dtype}"
    if _tables.is_table(thing):
        columns = ", ".join(f"{name} {dtype}" for name, dtype in thing.dtypes.items())
        return f"table of {len(thing)} rows: {columns}"
    name = getattr(thing, "__qualname__", None) or repr(thing)
    return name if len(name) <= 200 else f"{name[:200]}..."


@contextlib.contextmanager
def _placed(line: _Lineage, generation: int) -> Iterator[None]:
    """An error says in which lineage and generation it happened."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"in generation {generation}, replicate {line.replicate}, workflow {line.workflow!r}"
        )
        raise


def _steps(model: Any) -> list[Any]:
    """Steps of a scikit-learn pipeline that can sample: its rows go back through all but the last.

    Empty for everything else.
    """
    steps = [step for _, step in getattr(model, "steps", ()) if step not in (None, "passthrough")]
    for step in steps[:-1]:
        if not hasattr(step, "inverse_transform"):
            raise ValueError(
                "model must have steps with inverse_transform before its last one, got "
                f"{_checks.short(step)}"
            )
    return steps if steps and hasattr(steps[-1], "sample") else []


def _is_model(thing: Any) -> bool:
    return hasattr(thing, "fit") and (hasattr(thing, "sample") or bool(_steps(thing)))


def _factory(model: Any) -> Callable[[], Any]:
    if not inspect.isclass(model) and _is_model(model):
        try:
            copy.deepcopy(model)
        except Exception as error:
            raise ValueError(
                f"model cannot be copied ({type(error).__name__}: {error}): give a function or a "
                "class that makes it"
            ) from error
        return lambda: copy.deepcopy(model)
    if callable(model):
        return model
    raise ValueError(
        "model must have fit(X) and sample(n), or be a callable that makes one, got "
        f"{_checks.short(model)}"
    )


def _start(data, workflows, n_first, real_rngs, line_rngs) -> list[_Lineage]:
    """The lineages: workflows share the real data of a replicate."""
    lineages, seeds = [], iter(line_rngs)
    kind = None if callable(data) else _tables.Kind(data, whole=True)
    for replicate, real_rng in enumerate(real_rngs):
        source = _RealData(data, kind, real_rng)
        first = TrainingSet.of(source(n_first), 0)
        for name in workflows:
            fresh = source.branch()
            lineages.append(_Lineage(name, replicate, next(seeds), first, first, first, fresh))
    return lineages


@functools.lru_cache  # a look at a signature takes longer than a small Gaussian's fit
def _parameters(function: Callable) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except ValueError:  # a builtin without a signature takes no keyword that is offered
        return frozenset()


def _keywords(method: Callable, rng: np.random.Generator) -> dict[str, Any]:
    names = _parameters(getattr(method, "__func__", method))
    if "rng" in names:
        return {"rng": rng}
    if "random_state" in names:
        return {"random_state": int(rng.integers(2**31))}
    return {}


def _fit(
    make: Callable[[], Any],
    lineages: list[_Lineage],
    fit_rng: np.random.Generator,
    generation: int,
    tick: Callable[[int], object],
) -> None:
    """Fit a model for each lineage on rows of its own: a fit may change them."""
    prototype = make()
    if not _is_model(prototype):
        raise ValueError(
            f"model() must return an object with fit and sample, got {_checks.short(prototype)}"
        )
    together = hasattr(prototype, "fit_many")
    if together:
        models = prototype.fit_many([line.training.X.copy() for line in lineages], rng=fit_rng)
    else:
        models = [_seeded(make(), line.rng) for line in lineages]
    for line, model in zip(lineages, models, strict=True):
        line.model = model
    # An object that two lineages share holds the fit of the last; the prototype stays unfitted.
    if len({id(prototype), *map(id, models)}) <= len(lineages):
        raise ValueError("model() must return a new object at each call, got the same one twice")
    for line in lineages:
        if not together:
            with _placed(line, generation):
                line.model.fit(line.training.X.copy(), **_keywords(line.model.fit, line.rng))
        tick(1)


def _seeded(model: Any, rng: np.random.Generator) -> Any:
    """scikit-learn keeps its seed as a parameter; GaussianMixture.sample uses it too."""
    names = model.get_params() if hasattr(model, "set_params") else ()
    for name in names:
        if name.rpartition("__")[2] == "random_state":
            model.set_params(**{name: np.random.RandomState(int(rng.integers(2**31)))})
    return model


def _written(model: Any, n: int, rng: np.random.Generator) -> Any:
    """`n` rows as a fitted model gives them; those of a pipeline go back through its steps."""
    steps = [] if hasattr(model, "sample") else _steps(model)
    last = steps[-1] if steps else model
    try:
        drawn = last.sample(n, **_keywords(last.sample, rng))
    except NotImplementedError as error:  # KernelDensity samples with two of its kernels
        raise ValueError(
            f"model cannot sample as it is set up: {_checks.short(last)} {error}"
        ) from None
    drawn = drawn[0] if isinstance(drawn, tuple) else drawn  # rows and labels of a mixture
    for step in steps[-2::-1]:
        drawn = step.inverse_transform(drawn)
    return drawn


def _draw(line: _Lineage, n: int) -> _tables.Rows:
    return line.fresh.kind(_written(line.model, n, line.rng), n, f"model.sample({n})")


def _compose(line: _Lineage, workflow: Workflow, generation: int, n_samples: int) -> None:
    sources = Sources(
        generation=generation,
        model=lambda n: TrainingSet.of(_draw(line, n), generation - 1) if n else line.original[:0],
        fresh=lambda n: TrainingSet.of(line.fresh(n), 0) if n else line.original[:0],
        original=line.original,
        previous=line.training,
        pool=line.pool,
        rng=line.rng,
    )
    line.training, line.pool = workflow.compose(sources, n_samples)


def _measure(line, generation, model, sample, metrics, keep, records) -> None:
    """Every metric gets a copy of the sample, and the last the sample itself."""
    seen, left = set(), len(metrics)
    if keep:
        line.kept.append(_tables.take(sample, slice(keep)).copy())
    for name, metric in metrics.items():
        left -= 1
        snapshot = Snapshot(
            generation=generation,
            replicate=line.replicate,
            workflow=line.workflow,
            model=model,
            first_model=line.first_model,
            sample=sample.copy() if left else sample,
            _trained_on=line.training,
        )
        value = metric(snapshot)
        values = value if isinstance(value, Mapping) else {name: value}
        for key, number in values.items():
            if key in seen:
                raise ValueError(f"metrics must report each name once, got {key!r} twice")
            seen.add(key)
            try:
                number = float(number)
            except (TypeError, ValueError):
                raise ValueError(
                    f"metrics[{name!r}] must return a number or a dict of numbers, got "
                    f"{_checks.short(number)} for {key!r}"
                ) from None
            records.append((line.workflow, generation, line.replicate, key, number))


def _ticks(progress: bool, done: int, total: int) -> Callable[[int], object]:
    """What counts fits, and shows how long the rest will take."""
    if not progress:
        return lambda n: None
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, desc="fits").update
