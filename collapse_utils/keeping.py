"""What keeping old data, or finding new ones, does to the loop: exact laws beside raw simulation.

One quantity serves every workflow: the *kinship* C_n, the probability that two rows, drawn with
replacement from the n-th training set, descend from the same real row. A word is a copy of a row
of the training set, so two words differ with probability H_0 (1 - C_n). A Gaussian fitted by
maximum likelihood keeps the first two moments of its training set, and therefore E[mean_n^2] = C_n
and E[v_n] = 1 - C_n, in units of the true variance, although no row is copied.

Throughout, index 0 of an array over generations is the truth and index n the n-th fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import categorical, checks, gaussian
from .workflows import Accumulate, AccumulateSubsample, FreshData, Mix, Replace, Workflow

Array = NDArray[np.float64]


# --------------------------------------------------------------------------- exact laws


def kinship(
    workflow: Workflow | None = None,
    *,
    n_samples: checks.Schedule,
    n_generations: int,
    refit: bool = True,
) -> Array:
    """C_n under a workflow, exactly.

    With M rows in the training set, two draws meet in one row with probability 1/M; otherwise
    they are two rows, whose kinship follows from who wrote them. Rows of one model have the
    kinship C of its training set; a row of the model and a row that was kept have the mean
    kinship of the kept row with the model's training set, itself included.

    Parameters
    ----------
    workflow : Replace, Accumulate, AccumulateSubsample, FreshData, or Mix with ``beta=0``
        Default :class:`Replace`. ``Mix(redraw=False)`` needs the same number of original rows
        in every generation.
    n_samples : int, sequence, or callable ``generation -> int``
    n_generations : int
        G.
    refit : bool
        False: the noise of every new row has the true variance, as in linear regression or when
        only a mean is estimated. Then C_n is the variance of the n-th fitted mean.

    Returns
    -------
    ndarray, shape (G + 1,)

    Raises
    ------
    ValueError
        If an argument is out of range or the workflow has no such recursion.
    """
    workflow = Replace() if workflow is None else workflow
    n_generations = checks.integer("n_generations", n_generations, 1)
    sizes = checks.schedule(n_samples, n_generations)
    if isinstance(workflow, Replace):
        steps = _fresh(FreshData(0.0), sizes, refit)
    elif isinstance(workflow, FreshData):
        steps = _fresh(workflow, sizes, refit)
    elif isinstance(workflow, Accumulate):
        steps = _accumulate(sizes, refit)
    elif isinstance(workflow, AccumulateSubsample):
        steps = _subsample(sizes, refit)
    elif isinstance(workflow, Mix) and workflow.beta == 0:
        workflow.check(sizes, None)
        steps = _mix(workflow, sizes, refit)
    else:
        raise ValueError(
            "workflow must be Replace, Accumulate, AccumulateSubsample, FreshData or Mix with "
            f"beta=0, got {workflow!r}"
        )
    return np.array([0.0, *steps])


def _fresh(workflow: FreshData, sizes: NDArray[np.int64], refit: bool) -> Iterator[float]:
    c = 1 / sizes[0]
    yield c
    for m in sizes[1:]:
        a = workflow.counts(int(m))[0]
        c = (m + (not refit) * a * c + a * (a - 1) * c) / m**2
        yield c


def _accumulate(sizes: NDArray[np.int64], refit: bool) -> Iterator[float]:
    # Two draws meet in a new row with probability M/N^2. Otherwise each is, or descends from, a
    # uniform draw from the previous pool, independently of the other.
    c = 0.0
    for m, n in zip(sizes, np.cumsum(sizes), strict=True):
        c += m / n**2 * (1 - c if refit else 1)
        yield c


def _subsample(sizes: NDArray[np.int64], refit: bool) -> Iterator[float]:
    # `pool` is the mean kinship of two different rows of the pool, `own` the mean over its rows
    # of the variance of the fit that wrote them (zero for real rows; only without refit).
    rows, pool, own = int(sizes[0]), 0.0, 0.0
    c = 1 / rows
    yield c
    for m in map(int, sizes[1:]):
        old_new = (1 + own) / rows + (1 - 1 / rows) * pool
        total = rows + m
        pool = (
            rows * (rows - 1) * pool + 2 * rows * m * old_new + m * (m - 1) * c
        ) / (total * (total - 1))  # fmt: skip
        own = 0.0 if refit else (rows * own + m * c) / total
        rows = total
        c = (1 + own) / m + (1 - 1 / m) * pool
        yield c


def _mix(workflow: Mix, sizes: NDArray[np.int64], refit: bool) -> Iterator[float]:
    c = 1 / sizes[0]
    cross = 1 / sizes[0]  # kinship of an original row and a row of the latest model
    yield c
    counts = [workflow.counts(int(m)) for m in sizes[1:]]
    if not workflow.redraw and len({original for _, _, original in counts}) > 1:
        raise ValueError(
            "n_samples must keep the same number of original rows in every generation, got sizes "
            f"{sizes.tolist()}"
        )
    for m, (a, _, kept) in zip(sizes[1:], counts, strict=True):
        c = (m + (not refit) * a * c + a * (a - 1) * c + 2 * a * kept * cross) / m**2
        if not workflow.redraw and kept:
            # The kept row is in the training set: it meets itself. With redraw, a random row of
            # the archive is the row that was chosen with probability 1/M_1, and `cross` stays.
            cross = (1 + a * cross) / m
        yield c


def square_sum(n: ArrayLike) -> Array:
    """1 + 1/4 + 1/9 + ... + 1/n^2, which tends to pi^2/6; 0 for n = 0."""
    n = np.asarray(n, dtype=int)
    k = np.arange(1, n.max(initial=1) + 1, dtype=float)
    return np.concatenate([[0.0], np.cumsum(k**-2)])[n]


def subsample_growth(n: ArrayLike) -> Array:
    """M C_n for large M under AccumulateSubsample: 3 (1 + ... + 1/n^2) - 2, up to pi^2/2 - 2.

    Let u_n / M be the mean kinship of two different rows of a pool of n M rows. Of two different
    rows of the next pool, n^2 shares in (n+1)^2 are both old (u), 2n are mixed (1/n + u) and one
    is new (1 + u), so u_{n+1} = u_n + 3/(n+1)^2; and a sample of M rows has M C_n = 1 + u_n.
    The limit is the plateau of the third workflow of Kazdan et al. (2025).
    """
    n = np.asarray(n, dtype=int)
    return np.where(n > 0, 3 * square_sum(n) - 2, 0.0)


def fresh_limit(n_samples: int, n_real: int) -> float:
    """C for ever when n_real of M rows are fresh: 1 / (1 + 2k - k(k+1)/M) with k = n_real.

    The fixed point of FreshData. For M much larger than k only the *number* of real rows is
    left, 1/(1 + 2k): Wright's island model (haploid) of population genetics.
    """
    m, k = _real_rows(n_samples, n_real)
    return 1 / (1 + 2 * k - k * (k + 1) / m)


def archive_limit(n_samples: int, n_real: int, archive: int | None = None) -> float:
    """C for ever when n_real of M rows come from an archive of real rows.

    With A = M - n_real rows of the model, the fixed point is
    (M + 2 A n_real / N) / (M^2 - A (A - 1)), where N is the number of rows that the n_real are
    chosen from anew each time; N = n_real replays one fixed set for ever. Same form as in the
    synthetic augmentation loop of Alemohammad et al. (2024).

    Parameters
    ----------
    n_samples, n_real : int
        M and the number of real rows in each training set, 1 <= n_real <= M.
    archive : int
        N >= n_real; default n_real.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    m, k = _real_rows(n_samples, n_real)
    n = k if archive is None else checks.integer("archive", archive, k)
    a = m - k
    return (m + 2 * a * k / n) / (m**2 - a * (a - 1))


