"""TensorBoard: event files in the run's folder, written by torch's SummaryWriter.

The next attempt writes one more file into the same folder. Its first record tells TensorBoard to forget what a killed attempt
had written behind the mark, so that no step is drawn twice.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xpo_ray.exports.exporter import Point, RunCard, Sample, Samples

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardExporter:
    """Scalars, the spec as hyperparameters, and samples as text."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> "SummaryWriter":
        assert self._writer is not None, "open comes first"
        return self._writer

    def open(self, card: RunCard) -> None:
        from torch.utils.tensorboard.summary import hparams
        from torch.utils.tensorboard.writer import SummaryWriter

        purge = card.last_step + 1 if card.attempt > 1 else None
        self._writer = SummaryWriter(str(card.root / "tensorboard"), purge_step=purge)
        settings = {"name": card.name, "run_id": card.run_id, "tags": ", ".join(card.tags), **card.settings()}
        plain = {key: _plain(value) for key, value in settings.items()}
        for summary in hparams(plain, {"evaluation/reward": 0.0, "train/loss": 0.0}):
            self.writer.file_writer.add_summary(summary)
        self.writer.add_text("spec", _fenced(json.dumps(card.spec, indent=1)), 0)
        self.writer.flush()

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            for name, value in point.values.items():
                self.writer.add_scalar(name, value, point.step, walltime=point.at)
        self.writer.flush()

    def show(self, samples: Samples) -> None:
        text = "\n\n".join(_shown(sample) for sample in samples.rows)
        self.writer.add_text("evaluation/samples", text, samples.step, walltime=samples.at)
        self.writer.flush()

    def close(self, *, succeeded: bool) -> None:  # noqa: ARG002  event files have no place for it
        self.writer.close()


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)


def _shown(sample: Sample) -> str:
    score = "none" if sample.score is None else f"{sample.score:.4g}"
    head = f"**{sample.tokens} tokens, score {score}**"
    return f"{head}\n\n{_fenced(sample.prompt)}\n\n{_fenced(sample.response)}"


def _fenced(text: str) -> str:
    """A block of code that the text cannot end: it is model output."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
