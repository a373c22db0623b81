"""Event files read back with TensorBoard's own reader."""

from pathlib import Path
from typing import Any

import pytest

from tests.xpo_ray.exports.journal import SAMPLE, WHOLE, card, evaluation, ship, step, tell
from xpo_ray.exports.exporter import Point, Sample, Samples
from xpo_ray.exports.tensorboard import TensorBoardExporter
from xpo_ray.reporting import RunStarted

pytest.importorskip("tensorboard", reason="needs xpo-ray[tensorboard]")


def read_back(root: Path) -> Any:
    """All that the run's event files hold, as TensorBoard would show it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(root / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    return read.Reload()


def scalars(read: Any, name: str) -> list[tuple[int, float]]:
    return [(s.step, pytest.approx(s.value)) for s in read.Scalars(name)]


def test_steps_and_evaluations_are_scalars_at_total_steps(tmp_path: Path) -> None:
    tell(tmp_path, 1, *WHOLE)
    ship(tmp_path, 1, "tensorboard", TensorBoardExporter)
    read = read_back(tmp_path)
    assert scalars(read, "train/loss") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert scalars(read, "evaluation/reward") == [(0, 1.0), (2, 2.0), (4, 3.0)]
    assert scalars(read, "evaluation/iteration") == [(0, 0.0), (2, 1.0), (4, 2.0)]


def test_an_attempt_after_a_kill_draws_no_step_twice(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), step(2))
    ship(tmp_path, 1, "tensorboard", TensorBoardExporter)
    killed = TensorBoardExporter()
    killed.open(card(tmp_path))
    killed.log([Point(3, 50.0, {"train/loss": 9.0})])  # taken by the library; the kill comes before the mark
    tell(tmp_path, 1, step(3))
    tell(tmp_path, 2, RunStarted("run_1", 2, 2, 4), step(3, 0.9, replayed=True), step(4), evaluation(0))
    ship(tmp_path, 2, "tensorboard", TensorBoardExporter)
    assert scalars(read_back(tmp_path), "train/loss") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    killed.close(succeeded=False)


def test_the_resolved_spec_is_there_as_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    tell(tmp_path, 1, step(1))
    ship(tmp_path, 1, "tensorboard", TensorBoardExporter)
    content = read_back(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    values = {name: value.string_value or value.number_value for name, value in session.hparams.items()}
    assert values["training.batch_size"] == 8.0
    assert values["training.learning_rate"] == "[0.001, 0.0001]"
    assert (values["run_id"], values["tags"], values["judge"]) == ("run_1", "selm, mine", "null")


def test_samples_are_text_that_model_output_cannot_escape_from(tmp_path: Path) -> None:
    exporter = TensorBoardExporter()
    exporter.open(card(tmp_path))
    hostile = Sample("p", "user: hi", "```\n<script>alert(1)</script>\n````", 3, False, None, None, None)
    exporter.show(Samples(1, 2, 100.0, (SAMPLE, hostile)))
    exporter.close(succeeded=True)
    (event,) = read_back(tmp_path).Tensors("evaluation/samples/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert event.step == 2
    assert "**5 tokens, score 1.5**\n\n```\nuser: `why`?\n```" in text
    assert "`````\n```\n<script>alert(1)</script>\n````\n`````" in text
