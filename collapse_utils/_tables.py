"""Rows of any kind: arrays, and tables that keep their columns, types and missing values.

A table is a pandas ``DataFrame``; frames of other libraries come in by their ``to_pandas()`` or the
dataframe interchange protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ._checks import short

Rows = Any  # an array of shape (n, ...), or a DataFrame of n rows


def is_table(rows: object) -> bool:
    """Whether rows are a DataFrame."""
    return hasattr(rows, "iloc") and hasattr(rows, "columns")


def _has_names(rows: object) -> bool:
    """Whether rows are a frame of any library, or records, columns or dicts that make one."""
    if isinstance(rows, np.ndarray):
        return rows.dtype.names is not None
    first = rows[0] if isinstance(rows, (list, tuple)) and rows else rows
    ways = ("iloc", "to_pandas", "__dataframe__")
    frame = hasattr(rows, "columns") and any(hasattr(rows, way) for way in ways)
    return frame or isinstance(first, Mapping)


def take(rows: Rows, which: slice | NDArray) -> Rows:
    """Rows by slice, index or mask; those of a table are numbered anew."""
    return _numbered(rows.iloc[which]) if is_table(rows) else rows[which]


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    table.index = pd.RangeIndex(len(table))
    return table


def join(one: Rows, other: Rows) -> Rows:
    """The rows of both, one after the other."""
    if is_table(one):
        return pd.concat([one, other], ignore_index=True)
    return np.concatenate([one, other])


def flat(rows: Rows) -> pd.DataFrame:
    """Rows as a table, those of an array flattened."""
    return rows if is_table(rows) else pd.DataFrame(rows.reshape(len(rows), -1))


def rows(values: Any, name: str) -> Rows:
    """An array or a table that owns its memory, or one line about what is wrong with it."""
    if _has_names(values):
        table = _own(values, name)
        if not table.columns.is_unique or not len(table.columns):
            raise ValueError(
                f"{name} must have columns of different names, got {list(table.columns)}"
            )
        return Kind(table, whole=False).look(table, name)
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
    if array.ndim == 0:
        raise ValueError(f"{name} must be rows: an array or a DataFrame, got {short(values)}")
    if (kind in "fc" and not np.isfinite(array).all()) or (kind in "mM" and np.isnat(array).any()):
        bad = "NaT" if kind in "mM" else "NaN or infinity"
        raise ValueError(f"{name} must be finite, got {bad} (a DataFrame may have missing values)")
    if kind == "O" and (missing := pd.isna(array)).any():
        raise ValueError(
            f"{name} must have no missing values, got {missing.sum()} (a DataFrame may have them)"
        )
    return array


def _own(values: Any, name: str) -> pd.DataFrame:
    """A copy as a table, whose rows are numbered."""
    if not isinstance(values, pd.DataFrame):
        protocol = hasattr(values, "__dataframe__")
        try:
            if hasattr(values, "to_pandas"):
                values = values.to_pandas()
            else:
                values = (pd.api.interchange.from_dataframe if protocol else pd.DataFrame)(values)
        except ValueError as error:
            raise ValueError(f"{name} must have columns of one length ({error})") from None
    return _numbered(values.copy())


def _columns(table: pd.DataFrame) -> list[Any]:
    """Columns as arrays, by pandas' own iterator: a Series of each would take ten times as long."""
    return list(table._iter_column_arrays())


