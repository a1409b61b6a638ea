"""Rows of any kind: arrays, and tables that keep their columns, types and missing values.

A table is a pandas ``DataFrame``; frames of other libraries come in by the dataframe interchange
protocol. `Features` turns tables and strings into numbers, so that they can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Rows = Any  # an array of shape (n, ...), or a DataFrame of n rows

MOST = 30  # levels of a category, and n-grams of a text, that are coordinates of their own


def is_table(rows: object) -> bool:
    """Whether rows are a DataFrame."""
    return hasattr(rows, "iloc") and hasattr(rows, "columns")


def are_texts(rows: object) -> bool:
    """Whether rows are an array of strings."""
    if is_table(rows) or rows.dtype.kind in "UT":
        return not is_table(rows)
    return rows.dtype.kind == "O" and all(isinstance(one, str) for one in rows.flat)


def take(rows: Rows, which: slice | NDArray) -> Rows:
    """Rows by slice, index or mask; those of a table are numbered anew."""
    return rows.iloc[which].reset_index(drop=True) if is_table(rows) else rows[which]


def join(one: Rows, other: Rows) -> Rows:
    """The rows of both, one after the other."""
    if not is_table(one):
        return np.concatenate([one, other])
    import pandas as pd

    return pd.concat([one, other], ignore_index=True)


def rows(values: Any, name: str) -> Rows:
    """An array or a table that owns its memory, or one line about what is wrong with it."""
    import pandas as pd

    if hasattr(values, "__dataframe__"):
        table = _own(values)
        if not table.columns.is_unique or not len(table.columns):
            raise ValueError(
                f"{name} must have columns of different names, got {list(table.columns)}"
            )
        for _, column in table.items():
            _check(column, False, name)
        return table
    if np.ma.is_masked(values):
        raise ValueError(f"{name} must not be masked, got {np.ma.count_masked(values)} masked")
    if hasattr(values, "toarray"):
        raise ValueError(f"{name} must be dense, got {type(values).__name__}: use toarray()")
    if callable(getattr(values, "detach", None)):
        values = values.detach().cpu()  # a tensor of torch
        values = (values.float() if "bfloat" in str(values.dtype) else values).numpy()
    try:
        array = np.array(values.to_numpy() if hasattr(values, "to_numpy") else values)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, got a ragged list") from None
    kind = array.dtype.kind
    if (kind in "fc" and not np.isfinite(array).all()) or (kind in "mM" and np.isnat(array).any()):
        bad = "NaT" if kind in "mM" else "NaN or infinity"
        raise ValueError(f"{name} must be finite, got {bad} (a DataFrame may have missing values)")
    if kind == "O" and (missing := pd.isna(array)).any():
        raise ValueError(
            f"{name} must have no missing values, got {missing.sum()} (a DataFrame may have them)"
        )
    return array


def _own(values: Any) -> pd.DataFrame:
    import pandas as pd

    if not is_table(values):
        values = pd.api.interchange.from_dataframe(values)
    table, index = values.copy(), pd.RangeIndex(len(values))
    if not table.index.equals(index):
        table.index = index
    return table


def _check(column: pd.Series, full: bool, name: str) -> None:
    """Refuse infinity, and missing values where the column must be full."""
    plain, kind = isinstance(column.dtype, np.dtype), column.dtype.kind
    if plain and kind in "iub":
        return
    if kind == "f" and np.isinf(column.to_numpy() if plain else column.to_numpy(float)).any():
        raise ValueError(f"{name} must be finite, got infinity in column {column.name!r}")
    if full and column.array.isna().any():  # quicker than that of the Series
        raise ValueError(
            f"{name} must have no missing values in column {column.name!r}, where data has none"
        )


class Kind:
    """What the rows of one data set are like: other rows must be so, or are made so.

    `whole` says that `real` is all there is: what misses no value there never misses one.
    """

    def __init__(self, real: Rows, *, whole: bool) -> None:
        self.shape, self.columns = real.shape[1:], None
        if is_table(real):
            self.columns, self.dtypes = real.columns, list(real.dtypes)
            self.full = [whole and not missing for missing in real.isna().any()]

    def __call__(self, values: Any, n: int, name: str) -> Rows:
        """`n` rows of this kind, which own their memory."""
        if self.columns is None:
            values = values.to_numpy() if is_table(values) else values
            found = rows(values, name)
            if found.shape != (n, *self.shape):
                raise ValueError(
                    f"{name} must return an array of shape {(n, *self.shape)}, got {found.shape}"
                )
            return found
        values = self._table(values, name)
        if len(values) != n:
            raise ValueError(f"{name} must return {n} rows, got {len(values)}")
        columns, other = [], False
        for (_, column), dtype, full in zip(values.items(), self.dtypes, self.full, strict=True):
            columns.append(column if column.dtype == dtype else _cast(column, dtype, name))
            other = other or columns[-1] is not column
            _check(columns[-1], full, name)
        if other:
            import pandas as pd

            values = pd.DataFrame(dict(enumerate(columns))).set_axis(self.columns, axis=1)
        return _own(values)

    def _table(self, values: Any, name: str) -> pd.DataFrame:
        """A table with the columns of data, in their order."""
        if hasattr(values, "__dataframe__"):
            values = values if is_table(values) else _own(values)
        else:  # an array, for models that know no tables
            import pandas as pd

            array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
            if array.ndim != 2 or array.shape[1] != len(self.columns):
                raise ValueError(
                    f"{name} must return a table with the columns {_words(self.columns)}, got "
                    f"{type(values).__name__} of shape {array.shape}"
                )
            values = pd.DataFrame(array, columns=self.columns)
        if values.columns.equals(self.columns):
            return values
        absent = self.columns.difference(values.columns, sort=False)
        extra = values.columns.difference(self.columns, sort=False)
        if len(absent) or len(extra):
            raise ValueError(
                f"{name} must return the columns of data, but lacks {_words(absent) or 'none'} and "
                f"adds {_words(extra) or 'none'}"
            )
        return values[self.columns]


def _words(names: Any) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:10]) + ", ..." * (len(shown) > 10)


def _cast(column: pd.Series, dtype: Any, name: str) -> pd.Series:
    """A column with another type and the same values, or one line that names one that differs."""
    if column.dtype == dtype:
        return column
    if hasattr(dtype, "categories"):
        unseen = column[column.notna() & ~column.isin(dtype.categories)]
        if len(unseen):
            raise ValueError(
                f"{name} must return categories of data in column {column.name!r} "
                f"({_words(dtype.categories)}), got {unseen.iloc[0]!r}"
            )
        return column.astype(dtype)
    missing, wrong = column.isna(), column
    try:
        cast = column.astype(dtype)
        close = dtype.kind == "f" and column.dtype.kind in "iuf"  # another number of digits
        same = missing & cast.isna() | (cast.astype(object) == column.astype(object))
        if close or same.all():
            return cast
        wrong = column[~same]
    except (ValueError, TypeError):
        wrong = column[missing] if missing.any() and dtype.kind in "iub" else column
    raise ValueError(
        f"{name} must return {dtype} in column {column.name!r}, as in data, got {column.dtype} "
        f"such as {wrong.iloc[0]!r}"
    )


class Features:
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

    def __init__(self, real: Rows) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        table = _frame(real)
        self.roles = {name: _role(table[name]) for name in table}
        self.holes = [name for name in table if table[name].isna().any()]
        self.known: dict[Any, Any] = {}
        for name, role in self.roles.items():
            if role == "number":
                self.known[name] = np.sort(_numbers(table[name]))
            elif role == "category":  # the commonest first
                self.known[name] = _labels(table[name]).value_counts().index
            else:
                texts = _texts(table[name])
                pairs = CountVectorizer(
                    analyzer="char", ngram_range=(1, 2), lowercase=False, max_features=MOST
                )
                self.known[name] = pairs.fit(texts), np.sort(_sizes(texts), axis=0)
        self.levels = {n: self.known[n] for n, role in self.roles.items() if role == "category"}
        self.real = self.together(table) > 0
        parts = self._parts(table)
        vary = [max(1, np.count_nonzero(np.ptp(part, axis=0))) for part in parts]
        self.weights = np.repeat(1 / np.sqrt(vary), [part.shape[1] for part in parts])

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        """Coordinates of rows, shape (n, k)."""
        return np.hstack(self._parts(_frame(rows)))

    def _parts(self, table: pd.DataFrame) -> list[NDArray]:
        parts = []
        for name, role in self.roles.items():
            column, known = table[name], self.known[name]
            if role == "category":
                codes, n = known.get_indexer(_labels(column)), min(len(known), MOST)
                parts.append(np.eye(n + 1)[np.where(codes < n, codes, n)])  # the rest: last
                continue
            present = column.notna().to_numpy()
            if role == "number":
                part = np.zeros((len(table), 1))
                part[present, 0] = _scores(_numbers(column), known)
            else:
                pairs, sizes = known
                texts = _texts(column)
                measures = _sizes(texts)
                parts.append(pairs.transform(texts).toarray() / np.maximum(measures[:, :1], 1))
                both = zip(measures.T, sizes.T, strict=True)
                part = np.column_stack([_scores(*one) for one in both])
            parts.append(np.column_stack([part, ~present]) if name in self.holes else part)
        others = [name for name, role in self.roles.items() if name not in self.holes]
        return [*parts, table[others].isna().mean(axis=1).to_numpy()[:, None]] if others else parts

    def together(self, rows: Rows) -> NDArray[np.float32]:
        """In how many rows two categories stand, shape (k, k); in the diagonal, each of them."""
        from scipy.sparse import csr_array

        table, places, n = _frame(rows), [np.empty((2, 0), dtype=int)], 0
        for name, levels in self.levels.items():
            codes = levels.get_indexer(_labels(table[name]))
            places.append(np.stack([np.flatnonzero(codes >= 0), n + codes[codes >= 0]]))
            n += len(levels)
        at = np.concatenate(places, axis=1)
        marks = csr_array((np.ones(at.shape[1], np.float32), at), shape=(len(table), n))
        return (marks.T @ marks).toarray()

    def survey(self, rows: Rows) -> dict[str, float]:
        """Shares of the real categories and pairs of them that rows have, and of missing values."""
        found = {}
        if self.levels:
            together, both = self.together(rows) > 0, np.triu(self.real, 1)
            found["categories"] = float(np.diag(together).mean())
            if both.any():
                found["pairs"] = float(together[both].mean())
        if self.holes:
            found["missing"] = float(_frame(rows).isna().to_numpy().mean())
        return found

    def names(self) -> list[str]:
        """Names of the categories, in the order of `together`."""
        return [f"{name}={level}" for name, levels in self.levels.items() for level in levels]


def _frame(rows: Rows) -> pd.DataFrame:
    """A table as it is; an array of strings with a column for each place."""
    import pandas as pd

    if is_table(rows):
        return rows
    return pd.DataFrame(np.asarray(rows, dtype=object).reshape(len(rows), -1))


def _role(column: pd.Series) -> str:
    """How a column is measured: number, category or text."""
    import pandas as pd

    kind, present = pd.api.types, column.dropna()
    if isinstance(column.dtype, pd.CategoricalDtype) or kind.is_bool_dtype(column.dtype):
        return "category"
    if column.dtype.kind in "iufmM" or isinstance(column.dtype, pd.PeriodDtype):
        return "number"
    if column.dtype.kind == "c" or not all(map(kind.is_scalar, present)):
        raise ValueError(
            f"column {column.name!r} must hold numbers, dates, categories or text, got "
            f"{type(present.iloc[0]).__name__}: give features(rows) -> numbers"
        )
    return "text" if 2 * present.nunique() > len(present) else "category"


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    """Values that are there."""
    present = column.dropna()
    if column.dtype.kind not in "iuf":  # a date, a duration or a period
        present = present.astype("int64")
    return present.to_numpy(dtype=float)


def _texts(column: pd.Series) -> list[str]:
    return [str(text) for text in column.astype(object).where(column.notna(), "")]


def _sizes(texts: list[str]) -> NDArray[np.float64]:
    """Characters, words and distinct words of each text, shape (n, 3)."""
    words = [text.split() for text in texts]
    both = zip(texts, words, strict=True)
    return np.array([[len(text), len(said), len(set(said))] for text, said in both], dtype=float)


def _scores(values: NDArray, real: NDArray) -> NDArray[np.float64]:
    """Normal scores of the (middle) ranks of values among real ones, which are sorted."""
    from scipy.special import ndtri

    ranks = (np.searchsorted(real, values) + np.searchsorted(real, values, side="right")) / 2
    return ndtri((ranks + 0.5) / (len(real) + 1))


def _labels(column: pd.Series) -> pd.Series:
    """Names of categories."""
    return column.astype(object).where(column.notna(), "(missing)").map(str)


LOSSES = ["kind", "name", "first", "last", "lost"]


def losses(lineages: Sequence[Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """What the first model wrote and the last did not, from ``lineages[replicate][generation]``.

    One row for each category and pair that some replicate lost, and for each column with missing
    values: mean shares of the rows in generation 1 (``first``) and the last, and ``lost``, the
    number of replicates.
    """
    import pandas as pd

    features = Features(pd.concat([line[0] for line in lineages], ignore_index=True))
    shares = [[line[g].isna().mean() for line in lineages] for g in (1, -1)]
    first, last = (pd.DataFrame(one).mean() for one in shares)
    found = [("missing", f"{name}", first[name], last[name], np.nan) for name in features.holes]
    if features.levels:
        first = last = lost = 0
        for line in lineages:
            one, other = (features.together(line[g]) for g in (1, -1))
            lost = lost + ((one > 0) & (other == 0))
            first, last = first + one / len(line[1]), last + other / len(line[-1])
        names, n = features.names(), len(lineages)
        for i, j in zip(*np.nonzero(np.triu(lost)), strict=True):
            kind, name = (
                ("categories", names[i]) if i == j else ("pairs", f"{names[i]}, {names[j]}")
            )
            found.append((kind, name, first[i, j] / n, last[i, j] / n, lost[i, j]))
    return pd.DataFrame(found, columns=LOSSES).sort_values(["lost", "first"], ascending=False)
