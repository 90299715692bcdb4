"""``torch.compile`` for networks whose batches have several sizes, with and without gradients."""

from torch import nn

VARIANTS = 64  # torch counts them for all networks together, and computes without compiling beyond this number


def compile_networks(*networks: nn.Module) -> None:
    """Compile each network at its first call; names in state dicts stay unchanged.

    A second size of batches compiles once more, for all sizes from then on.
    """
    from torch import _dynamo  # takes seconds, and is needed by runs with --compile alone
    from torch._functorch import config

    limit = "recompile_limit" if hasattr(_dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(_dynamo.config, limit, VARIANTS)
    if hasattr(config, "donated_buffer"):
        config.donated_buffer = False  # guided gradients go backward twice through one graph
    for network in networks:
        network.compile()
