"""Rows of any kind: arrays, and tables that keep their columns, types and missing values.

A table is a pandas ``DataFrame``; frames of other libraries come in by their ``to_pandas()`` or the
dataframe interchange protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._checks import short

if TYPE_CHECKING:
    import pandas as pd

Rows = Any  # an array of shape (n, ...), or a DataFrame of n rows


def is_table(rows: object) -> bool:
    """Whether rows are a DataFrame."""
    return hasattr(rows, "iloc") and hasattr(rows, "columns")


def _has_names(rows: object) -> bool:
    """Whether rows are a frame of any library, or records, columns or dicts that make one."""
    ways = ("iloc", "to_pandas", "__dataframe__")
    frame = hasattr(rows, "columns") and any(hasattr(rows, way) for way in ways)
    records = getattr(getattr(rows, "dtype", None), "names", None)
    first = rows[0] if isinstance(rows, (list, tuple)) and rows else rows
    return frame or bool(records) or isinstance(first, Mapping)


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

    if _has_names(values):
        table = _own(values, name)
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
    if array.ndim == 0:
        raise ValueError(f"{name} must be rows: an array or a DataFrame, got {short(values)}")
    kind = array.dtype.kind
    if (kind in "fc" and not np.isfinite(array).all()) or (kind in "mM" and np.isnat(array).any()):
        bad = "NaT" if kind in "mM" else "NaN or infinity"
        raise ValueError(f"{name} must be finite, got {bad} (a DataFrame may have missing values)")
    if kind == "O" and (missing := pd.isna(array)).any():
        raise ValueError(
            f"{name} must have no missing values, got {missing.sum()} (a DataFrame may have them)"
        )
    return array


def _own(values: Any, name: str) -> pd.DataFrame:
    import pandas as pd

    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    elif not is_table(values):
        protocol = hasattr(values, "__dataframe__")
        try:
            values = pd.api.interchange.from_dataframe(values) if protocol else pd.DataFrame(values)
        except ValueError as error:
            raise ValueError(f"{name} must have columns of one length ({error})") from None
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
        return _own(values, name)

    def _table(self, values: Any, name: str) -> pd.DataFrame:
        """A table with the columns of data, in their order."""
        if _has_names(values):
            values = values if is_table(values) else _own(values, name)
        else:  # an array, for models that know no tables
            import pandas as pd

            plain = isinstance(values, (list, np.ndarray))
            array = values if plain else np.asarray(rows(values, name))
            flat = isinstance(array, list) or array.ndim in (1, 2)
            given = pd.DataFrame(array if flat else [])
            if given.shape[1] != len(self.columns):
                raise ValueError(
                    f"{name} must return a table with the columns {_words(self.columns)}, got "
                    f"{type(values).__name__} of {given.shape[1]} columns"
                )
            values = given.set_axis(self.columns, axis=1)
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
    one = wrong.iloc[0]
    one = one.item() if isinstance(one, np.generic) else one
    raise ValueError(
        f"{name} must return {dtype} in column {column.name!r}, as in data, got {column.dtype} "
        f"such as {one!r}"
    )
