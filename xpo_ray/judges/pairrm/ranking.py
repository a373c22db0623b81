"""From the comparison matrix of a prompt to scores, win probabilities and ranks. Pure; the judge calls it per prompt.

logits[i][j] is PairRM's logit with response i on the left and j on the right: above 0, i is the better one. A model with a
liking for one side has logits[i][j] ≠ −logits[j][i]; all that stands here reads logits[i][j] − logits[j][i] alone, in which
that liking cancels.
"""

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def max_logits(logits: Matrix) -> tuple[float, ...]:
    """s_i = (1/n) Σ_j (C_ij − C_ji), in nats; LLM-Blender's `max_logits`, which divides by n though C_ii − C_ii is 0.

    Of two responses s_0 − s_1 = C_01 − C_10, the sum of both orders, as its `compare` has it. Sums are exactly rounded, so
    that equal rows tie.
    """
    n = len(logits)
    return tuple(math.fsum(logits[i][j] - logits[j][i] for j in range(n)) / n for i in range(n))


def win_probabilities(logits: Matrix) -> tuple[tuple[float, ...], ...]:
    """P(row beats column) = σ((C_ij − C_ji) / 2): PairRM was trained with −log σ(±C), and both orders are averaged."""
    n = len(logits)
    return tuple(tuple(_sigmoid((logits[i][j] - logits[j][i]) / 2) for j in range(n)) for i in range(n))


def ranks(scores: Sequence[float]) -> tuple[int, ...]:
    """1 is the best; equal scores share a rank, and the next one counts them all."""
    return tuple(1 + sum(other > score for other in scores) for score in scores)


def _sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2
