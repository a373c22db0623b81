"""The first held-out responses of an evaluation, over its shards, and no more than are wanted or there."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.xpo_ray.exports.journal import tell
from xpo_ray.evaluation.table import JUDGED, held_out_key
from xpo_ray.exports.samples import held_out_samples
from xpo_ray.spec.loading import parse_spec
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import LocalStorage, to_json


def spec(samples: int) -> RunSpec:
    return parse_spec(
        {
            "model": {"path": "owner/base"},
            "data": {"source": {"kind": "files", "path": "/train.parquet"}, "shard_size": 4},
            "algorithm": {"kind": "dpo"},
            "output": {"path": "/out", "samples": samples},
        }
    )


def judged(i: int) -> dict[str, Any]:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"question {i}"}]
    scores = {"score": float(i), "base_score": None, "previous_score": 0.5, "base_win": None, "previous_win": 1.0}
    logps = {"logp": -1.0, "chosen_logp": None, "rejected_logp": None, "base_logp": -2.0}
    drawn = {"response": f"answer {i}", "ids": [1] * i, "ended": True, "prompt_ids": [1, 2]}
    return {"row": i, "prompt_id": f"p{i}", "prompt": messages, **drawn, **logps, **scores}


def storage_with(root: Path, rows: int) -> LocalStorage:
    """Judged responses of iteration 2 in shards of four."""
    tell(root, 1)
    storage = LocalStorage(root, 1)
    (storage.attempt_folder / "adopted.json").write_bytes(to_json({"commits": [], "checkpoints": []}))
    for shard, start in enumerate(range(0, rows, 4)):
        table = pa.Table.from_pylist([judged(i) for i in range(start, min(start + 4, rows))], schema=JUDGED)
        storage.publish_table(held_out_key("id", "judged", 2, shard), table)
    return storage


def test_as_many_as_are_wanted_and_there(tmp_path: Path) -> None:
    storage = storage_with(tmp_path, 10)
    found = {wanted: len(held_out_samples(storage, "id", spec(wanted), 2)) for wanted in (0, 3, 4, 6, 10, 40)}
    assert found == {0: 0, 3: 3, 4: 4, 6: 6, 10: 10, 40: 10}
    assert held_out_samples(storage, "id", spec(3), 1) == ()


def test_a_sample_has_its_prompt_as_text_and_its_scores(tmp_path: Path) -> None:
    sample = held_out_samples(storage_with(tmp_path, 6), "id", spec(40), 2)[5]
    assert sample.prompt == "system: be brief\n\nuser: question 5"
    assert (sample.prompt_id, sample.response, sample.tokens, sample.ended) == ("p5", "answer 5", 5, True)
    assert (sample.score, sample.base_score, sample.previous_score) == (5.0, None, 0.5)
