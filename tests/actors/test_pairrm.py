"""A whole SELM run whose judge is PairRM."""

import pyarrow as pa
import pytest

from tests.actors.conftest import World
from tests.actors.test_driver import committed
from tests.xpo_ray.judges.pairrm.worlds import hf_folder
from xpo_ray.reporting import EvaluationDone, StepDone

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.usefixtures("cluster")]


def test_a_selm_run_ranks_the_draw_and_the_datasets_pair_by_pairrm(world: World) -> None:
    hf_folder(world.folder / "PairRM-hf")
    judge = {"kind": "pairrm", "path": "./PairRM-hf", "max_source_tokens": 64, "max_tokens": 256}
    raw = world.raw | {"judge": judge, "resources": {**world.raw["resources"], "judge_replicas": 1}}
    raw["data"] = {**raw["data"], "partitions": 1, "source": {**raw["data"]["source"], "limit": 16}}
    ran = world.run("pairrm", raw=raw)
    judged: pa.Table = committed(ran.result.root, "scored", 1)
    judgements, preferences = judged["judgement"].to_pylist(), judged["preference"].to_pylist()
    assert {j["judge"] for j in judgements} == {"pairrm:PairRM-hf"}
    for judgement, preference in zip(judgements, preferences, strict=True):
        scores = judgement["scores"]
        assert len(scores) == 3
        assert sum(scores) == pytest.approx(0.0, abs=1e-6), "relative to each other"
        assert (scores[preference["chosen"]], scores[preference["rejected"]]) == (max(scores), min(scores))
    assert len(ran.heard.of(StepDone)) == 2
    assert ran.heard.of(EvaluationDone)
