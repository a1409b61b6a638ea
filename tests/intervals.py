"""Intervals of a run's own standard errors, for tests of laws against raw data."""

import numpy as np
from scipy import stats

#: Chance of a false alarm of one check, split over the points it compares.
ALARM = 1e-4


def assert_mean(samples, law, *, axis=-1, rounding=0.0):
    """The mean over replicates lies within the interval of its own standard error.

    Parameters
    ----------
    samples : array
        Replicates along `axis`; every other entry is a point.
    law : array or float
        Expected means.
    axis : {-1, 0}
    rounding : float
        What floating point may add, for points that do not vary.
    """
    samples = np.moveaxis(np.asarray(samples, dtype=float), axis, -1)
    samples = samples.reshape(-1, samples.shape[-1])
    law = np.broadcast_to(np.ravel(law), len(samples))
    se = samples.std(axis=1, ddof=1) / np.sqrt(samples.shape[1])
    z = stats.norm.isf(ALARM / (2 * len(samples)))
    strain = np.abs(samples.mean(axis=1) - law)
    assert (strain < z * se + rounding).all(), (samples.mean(axis=1), law, se)