def _real_rows(n_samples: int, n_real: int) -> tuple[int, int]:
    m = checks.integer("n_samples", n_samples, 1)
    return m, checks.integer("n_real", n_real, 1, m)


# --------------------------------------------------------------------------- raw rows


def training_sets(
    workflow: Workflow,
    sizes: NDArray[np.int64],
    real: Callable[[int], NDArray],
    write: Callable[[NDArray, int], NDArray],
    rng: np.random.Generator,
) -> Iterator[NDArray]:
    """Training sets of generations 1, 2, ..., of R lineages at once, row by row.

    Parameters
    ----------
    workflow : Replace, Accumulate, AccumulateSubsample, FreshData, or Mix with ``beta=0``
    sizes : ndarray of int, shape (G,)
    real : callable
        ``n -> array (R, n, ...)`` of real rows.
    write : callable
        ``training, n -> array (R, n, ...)``: fit each lineage to its training set and write.
    rng : numpy.random.Generator

    Yields
    ------
    ndarray, shape (R, rows, ...)

    Raises
    ------
    ValueError
        If the workflow is none of these.
    """
    if not isinstance(workflow, (Replace, Accumulate, AccumulateSubsample, FreshData, Mix)) or (
        isinstance(workflow, Mix) and workflow.beta > 0
    ):
        raise ValueError(
            "workflow must be Replace, Accumulate, AccumulateSubsample, FreshData or Mix with "
            f"beta=0, got {workflow!r}"
        )
    original = training = pool = real(int(sizes[0]))
    yield training
    for m in map(int, sizes[1:]):
        if isinstance(workflow, Replace):
            training = write(training, m)
        elif isinstance(workflow, FreshData):
            n_model, n_fresh = workflow.counts(m)
            training = np.concatenate([write(training, n_model), real(n_fresh)], axis=1)
        elif isinstance(workflow, Mix):
            n_model, _, n_kept = workflow.counts(m)
            kept = choose(original, n_kept, rng) if workflow.redraw else original[:, :n_kept]
            training = np.concatenate([write(training, n_model), kept], axis=1)
        else:
            pool = np.concatenate([pool, write(training, m)], axis=1)
            training = pool if isinstance(workflow, Accumulate) else choose(pool, m, rng)
        yield training


