"""Held-out metrics of an iteration from its JUDGED table and the base's; pure, numpy alone. Definitions in the docstrings."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xpo_ray.rounding import logp_bound, ranked_right

Floats = npt.NDArray[np.float64]
Z95 = 1.959963984540054


def held_out_metrics(
    judged: pa.Table,
    base: pa.Table | None,
    *,
    beta: float,
    dtype: Literal["float32", "bfloat16"],
    own_distribution: bool,
) -> dict[str, float | None]:
    """All held-out metrics; None where a metric has nothing to stand on. Intervals are 95 %.

    reward: mean score, with `reward/low` and `reward/high` (normal interval over prompts). gain: mean paired difference to
    the base. win_rate/base, win_rate/previous: mean of win probabilities (ties ½) with Wilson intervals. kl/k1, kl/k3:
    KL(π‖base) in nats per response of at most the draws' length, only where `own_distribution` says that they were drawn from π
    itself: at temperature 1, from all tokens, EOS at any place. implicit_accuracy: share of held-out pairs with β(log π − log
    base) larger on chosen than on rejected, ½ where they differ by no more than the rounding of `dtype`; implicit_margin: the
    mean difference."""
    score = _floats(judged["score"])
    ended = np.array(judged["ended"].to_pylist(), dtype=bool)
    lengths = np.array([len(ids) for ids in judged["ids"].to_pylist()], dtype=np.float64)
    out: dict[str, float | None] = {
        "prompts": float(judged.num_rows),
        "unjudged": float(np.isnan(score).sum()) if judged.num_rows else None,
        **_interval("reward", score),
        **_interval("gain", score - _floats(judged["base_score"])),
        **_wins("win_rate/base", _floats(judged["base_win"])),
        **_wins("win_rate/previous", _floats(judged["previous_win"])),
        "length": _mean(lengths),
        "eos_rate": _mean(ended.astype(np.float64)),
        "truncation_rate": _mean(1.0 - ended.astype(np.float64)),
        **(kl_estimates(_floats(judged["logp"]) - _floats(judged["base_logp"])) if own_distribution else {}),
    }
    if base is not None:
        out |= implicit_rewards(judged, base, beta, dtype)
    return out


def kl_estimates(log_ratio: Floats) -> dict[str, float | None]:
    """KL(π‖base) from ℓ = log π − log base on draws of π: k1 = mean ℓ, k3 = mean(e^−ℓ − 1 + ℓ) (Schulman)."""
    k3 = np.exp(np.minimum(-log_ratio, 50.0)) - 1.0 + log_ratio
    return {"kl/k1": _mean(log_ratio), "kl/k1_sem": _sem(log_ratio), "kl/k3": _mean(k3), "kl/k3_sem": _sem(k3)}


def implicit_rewards(
    judged: pa.Table, base: pa.Table, beta: float, dtype: Literal["float32", "bfloat16"]
) -> dict[str, float | None]:
    """Accuracy (equality up to rounding ½) and mean margin of the implicit reward β(log π − log base) on held-out pairs."""
    pairs = [(table, name) for name in ("chosen_logp", "rejected_logp") for table in (judged, base)]
    logps = np.stack([_floats(table[name]) for table, name in pairs])
    chosen, base_chosen, rejected, base_rejected = logps[:, ~np.isnan(logps).any(axis=0)]
    difference = (chosen - base_chosen) - (rejected - base_rejected)
    right = ranked_right(difference, logp_bound(dtype, chosen, base_chosen, rejected, base_rejected))
    return {**_wins("implicit_accuracy", right), "implicit_margin": _mean(beta * difference)}


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """95 % Wilson interval of a share; halves count for ties."""
    share = successes / trials
    denominator = 1.0 + Z95**2 / trials
    centre = (share + Z95**2 / (2 * trials)) / denominator
    half = Z95 * math.sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


def _interval(name: str, values: Floats) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    mean, sem = _mean(known), _sem(known)
    if mean is None or sem is None:
        return {name: mean, f"{name}/low": None, f"{name}/high": None}
    return {name: mean, f"{name}/low": mean - Z95 * sem, f"{name}/high": mean + Z95 * sem}


def _wins(name: str, values: Floats) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    if not len(known):
        return {name: None, f"{name}/low": None, f"{name}/high": None}
    low, high = wilson(float(known.sum()), len(known))
    return {name: float(known.mean()), f"{name}/low": low, f"{name}/high": high}


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _sem(values: Floats) -> float | None:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _floats(column: pa.ChunkedArray) -> Floats:
    values: Sequence[float | None] = column.to_pylist()
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)