class Kind:
    """What the rows of one data set are like: other rows must be so, or are made so.

    `whole` says that `real` is all there is: what misses no value there never misses one.
    """

    def __init__(self, real: Rows, *, whole: bool) -> None:
        self.shape, self.columns = real.shape[1:], None
        if is_table(real):
            columns = _columns(real)
            self.columns, self.dtypes = real.columns, [one.dtype for one in columns]
            self._full = [whole and not pd.isna(one).any() for one in columns]

    def __call__(self, values: Any, n: int, name: str) -> Rows:
        """`n` rows of this kind, which own their memory."""
        if self.columns is None:
            found = rows(values.to_numpy() if is_table(values) else values, name)
            if found.shape != (n, *self.shape):
                raise ValueError(
                    f"{name} must return an array of shape {(n, *self.shape)}, got {found.shape}"
                )
            return found
        table = self._table(values, name)
        if len(table) != n:
            raise ValueError(f"{name} must return {n} rows, got {len(table)}")
        if [one.dtype for one in _columns(table)] != self.dtypes:
            both = zip(table.items(), self.dtypes, strict=True)
            cast = {i: _cast(one, dtype, name) for i, ((_, one), dtype) in enumerate(both)}
            table = pd.DataFrame(cast).set_axis(self.columns, axis=1)
        return self.look(_own(table, name), name)

    def look(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """The table itself, where nothing is infinite, and nothing missing that must be there."""
        for i, (column, full) in enumerate(zip(_columns(table), self._full, strict=True)):
            plain = isinstance(column, np.ndarray)
            if plain and column.dtype.kind in "iub":
                continue
            if column.dtype.kind == "f":
                floats = column if plain else column.to_numpy(float, na_value=np.nan)
                if full and np.isfinite(floats).all():
                    continue
                if np.isinf(floats).any():
                    raise ValueError(
                        f"{name} must be finite, got infinity in column {table.columns[i]!r}"
                    )
            if full and pd.isna(column).any():
                raise ValueError(
                    f"{name} must have no missing values in column {table.columns[i]!r}, "
                    "where data has none"
                )
        return table

    def _table(self, values: Any, name: str) -> pd.DataFrame:
        """A table with the columns of data, in their order."""
        if _has_names(values):
            table = values if is_table(values) else _own(values, name)
        else:  # an array, for models that know no tables
            plain = isinstance(values, (list, np.ndarray))
            array = values if plain else rows(values, name)
            table = pd.DataFrame(array if getattr(array, "ndim", 2) <= 2 else [])
            if table.shape[1] != len(self.columns):
                raise ValueError(
                    f"{name} must return a table with the columns {_words(self.columns)}, got "
                    f"{type(values).__name__} of {table.shape[1]} columns"
                )
            table = table.set_axis(self.columns, axis=1)
        if table.columns.equals(self.columns):
            return table
        absent, extra = (
            _words(one.difference(other, sort=False)) or "none"
            for one, other in ((self.columns, table.columns), (table.columns, self.columns))
        )
        if (absent, extra) != ("none", "none"):
            raise ValueError(
                f"{name} must return the columns of data, but lacks {absent} and adds {extra}"
            )
        return table[self.columns]


def _words(names: Any) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:10]) + ", ..." * (len(shown) > 10)


def _cast(column: pd.Series, dtype: Any, name: str) -> pd.Series:
    """A column with another type and the same values, or one line that names one that differs."""
    if column.dtype == dtype:
        return column
    missing, wrong = column.isna(), column
    if hasattr(dtype, "categories"):
        unseen = column[~missing & ~column.astype(object).isin(dtype.categories)]
        if unseen.empty:
            return column.astype(dtype)
        raise ValueError(
            f"{name} must return categories of data in column {column.name!r} "
            f"({_words(dtype.categories)}), got {unseen.iloc[0]!r}"
        )
    try:
        cast = column.astype(dtype)
        close = dtype.kind == "f" and column.dtype.kind in "iuf"  # another number of digits
        same = missing & cast.isna() | (cast.astype(object) == column.astype(object))
        if close or same.all():
            return cast
        wrong = column[~same]
    except (ValueError, TypeError):
        if missing.any() and dtype.kind in "iub":
            wrong = column[missing]
    one = wrong.iloc[0]
    one = one.item() if isinstance(one, np.generic) else one
    raise ValueError(
        f"{name} must return {dtype} in column {column.name!r}, as in data, got {column.dtype} "
        f"such as {one!r}"
    )