def choose(rows: NDArray, n: int, rng: np.random.Generator) -> NDArray:
    """`n` rows of each lineage without replacement; `rows` has shape (R, N, ...)."""
    if n == rows.shape[1]:
        return rows
    keys = rng.random(rows.shape[:2], dtype=np.float32)
    picked = np.argpartition(keys, n, axis=1)[:, :n]
    return np.take_along_axis(rows, picked.reshape(*picked.shape, *[1] * (rows.ndim - 2)), axis=1)


def simulate_gaussian(
    workflow: Workflow | None = None,
    *,
    n_samples: checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    refit: bool = True,
) -> gaussian.Paths:
    """Gaussians refitted by maximum likelihood to raw rows, under any of the five workflows.

    Where :func:`collapse_utils.gaussian.simulate` knows the workflow, it is much faster.

    Parameters
    ----------
    workflow, n_samples, n_generations
        As in :func:`kinship`.
    n_replicates : int
        R.
    rng : numpy.random.Generator
    refit : bool
        False: fit the mean only; the variance stays 1.

    Returns
    -------
    gaussian.Paths
        Arrays of shape (G + 1, R); the truth is standard normal.

    Raises
    ------
    ValueError
        If an argument is out of range or the workflow is none of the five.
    """
    workflow, sizes, n_replicates = _arguments(
        workflow, n_samples, n_generations, n_replicates, rng
    )

    def fit(rows: Array) -> tuple[Array, Array]:
        return rows.mean(axis=1), rows.var(axis=1) if refit else np.ones(len(rows))

    def write(training: Array, n: int) -> Array:
        mean, var = fit(training)
        return mean[:, None] + np.sqrt(var)[:, None] * rng.standard_normal((n_replicates, n))

    def real(n: int) -> Array:
        return rng.standard_normal((n_replicates, n))

    fits = [fit(rows) for rows in training_sets(workflow, sizes, real, write, rng)]
    truth = np.zeros(n_replicates), np.ones(n_replicates)
    mean, var = zip(truth, *fits, strict=True)
    return gaussian.Paths(np.array(mean), np.array(var))


