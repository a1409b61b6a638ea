"""What rounding may add in the small language model of these tests."""

import copy

from rounding import CALL

TOKENS = 400
#: Roundings in a row in the network of these tests, in single precision: the products of a layer
#: with 16 features, 2 heads, 32 inner features and blocks of 8, its two norms and its softmax; a
#: last norm, the logits, and the sum over all tokens.
DEPTH = 2 * (4 * 16 + 8 + 2 * 8 + 16 + 32 + 2 * (2 * 16 + CALL) + CALL) + 3 * 16 + TOKENS + 2 * CALL


def swayed(network, step=2.0**-12):
    """The network with weights that are off by a relative `step`, by random signs.

    What that moves, over `step`, is the condition of a result that has no formula for it.
    """
    import torch

    network, signs = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p *= 1 + step * torch.randn(p.shape, generator=signs).sign()
    return network
