"""What is no difference because rounding alone can make it: of log-probs by dtype, and of scores that a model computes.

A batch of another shape, another processor or another number of threads adds up in another order. Wherever the sign of a
difference is counted, a difference within these bounds is a tie and counts ½. Scores of a user's own judge are never rounded:
they have the user's scale. Pure; works on torch's tensors and on numpy's arrays alike, and imports neither.
"""

from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

Array = TypeVar("Array", "Tensor", "npt.NDArray[np.float64]")
Dtype = Literal["float32", "float16", "bfloat16"]

LOGP_ROUNDING: dict[Dtype, float] = {"float32": 1e-5, "bfloat16": 4e-2}
"""Of a summed log-prob ℓ in nats, in units of √|ℓ|, or of 1 where |ℓ| is below 1: roundings of its tokens add up as a random
walk. docs/learning.md has the measurement behind the figures."""
SCORE_ROUNDING: dict[Dtype, float] = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Of the output of a reward model or of PairRM, relative to its size, or to 1 where it is smaller: four units in the last place
of the 16-bit types, and what sums of another order were seen to move in float32."""


def logp_bound(dtype: Literal["float32", "bfloat16"], *logps: Array) -> Array:
    """How far a sum of these log-probs and of their negatives may lie from 0 by rounding, elementwise: ε √(Σ max(|ℓ|, 1))."""
    sizes: list[Any] = [abs(logp).clip(min=1.0) for logp in logps]
    bound: Array = LOGP_ROUNDING[dtype] * sum(sizes[1:], sizes[0]) ** 0.5
    return bound


def ranked_right(difference: Array, bound: Array) -> Array:
    """1 where a difference is above its bound, ½ within it, 0 below; NaN counts 0."""
    plain: Any = difference
    right: Array = (plain > bound) * 1.0 + (abs(plain) <= bound) * 0.5
    return right
