"""How far the model has moved and how it writes: KL to the base, length and EOS rate of held-out responses by iteration."""

import numpy as np

from xpo_ray.generation.engine import held_out_sampling
from xpo_ray.report.blocks import Figure, Note, Row, Section
from xpo_ray.report.charts import Line, intervals
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.reward import why_not_evaluated
from xpo_ray.report.series import Floats, spread

MAX_POINTS = 400
Z95 = 1.96


def responses(run: RunFolder, _other: RunFolder | None) -> Section:
    """Three small figures from the held-out metrics."""
    evaluations = run.history.evaluations
    iterations = spread(sorted(evaluations), MAX_POINTS)
    lead = "A model that wins by drifting far or by writing at length shows it here."
    if not iterations:
        return Section("responses", "KL and length", lead, (Note(why_not_evaluated(run)),))

    def column(name: str) -> Floats:
        values = [evaluations[t].get(name) for t in iterations]
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    x = np.array(iterations, dtype=np.float64)
    figures = [_length(x, column("length")), _ended(x, column("eos_rate"))]
    kl, sem = column("kl/k1"), column("kl/k1_sem")
    notes: tuple[Note, ...] = ()
    if np.isfinite(kl).any():
        figures.insert(0, _kl(x, kl, sem, column("kl/k3")))
    else:
        notes = (Note(why_no_kl(run)),)
    return Section("responses", "KL and length", lead, (Row(tuple(figures)), *notes))


def why_no_kl(run: RunFolder) -> str:
    """Why held-out draws give no estimate of KL."""
    how = held_out_sampling(run.run_spec)
    if how.temperature == 0.0:
        return "KL: the evaluation decodes greedily, and KL is estimated from samples at temperature 1 only."
    if how.min_new_tokens:
        return (
            f"KL: held-out draws have at least {how.min_new_tokens} tokens (min_new_tokens), so they lack an early end that "
            "log-probs allow, and no KL can be estimated from them; set evaluation.min_new_tokens: 0 to have it."
        )
    return "KL: no held-out draw has log-probs yet."


def _kl(x: Floats, kl: Floats, sem: Floats, k3: Floats) -> Figure:
    series = [
        Line("k1", x, kl, "@draw", kl - Z95 * sem, kl + Z95 * sem),
        Line("k3", x, k3, "@reference", dash="dot"),
    ]
    reading = (
        "KL(π‖base) from the model's own samples with 95 % intervals; where the two estimators part, samples are few."
    )
    return Figure("KL to the base", reading, intervals(series, "iteration", "nats per response", ticks=x.tolist()))


def _length(x: Floats, length: Floats) -> Figure:
    reading = "Mean length of held-out responses; growth without end is a judge that rewards length."
    chart = intervals([Line("length", x, length, "@draw")], "iteration", "tokens per response", ticks=x.tolist())
    chart["layout"]["yaxis"]["rangemode"] = "tozero"
    return Figure("Response length", reading, chart)


def _ended(x: Floats, rate: Floats) -> Figure:
    reading = "Share of responses that end with EOS; the rest were cut at the limit."
    chart = intervals(
        [Line("EOS rate", x, rate, "@draw")], "iteration", "ended responses", ticks=x.tolist(), percent=True
    )
    chart["layout"]["yaxis"]["range"] = [0, 1.05]
    return Figure("EOS rate", reading, chart)