def simulate_words(
    p: ArrayLike,
    workflow: Workflow | None = None,
    *,
    n_samples: checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> categorical.Paths:
    """Words resampled from raw rows, under any of the five workflows.

    Parameters
    ----------
    p : array, shape (K,)
        The truth.
    workflow, n_samples, n_generations, n_replicates, rng
        As in :func:`simulate_gaussian`.

    Returns
    -------
    categorical.Paths
        Heterozygosity and number of living symbols, shape (G + 1, R).

    Raises
    ------
    ValueError
        If an argument is out of range or the workflow is none of the five.
    """
    p = categorical.probabilities(p)
    workflow, sizes, n_replicates = _arguments(
        workflow, n_samples, n_generations, n_replicates, rng
    )

    def write(training: NDArray, n: int) -> NDArray:
        picked = rng.integers(0, training.shape[1], (n_replicates, n))
        return np.take_along_axis(training, picked, axis=1)

    def real(n: int) -> NDArray:
        return rng.choice(len(p), (n_replicates, n), p=p)

    lines = len(p) * np.arange(n_replicates)[:, None]
    diversity, alive = [np.full(n_replicates, 1 - p @ p)], [np.full(n_replicates, (p > 0).sum())]
    for rows in training_sets(workflow, sizes, real, write, rng):
        counts = np.bincount((rows + lines).ravel(), minlength=n_replicates * len(p))
        share = counts.reshape(n_replicates, len(p)) / rows.shape[1]
        diversity.append(1 - np.einsum("ij,ij->i", share, share))
        alive.append(np.count_nonzero(share, axis=1))
    return categorical.Paths(np.array(diversity), np.array(alive))


def _arguments(workflow, n_samples, n_generations, n_replicates, rng):
    checks.generator(rng)
    n_generations = checks.integer("n_generations", n_generations, 1)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    sizes = checks.schedule(n_samples, n_generations)
    workflow = Replace() if workflow is None else workflow
    if isinstance(workflow, Mix):
        workflow.check(sizes, None)
    return workflow, sizes, n_replicates


# --------------------------------------------------------------------------- weighted mixtures


def golden_weight(ratio: float) -> float:
    """Best weight of the real rows when there are `ratio` generated rows for each.

    (sqrt(1 + 4k) - 1) / (2k), the positive root of k w^2 + w - 1 = 0; 0.618 for k = 1 (He, Xu and
    Cheng 2026). The stationary variance of the mean, times the number of real rows, has the same
    value.
    """
    k = checks.real("ratio", ratio, 0, open_low=True)
    return 2 / (1 + np.sqrt(1 + 4 * k))


def mixed_moments(
    *,
    n_real: int,
    n_model: int,
    n_generations: int,
    weight: float | None = None,
    bias: float = 1.0,
) -> tuple[Array, Array]:
    """E[mean_n^2] and E[v_n] of a Gaussian refitted to a weighted mixture, exactly.

    Each generation fits weight w to the moments of n_real fresh rows and 1 - w to those of n_model
    rows that the previous fit writes with `bias` times its variance. With V = E[mean^2] and
    S = E[v], V' = w^2/n_real + (1-w)^2 (V + bias S/n_model), and the second moments give
    S' + V' = w + (1-w)(V + bias S) (the fresh data loop of Alemohammad et al. 2024). Generation 1
    fits the n_real rows alone. Without bias V is the kinship, so that words have
    E[H_n] = H_0 (1 - V_n).

    Parameters
    ----------
    n_real, n_model : int
        At least 1; n_model may be 0.
    n_generations : int
        G.
    weight : float
        w in (0, 1]; default n_real / (n_real + n_model), which is pooling.
    bias : float
        In (0, 1]; 1 is honest sampling.

    Returns
    -------
    tuple of ndarray, shape (G + 1,)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    n_real, n_model, n_generations, w, bias = _mixture(n_real, n_model, n_generations, weight, bias)
    v, s = [0.0, 1 / n_real], [1.0, 1 - 1 / n_real]
    for _ in range(n_generations - 1):
        second = w + (1 - w) * (v[-1] + bias * s[-1])
        noise = bias * s[-1] / n_model if n_model else 0.0
        v.append(w**2 / n_real + (1 - w) ** 2 * (v[-1] + noise))
        s.append(second - v[-1])
    return np.array(v), np.array(s)


def mixed_risk(
    *, n_real: int, n_model: int, n_generations: int, weight: float | None = None, bias: float = 1.0
) -> Array:
    """E[W2^2] of the mixture of :func:`mixed_moments`, to first order in the sample sizes.

    V + (1 - sqrt S)^2 + Var(v) / (4 S^(3/2)), because the second derivative of (1 - sqrt v)^2 is
    v^(-3/2) / 2 (delta method). Var(v)' = w^2 2/n_real + (1-w)^2 bias^2 (Var(v) + 2 S^2/n_model)
    follows the fluctuation of the fitted variance.

    Returns
    -------
    ndarray, shape (G + 1,)
    """
    v, s = mixed_moments(
        n_real=n_real, n_model=n_model, n_generations=n_generations, weight=weight, bias=bias
    )
    n_real, n_model, n_generations, w, bias = _mixture(n_real, n_model, n_generations, weight, bias)
    spread = [0.0, 2 / n_real]
    for before in s[1:-1]:
        noise = 2 * before**2 / n_model if n_model else 0.0
        spread.append(w**2 * 2 / n_real + (1 - w) ** 2 * bias**2 * (spread[-1] + noise))
    return v + (1 - np.sqrt(s)) ** 2 + np.array(spread) / (4 * s**1.5)


def mixed_gaussian(
    *,
    n_real: int,
    n_model: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    weight: float | None = None,
    bias: float = 1.0,
) -> gaussian.Paths:
    """Simulate the mixture of :func:`mixed_moments` by its sufficient statistics.

    Returns
    -------
    gaussian.Paths
        Arrays of shape (G + 1, R); the truth is standard normal.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    n_real, n_model, n_generations, w, bias = _mixture(n_real, n_model, n_generations, weight, bias)
    checks.generator(rng)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)

    def draw(n: int, mean: ArrayLike, var: ArrayLike) -> tuple[Array, Array]:
        "Sample mean and variance of n rows."
        centre = mean + np.sqrt(np.divide(var, n)) * rng.standard_normal(n_replicates)
        # A gamma of shape 0 is zero: one row has no spread.
        return centre, np.divide(var, n) * 2 * rng.standard_gamma((n - 1) / 2, n_replicates)

    means = np.zeros((n_generations + 1, n_replicates))
    variances = np.ones_like(means)
    for g in range(1, n_generations + 1):
        mean, var = draw(n_real, 0.0, 1.0)
        if g > 1 and n_model:
            other, spread = draw(n_model, means[g - 1], bias * variances[g - 1])
            var = w * var + (1 - w) * spread + w * (1 - w) * (mean - other) ** 2
            mean = w * mean + (1 - w) * other
        means[g], variances[g] = mean, var
    return gaussian.Paths(means, variances)


