"""Held-out responses side by side, iteration by iteration. The texts are a model's: untrusted, escaped by the template."""

from collections import defaultdict
from typing import Any

from xpo_ray.report.blocks import Note, Sample, SampleGroup, Samples, Section
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.reward import why_not_evaluated
from xpo_ray.report.series import spread

MAX_MODELS = 6
MAX_GROUPS = 64
MAX_CHARACTERS = 6000


def samples(run: RunFolder, _other: RunFolder | None) -> Section:
    """The first held-out prompts with what each model answered."""
    lead = "The same held-out prompts and the same random numbers for every model."
    wanted = min(run.spec["output"]["samples"], MAX_GROUPS)
    iterations = spread(run.tables.evaluated_iterations, MAX_MODELS)
    groups: dict[int, list[Sample]] = defaultdict(list)
    prompts: dict[int, tuple[tuple[str, str], ...]] = {}
    for t in iterations:
        for row in run.tables.responses(t, wanted):
            groups[row["row"]].append(_sample(t, row))
            prompts[row["row"]] = tuple((m["role"], _short(m["content"])) for m in row["prompt"])
    if not groups:
        why = "output.samples is 0." if wanted == 0 else why_not_evaluated(run)
        return Section("samples", "Samples", lead, (Note(why),))
    return Section(
        "samples", "Samples", lead, (Samples(tuple(SampleGroup(prompts[r], tuple(s)) for r, s in groups.items())),)
    )


def _sample(iteration: int, row: dict[str, Any]) -> Sample:
    model = "base" if iteration == 0 else f"iteration {iteration}"
    return Sample(model, _short(row["response"]), row["score"], len(row["ids"]), row["ended"])


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} … ({len(text):,} characters in all)"
