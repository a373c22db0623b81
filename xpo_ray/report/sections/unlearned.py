"""What stands first in the report where a run, or a part of it, has learned nothing. The headline calls it."""

import numpy as np

from xpo_ray.missing_pairs import CAUSES, PREFIX, likely_causes
from xpo_ray.report.blocks import Note
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.wording import counted

CODES = ("empty_draws", "same_draws", "flat_loss")
"""Warnings of the driver that stand beside it."""


def unlearned(run: RunFolder) -> tuple[Note, ...]:
    """A note on windows without a pair, and the warnings that go with it; nothing where all windows had pairs."""
    warned = {e["code"]: e["message"] for e in run.history.notable if e["type"] == "Warned"}
    notes = [_windows(run), *(Note(warned[code], tone="bad") for code in CODES if code in warned)]
    return tuple(note for note in notes if note is not None)


def _windows(run: RunFolder) -> Note | None:
    steps = run.history.steps
    without = int(np.sum(steps.column("pairs") == 0.0)) if len(steps) else 0
    if not without:
        return None
    missing = {PREFIX + cause: float(np.nansum(steps.column(PREFIX + cause))) for cause in CAUSES}
    causes = likely_causes(missing)
    why = f" Why prompts had no pair: {causes}." if causes else ""
    if run.spec["training"].get("bonus_without_pairs"):
        then = "trained the exploration bonus alone"
    else:
        then = "took no optimizer step"
    if without == len(steps):
        head = f"Nothing was learned from preferences: none of the {counted(without, 'window')} had a pair, and they {then}."
        return Note(head + why, "bad")
    tone = "bad" if 2 * without > len(steps) else ""
    return Note(f"{without:,} of {counted(len(steps), 'window')} had no pair and {then}.{why}", tone)
