"""How a window is shared out over ranks: the same answer on every rank, and the same number of micro-batches for each. Pure.

A rank that ran out of examples goes on with empty micro-batches, since ranks that compute unequally often wait for ever.
"""

from collections.abc import Sequence

from xpo_ray.logprobs import LogProbFunction, PromptGroup, micro_batches


def shared_out(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Places of examples for each rank: the largest first, each to the rank that has least so far."""
    loads, shares = [0] * ranks, [list[int]() for _ in range(ranks)]
    for place in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = loads.index(min(loads))
        loads[rank] += sizes[place]
        shares[rank].append(place)
    return shares


def passes(
    groups: Sequence[PromptGroup], ranks: int, max_tokens: int, log_probs: LogProbFunction
) -> list[list[list[int]]]:
    """The micro-batches of each rank, as places of groups; empty ones at the end make them equally many."""
    shares = shared_out([log_probs.tokens([g]) for g in groups], ranks)
    made = [
        [[share[i] for i in batch] for batch in micro_batches([groups[k] for k in share], max_tokens, log_probs)]
        for share in shares
    ]
    most = max(map(len, made), default=0)
    return [batches + [[]] * (most - len(batches)) for batches in made]