def mixed_words(
    p: ArrayLike,
    *,
    n_real: int,
    n_model: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    weight: float | None = None,
) -> Array:
    """Heterozygosity of words refitted to w times fresh frequencies + (1-w) times generated ones.

    Returns
    -------
    ndarray, shape (G + 1, R)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    p = categorical.probabilities(p)
    n_real, n_model, n_generations, w, _ = _mixture(n_real, n_model, n_generations, weight, 1.0)
    checks.generator(rng)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    diversity = np.full((n_generations + 1, n_replicates), 1 - p @ p)
    share = rng.multinomial(n_real, p, n_replicates) / n_real
    diversity[1] = 1 - np.einsum("ij,ij->i", share, share)
    for g in range(2, n_generations + 1):
        real = rng.multinomial(n_real, p, n_replicates) / n_real
        if n_model:
            # Rounding may leave a sum above one by 1e-16, which the sampler refuses.
            share /= share.sum(axis=1, keepdims=True)
            real = w * real + (1 - w) * rng.multinomial(n_model, share) / n_model
        share = real
        diversity[g] = 1 - np.einsum("ij,ij->i", share, share)
    return diversity


def _mixture(n_real, n_model, n_generations, weight, bias):
    n_real = checks.integer("n_real", n_real, 1)
    n_model = checks.integer("n_model", n_model, 0)
    n_generations = checks.integer("n_generations", n_generations, 1)
    bias = checks.real("bias", bias, 0, 1, open_low=True)
    if weight is None or n_model == 0:
        weight = n_real / (n_real + n_model)
    return n_real, n_model, n_generations, checks.real("weight", weight, 0, 1, open_low=True), bias


# --------------------------------------------------------------------------- a counter-example


class Hesitant:
    """A family that is consistent on real data and that accumulation does not save.

    The truth is uniform on [0, 1]. A *good* model with parameter b answers with probability
    sqrt(b), by a uniform draw from [0, b], and else abstains (NaN). A *bad* model abstains half of
    the time and else draws uniformly from a set of total length 1/2 that holds its data, so that
    its density there is 1. Maximum likelihood chooses.

    On M real rows it chooses the good model with b = max(X), which tends to the truth. That model
    abstains with probability 1 - sqrt(b), of order 1/M, so that one of the M rows that it writes
    is an abstention with a chance that does not depend on M, and a single abstention makes the bad
    model the more likely one. In the spirit of Theorem 5.1 of Barzilai and Shamir (2025).

    Attributes
    ----------
    bad_ : bool
        Whether the bad model is the more likely one.
    top_ : float
        b of the good model.
    """

    def fit(self, X: ArrayLike) -> Hesitant:
        """Choose the more likely model for rows of shape (n,); NaN is an abstention."""
        X = np.asarray(X, dtype=float)
        points = X[~np.isnan(X)]
        abstained = len(X) - len(points)
        self.top_ = float(points.max(initial=0.0))
        self.points_ = points
        # log-likelihoods: abstained log(1 - sqrt b) - (n - abstained)/2 log b against
        # -abstained log 2. Both grow as b falls to the largest point.
        good = -0.5 * len(points) * np.log(self.top_) if len(points) else -np.inf
        if abstained:
            good += abstained * np.log1p(-np.sqrt(self.top_))
        self.bad_ = bool(good < -abstained * np.log(2))
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` rows."""
        if not self.bad_:
            answers = rng.uniform(0, self.top_, n)
            return np.where(rng.random(n) < np.sqrt(self.top_), answers, np.nan)
        # Cells of width 1/(4N): those that hold data, filled up to half of them from the left.
        n_cells = 4 * max(1, len(self.points_))
        full = np.unique((self.points_ * n_cells).astype(int))
        free = np.setdiff1d(np.arange(n_cells), full)[: n_cells // 2 - len(full)]
        cell = rng.choice(np.concatenate([full, free]), n)
        return np.where(rng.random(n) < 0.5, (cell + rng.random(n)) / n_cells, np.nan)


def hesitant_collapse(n: ArrayLike) -> Array:
    """P(:class:`Hesitant` has turned bad by generation n) under Accumulate, (n - 1) / (n + 1).

    The largest real row b never changes, so each further generation writes no abstention with
    probability b^(M/2), and b has density M b^(M-1): E[b^((n-1)M/2)] = 2/(n + 1) for every M. That
    one abstention suffices is true up to an error that vanishes as M grows.
    """
    n = np.asarray(n, dtype=float)
    return (n - 1) / (n + 1)
