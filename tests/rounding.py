"""What rounding may add: derived bounds for tests that compare two floating-point routes.

An error bound is the number of roundings times the condition of the value. N. J. Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed. (SIAM, 2002), sections 1.6 and 3.1:
n roundings in a row multiply by 1 + theta, |theta| <= gamma_n = n u / (1 - n u). Two routes that
both round may lie as far apart as both bounds together: count the operations of both.
"""

import numpy as np

#: Roundings that one call of exp, log, a power or a special function counts for: 4 units in the
#: last place, what numpy's vector kernels grant themselves on every processor.
CALL = 8


def bound(operations, condition=1.0, dtype=float):
    """Largest relative error after `operations` roundings: gamma_n times the condition.

    Sums and dot products of n terms count n, whatever their order. `condition` may be an array.
    """
    nu = operations * np.finfo(dtype).eps / 2
    return nu / (1 - nu) * condition


def sum_condition(terms, axis=None):
    """Condition of a sum: how much larger than the sum itself its terms are together."""
    return np.abs(terms).sum(axis) / np.abs(np.sum(terms, axis))


def assert_within(actual, expected, error):
    """Each |actual - expected| is at most its `error` (absolute; broadcast)."""
    off = np.abs(np.asarray(actual) - np.asarray(expected))
    assert (off <= error).all(), f"off by {off.max():.3g}; allowed: {error}"


def moved(route, *inputs):
    """How far each result of route(*inputs) moves per relative change of the inputs.

    The condition of a route that has no formula for it, by a finite difference: every entry changes
    by a random sign times the root of the machine epsilon (Kenney and Laub, SIAM J. Sci. Comput. 15
    (1994) 36: one random direction finds the size of the gradient within a small factor).
    """
    step, signs = np.sqrt(np.finfo(float).eps), np.random.default_rng(0)
    shaken = [x * (1 + step * signs.choice([-1, 1], np.shape(x))) for x in inputs]
    pairs = zip(route(*inputs), route(*shaken), strict=True)
    return [np.abs(after - before).max() / step for before, after in pairs]
