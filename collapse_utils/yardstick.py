"""What generated rows are measured by: unseen real rows, and features of tables and texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import infer_dtype, is_scalar
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from . import _tables
from ._checks import checked, function, rng, whole
from .loop import Snapshot

Floats = NDArray[np.float64]

_MOST = 30  # levels of a category, and n-grams of a text, that are coordinates of their own


@checked(rng=rng, features=function, n_directions=whole(1), n_neighbourhoods=whole(10))
class Yardstick:
    """Measures of generated rows against real rows that no model has seen; a metric for `recurse`.

    Coordinates are first centred and scaled by the real rows. With the rows of one generation,

    - ``distance``: mean over directions of the Wasserstein-1 distance between the projections of
      generated and real rows (the sliced distance of Bonneel et al. 2015, section 3, with p = 1);
    - ``spread``: root mean square distance from the own centre; 1 for the real rows;
    - ``tails``: mean distance of the farthest 5 % of the rows from the own centre, in units of
      the own spread; 1 for the real rows. Scale has no part in it;
    - ``centre``: distance between the centres, per root coordinate, in real standard deviations;
    - ``coverage``: share of real rows with a generated row as close as their fifth real
      neighbour, or closer (Naeem et al. 2020, eq. 4);
    - ``rows``: how many rows were measured;
    - of tables: ``categories`` and ``pairs``, the shares of the real categories, and of the real
      pairs of categories of two columns, that some generated row has; ``missing``, the share of
      missing values.

    - `real` (array, shape (n, ...), table or strings): Real rows kept from the models, at least 20.
    - `rng`: Chooses directions and the rows for the coverage.
    - `features`: Turns rows into numbers of shape (n, k); default of tables and strings:
      :class:`_Features`.
    - `n_directions`, `n_neighbourhoods`: Directions of the distance, and real rows of the coverage.
    """

    def __init__(
        self,
        real: _tables.Rows,
        rng: np.random.Generator,
        *,
        features: Callable[[_tables.Rows], ArrayLike] | None = None,
        n_directions: int = 32,
        n_neighbourhoods: int = 300,
    ) -> None:
        real = _tables.rows(real, "real")
        if len(real) < 20:
            raise ValueError(f"real must hold at least 20 rows, got {len(real)}")
        table = _tables.is_table(real)
        if features is None and (table or infer_dtype(real.ravel(), skipna=False) == "string"):
            features = _Features(real)
        self._features = features
        rows = self._numbers(real, "real")
        sd = rows.std(0)
        # The spread that rounding gives to a column that is constant is no scale.
        varies = (np.ptp(rows, 0) > 0) & (sd > 8 * np.finfo(float).eps * np.abs(rows).max(0))
        if not varies.any():
            raise ValueError("real must hold rows that differ, got one row many times")
        self._mean = np.where(varies, rows.mean(0), rows[0])
        self._scale = np.where(varies, sd, 1.0) / getattr(self._features, "weights", 1.0)
        rows = self._standardised(rows)
        d = rows.shape[1]
        directions = rng.standard_normal((d, n_directions)) if d > 1 else np.ones((1, 1))
        self._directions = directions / np.linalg.norm(directions, axis=0)
        self._projected = rows @ self._directions
        self._spread, self._tails = _spread(rows), _tails(rows)
        self._chosen = rows[rng.permutation(len(rows))[:n_neighbourhoods]]
        self._reach = np.sort(cdist(self._chosen, self._chosen), axis=1)[:, 5]

    def __call__(self, snapshot: Snapshot | _tables.Rows) -> dict[str, float]:
        """Measure the ``sample`` of a snapshot, or rows: two or more, all finite."""
        own = isinstance(snapshot, Snapshot)
        given = snapshot.sample if own else _tables.rows(snapshot, "generated")
        rows = self._standardised(self._numbers(given, "generated"))
        nearest = cdist(self._chosen, rows).min(1)
        survey = self._features.survey(given) if isinstance(self._features, _Features) else {}
        return survey | {
            "distance": float(_wasserstein(rows @ self._directions, self._projected).mean()),
            "spread": _spread(rows) / self._spread,
            "tails": _tails(rows) / self._tails,
            "centre": float(np.linalg.norm(rows.mean(0)) / math.sqrt(rows.shape[1])),
            "coverage": float(np.mean(nearest <= self._reach)),
            "rows": float(len(rows)),
        }

    def _numbers(self, rows: _tables.Rows, name: str) -> Floats:
        n = len(rows)
        if self._features is not None:
            rows = self._features(rows)
        rows = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows)
        if rows.dtype.kind not in "fiub" or rows.ndim == 0:
            raise ValueError(
                f"{name} rows must be numbers, got {rows.dtype}: give features(rows) -> numbers"
            )
        if len(rows) != n:
            raise ValueError(f"features must return a row for each of {n}, got {len(rows)}")
        rows = rows.reshape(n, -1).astype(float)
        if len(rows) < 2 or rows.shape[1] == 0 or not np.isfinite(rows).all():
            raise ValueError(
                f"{name} rows must be two or more and finite, got shape {rows.shape}"
                + ("" if np.isfinite(rows).all() else " with NaN or infinity")
            )
        return rows

    def _standardised(self, rows: Floats) -> Floats:
        if rows.shape[1] != len(self._mean):
            raise ValueError(f"rows must have {len(self._mean)} numbers, got {rows.shape[1]}")
        return (rows - self._mean) / self._scale


def _spread(rows: Floats) -> float:
    """Root mean square distance from the centre; zero where only rounding is left."""
    spread = float(np.sqrt(rows.var(0).sum()))
    return spread if spread > 8 * np.finfo(float).eps * np.abs(rows).max() else 0.0


def _tails(rows: Floats) -> float:
    """Mean distance of the farthest 5 % from the centre, over the root mean square distance."""
    spread = _spread(rows)
    if spread == 0:
        return 0.0
    radii = np.sort(np.linalg.norm(rows - rows.mean(0), axis=1)) / spread
    return float(radii[-math.ceil(len(rows) / 20) :].mean())


def _wasserstein(a: Floats, b: Floats) -> Floats:
    """Wasserstein-1 distance of each column of `a` from that of `b`: area between the CDFs."""
    values = np.concatenate([a, b])
    order = np.argsort(values, axis=0)
    steps = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    gap = np.abs(np.cumsum(steps[order], axis=0)[:-1])
    return (gap * np.diff(np.take_along_axis(values, order, 0), axis=0)).sum(0)


class _Features:
    """Numbers for rows of a table, or for strings, learned from real rows.

    Each column becomes a group of coordinates (a text two), and all groups weigh the same:

    - numbers and dates: normal scores of their ranks among the real rows (van der Waerden 1952),
      so that units and long tails do not matter; what lies outside counts as just outside;
    - categories: an indicator of each, as in factorial analysis of mixed data (Pages 2004);
    - texts (strings of which most differ): the rates of the commonest characters and pairs of
      them; and the length, the words, and the distinct words;
    - missing values: an indicator for each column that has them.

    `weights` are the factors of coordinates that have been scaled to a standard deviation of one.
    """

    def __init__(self, real: _tables.Rows) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        table = _tables.flat(real)
        self.roles = {name: _role(table[name]) for name in table}
        self.holes = [name for name in table if table[name].isna().any()]
        self.known: dict[Any, Any] = {}
        self.levels: dict[Any, pd.Index] = {}
        for name, role in self.roles.items():
            if role == "number":
                self.known[name] = np.sort(_numbers(table[name]))
            elif role == "category":  # the commonest first
                self.levels[name] = _labels(table[name]).value_counts().index
            else:
                texts = _labels(table[name], "")
                pairs = CountVectorizer(
                    analyzer="char", ngram_range=(1, 2), lowercase=False, max_features=_MOST
                )
                self.known[name] = pairs.fit(texts), np.sort(_sizes(texts), axis=0)
        self.real = self.together(table) > 0
        parts = self._parts(table)
        vary = [max(1, np.count_nonzero(np.ptp(part, axis=0))) for part in parts]
        self.weights = np.repeat(1 / np.sqrt(vary), [part.shape[1] for part in parts])

    def __call__(self, rows: _tables.Rows) -> Floats:
        """Coordinates of rows, shape (n, k)."""
        table = _tables.flat(rows)
        if set(table.columns) != set(self.roles):
            raise ValueError(
                f"generated rows must have the columns of real, {list(self.roles)}, got "
                f"{list(table.columns)}"
            )
        return np.hstack(self._parts(table))

    def _parts(self, table: pd.DataFrame) -> list[NDArray]:
        parts = []
        for name, role in self.roles.items():
            column = table[name]
            if role == "category":
                levels = self.levels[name]
                codes, n = levels.get_indexer(_labels(column)), min(len(levels), _MOST)
                parts.append(np.eye(n + 1)[np.where(codes < n, codes, n)])  # the rest: last
                continue
            present = column.notna().to_numpy()
            if role == "number":
                part = np.zeros((len(table), 1))
                part[present, 0] = _scores(_numbers(column), self.known[name])
            else:
                pairs, sizes = self.known[name]
                texts = _labels(column, "")
                measures = _sizes(texts)
                parts.append(pairs.transform(texts).toarray() / np.maximum(measures[:, :1], 1))
                part = np.column_stack(list(map(_scores, measures.T, sizes.T)))
            parts.append(np.column_stack([part, ~present]) if name in self.holes else part)
        others = [name for name, role in self.roles.items() if name not in self.holes]
        return [*parts, table[others].isna().mean(axis=1).to_numpy()[:, None]] if others else parts

    def together(self, rows: _tables.Rows) -> NDArray[np.float32]:
        """In how many rows two categories stand, shape (k, k); in the diagonal, each of them."""
        table, places, n = _tables.flat(rows), [np.empty((2, 0), dtype=int)], 0
        for name, levels in self.levels.items():
            codes = levels.get_indexer(_labels(table[name]))
            places.append(np.stack([np.flatnonzero(codes >= 0), n + codes[codes >= 0]]))
            n += len(levels)
        at = np.concatenate(places, axis=1)
        marks = csr_array((np.ones(at.shape[1], np.float32), at), shape=(len(table), n))
        return (marks.T @ marks).toarray()

    def survey(self, rows: _tables.Rows) -> dict[str, float]:
        """Shares of the real categories and pairs of them that rows have, and of missing values."""
        found = {}
        if self.levels:
            together, both = self.together(rows) > 0, np.triu(self.real, 1)
            found["categories"] = float(np.diag(together).mean())
            if both.any():
                found["pairs"] = float(together[both].mean())
        if self.holes:
            found["missing"] = float(_tables.flat(rows).isna().to_numpy().mean())
        return found


def _role(column: pd.Series) -> str:
    """How a column is measured: number, category or text."""
    present = column.dropna()
    if isinstance(column.dtype, pd.CategoricalDtype) or column.dtype.kind == "b":
        return "category"
    if column.dtype.kind in "iufmM" or isinstance(column.dtype, pd.PeriodDtype):
        return "number"
    if column.dtype.kind == "c" or not all(map(is_scalar, present)):
        raise ValueError(
            f"column {column.name!r} must hold numbers, dates, categories or text, got "
            f"{type(present.iloc[0]).__name__}: give features(rows) -> numbers"
        )
    return "text" if 2 * present.nunique() > len(present) else "category"


def _numbers(column: pd.Series) -> Floats:
    """Values that are there."""
    present = column.dropna()
    if column.dtype.kind not in "iuf":  # a date, a duration or a period
        present = present.astype("int64")
    return present.to_numpy(dtype=float)


def _labels(column: pd.Series, missing: str = "(missing)") -> pd.Series:
    """Values as strings."""
    return column.astype(object).where(column.notna(), missing).map(str)


def _sizes(texts: pd.Series) -> Floats:
    """Characters, words and distinct words of each text, shape (n, 3)."""
    words = [text.split() for text in texts]
    both = zip(texts, words, strict=True)
    return np.array([[len(text), len(said), len(set(said))] for text, said in both], dtype=float)


def _scores(values: NDArray, real: NDArray) -> Floats:
    """Normal scores of the (middle) ranks of values among real ones, which are sorted."""
    ranks = (np.searchsorted(real, values) + np.searchsorted(real, values, side="right")) / 2
    return ndtri((ranks + 0.5) / (len(real) + 1))


def losses(lineages: Sequence[Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """What the first model wrote and the last did not, from ``lineages[replicate][generation]``.

    One row for each category and pair that some replicate lost, and for each column with missing
    values: mean shares of the rows in generation 1 (``first``) and the last, and ``lost``, the
    number of replicates.
    """
    found = []
    if lineages:
        features = _Features(pd.concat([line[0] for line in lineages], ignore_index=True))
        first, last = (
            pd.DataFrame([line[g].isna().mean() for line in lineages]).mean() for g in (1, -1)
        )
        found = [("missing", str(name), first[name], last[name], np.nan) for name in features.holes]
        first = last = lost = 0
        for line in lineages:
            one, other = (features.together(line[g]) for g in (1, -1))
            lost = lost + ((one > 0) & (other == 0))
            first, last = first + one / len(line[1]), last + other / len(line[-1])
        names = [f"{name}={one}" for name, levels in features.levels.items() for one in levels]
        for i, j in zip(*np.nonzero(np.triu(lost)), strict=True):
            what = ("categories", names[i]) if i == j else ("pairs", f"{names[i]}, {names[j]}")
            shares = first[i, j] / len(lineages), last[i, j] / len(lineages)
            found.append((*what, *shares, lost[i, j]))
    frame = pd.DataFrame(found, columns=["kind", "name", "first", "last", "lost"])
    return frame.sort_values(["lost", "first"], ascending=False)
