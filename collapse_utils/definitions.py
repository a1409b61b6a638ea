"""Eight definitions of model collapse, asked of one loop.

Schaeffer et al. (2025) find eight definitions in use. Whether "collapse" happened depends on which
of them is meant and on the workflow, so this module gives a ground on which all eight can be asked
of any workflow: rows that are a *word* (for variance, modes, tails and inventions) with some
*numbers* beside it (for the risk of a regression). Each definition becomes a number with a
standard error and a threshold, and the verdict is "yes", "no", or "open" when the interval holds
the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import _checks
from .claims import half_width
from .loop import History, Snapshot
from .metrics import mean_se

Array = NDArray[np.float64]

#: The eight definitions in the order of Schaeffer et al. (2025).
DEFINITIONS = (
    "catastrophic increase of risk",
    "any increase of risk",
    "diverging risk",
    "collapsing variance",
    "change in the scaling law",
    "disappearing modes",
    "disappearing tails",
    "hallucinated data",
)


# --------------------------------------------------------------------------- the ground


@dataclass(frozen=True)
class Ground:
    """A world of rows (word, numbers): a few common words, many rare ones, standard normal noise.

    Column 0 of a row is a word: the modes first, then the rare words, then those that the world
    does not contain. The other columns are numbers with mean 0 and variance 1, independent of it.

    Parameters
    ----------
    modes : tuple of float
        Probabilities of the common words; less than one in total.
    n_rare : int
        Rare words, which share the rest equally.
    n_alien : int
        Words of probability zero, which only an error can write.
    n_numbers : int
        Numbers in a row.

    Raises
    ------
    ValueError
        If an argument is out of range or the modes leave nothing for the rare words.
    """

    modes: tuple[float, ...] = (0.26, 0.22, 0.18, 0.14)
    n_rare: int = 40
    n_alien: int = 10
    n_numbers: int = 4

    def __post_init__(self) -> None:
        for mode in self.modes:
            _checks.real("modes", mode, 0, 1, open_low=True)
        if not self.modes or sum(self.modes) >= 1:
            raise ValueError(
                f"modes must be one or more probabilities with a sum below 1, got {self.modes}"
            )
        _checks.integer("n_rare", self.n_rare, 1)
        _checks.integer("n_alien", self.n_alien, 0)
        _checks.integer("n_numbers", self.n_numbers, 1)

    @property
    def p(self) -> Array:
        """Probabilities of all words, shape (modes + n_rare + n_alien,)."""
        rare = np.full(self.n_rare, (1 - sum(self.modes)) / self.n_rare)
        return np.concatenate([self.modes, rare, np.zeros(self.n_alien)])

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """`n` real rows, shape (n, 1 + n_numbers)."""
        words = rng.choice(len(self.p), n, p=self.p)
        return np.column_stack([words, rng.standard_normal((n, self.n_numbers))])

    def wrong(self, n: int, rng: np.random.Generator, shift: float = 2.0) -> Array:
        """`n` rows of a wrong source: words the world lacks, numbers off by `shift`.

        Raises
        ------
        ValueError
            If the ground has no such words.
        """
        _checks.integer("n_alien", self.n_alien, 1)
        first = len(self.modes) + self.n_rare
        words = first + rng.integers(0, self.n_alien, n)
        return np.column_stack([words, shift + rng.standard_normal((n, self.n_numbers))])

    def likelihood(self, rows: Array) -> Array:
        """Probability of the word of each row, shape (n,)."""
        return self.p[rows[:, 0].astype(np.int64)]

    def measure(self, snapshot: Snapshot) -> dict[str, float]:
        """The metric for ``recurse(..., metrics={"ground": ground.measure})``.

        ``risk`` is the squared error of the fitted means per number, ``diversity`` the chance that
        two words of the training set differ, ``modes`` and ``tail`` the number of common and rare
        words in it, ``alien`` the share of words that the world does not contain. (A model of
        this ground writes the words of its training set, so these are its own.)
        """
        if snapshot.generation == 0:
            return {}
        n_modes, n_real = len(self.modes), len(self.modes) + self.n_rare
        words = snapshot.training[:, 0].astype(np.int64)
        counts = np.bincount(words, minlength=n_real + self.n_alien)
        share = counts / len(words)
        mean = snapshot.training[:, 1:].mean(axis=0)
        return {
            "risk": float(mean @ mean / self.n_numbers),
            "diversity": float(1 - share @ share),
            "modes": int(np.count_nonzero(counts[:n_modes])),
            "tail": int(np.count_nonzero(counts[n_modes:n_real])),
            "alien": float(share[n_real:].sum()),
        }


class Pairs:
    """The honest model of a :class:`Ground`: word frequencies, and a mean for each number."""

    def fit(self, X: Array) -> Pairs:
        """Keep the words of the rows, shape (n, 1 + d), and the means of their numbers."""
        self.words_ = X[:, 0]
        self.mean_ = X[:, 1:].mean(axis=0)
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """`n` rows: words drawn by frequency, and numbers around the means."""
        words = self.words_[rng.integers(0, len(self.words_), n)]
        numbers = self.mean_ + rng.standard_normal((n, len(self.mean_)))
        return np.column_stack([words, numbers])


# --------------------------------------------------------------------------- the verdicts


@dataclass(frozen=True)
class Answer:
    """One definition, asked of one workflow.

    Attributes
    ----------
    value, se : float
        What was measured, and its standard error.
    threshold : float
        Where "no" turns into "yes".
    verdict : str
        "yes", "no", or "open".
    """

    value: float
    se: float
    threshold: float
    verdict: str


def judge(
    small: History, large: History, workflow: str, *, n_samples: int, factor: float
) -> dict[str, Answer]:
    """Ask the eight definitions of one workflow.

    ========================  ==========================================================  =========
    definition                measured at the last generation                             yes if
    ========================  ==========================================================  =========
    catastrophic              risk, in risks of a model that read one real row            > 1
    any increase              risk less that of generation 1, in first fits               > 0
    diverging                 growth per generation in the second half, in first fits     > 0.1
    variance                  share of the diversity of generation 1 that is gone         > 0.5
    scaling law               exponent of the risk in the number of rows (real data: 1)   < 0.5
    modes, tails              share of the words of generation 1 that are gone            > 0.1
    hallucinated              share of words that the world does not contain              > 0.01
    ========================  ==========================================================  =========

    The verdict is "yes" or "no" if the book's interval (:func:`collapse_utils.claims.half_width`)
    lies wholly on that side. A run of finite length can show that a risk *still grows*, not that
    it diverges: that is for a law to say.

    Parameters
    ----------
    small, large : History
        Runs with ``metrics={"ground": ground.measure}``, equally long, with `n_samples` and with
        ``factor * n_samples`` rows in each generation.
    workflow : str
        Its name in both.
    n_samples : int
    factor : float
        Above 1.

    Returns
    -------
    dict of str -> Answer
        One entry for each of :data:`DEFINITIONS`.

    Raises
    ------
    ValueError
        If an argument is out of range or the runs differ in length or are shorter than four
        generations.
    """
    n_samples = _checks.integer("n_samples", n_samples, 1)
    factor = _checks.real("factor", factor, 1, open_low=True)
    risk, big = (history.array("risk", workflow) for history in (small, large))
    if len(risk) != len(big) or len(risk) < 5:
        raise ValueError(
            "small and large must have the same number of generations, at least 4, got "
            f"{len(risk) - 1} and {len(big) - 1}"
        )
    last, half = len(risk) - 1, (len(risk) - 1) // 2
    fits = n_samples * risk
    (m, m_se), (b, b_se) = mean_se(risk[last]), mean_se(big[last])
    exponent = -math.log(b / m) / math.log(factor)
    exponent_se = math.hypot(m_se / m, b_se / b) / math.log(factor)
    lost = {name: _lost(small.array(name, workflow)) for name in ("diversity", "modes", "tail")}
    asked = (
        (m, m_se, 1.0, True),
        (*mean_se(fits[last] - fits[1]), 0.0, True),
        (*mean_se((fits[last] - fits[half]) / (last - half)), 0.1, True),
        (*lost["diversity"], 0.5, True),
        (exponent, exponent_se, 0.5, False),
        (*lost["modes"], 0.1, True),
        (*lost["tail"], 0.1, True),
        (*mean_se(small.array("alien", workflow)[last]), 0.01, True),
    )
    df = min(risk.shape[1], big.shape[1]) - 1
    return {name: _answer(*values, df=df) for name, values in zip(DEFINITIONS, asked, strict=True)}


def _lost(path: Array) -> tuple[float, float]:
    """1 - mean of the last generation / mean of the first, with the standard error of a ratio."""
    kept = path[-1].mean() / path[1].mean()
    _, se = mean_se(path[-1] - kept * path[1])
    return float(1 - kept), float(se / path[1].mean())


def _answer(value: float, se: float, threshold: float, above: bool, *, df: int) -> Answer:
    width = float(half_width(se, df=df))
    if abs(value - threshold) <= width:
        return Answer(value, se, threshold, "open")
    return Answer(value, se, threshold, "yes" if (value > threshold) == above else "no")
