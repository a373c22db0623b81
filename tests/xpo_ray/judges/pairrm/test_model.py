import json
import re
from typing import Any

import pytest
import torch

from tests.xpo_ray.judges.pairrm import slow
from tests.xpo_ray.judges.pairrm.worlds import config, random_weights
from xpo_ray.judges.pairrm.deberta import DebertaV2Model
from xpo_ray.judges.pairrm.disentangled import PrefixStates
from xpo_ray.judges.pairrm.model import PairRM
from xpo_ray.judges.pairrm.names import expected

ROWS = 100
KINDS: dict[str, dict[str, Any]] = {
    "deberta-v3": {},
    "own projections": {"share_att_key": False},
    "no buckets": {"position_buckets": -1, "max_relative_positions": 12},
    "far": {"position_buckets": 4, "max_position_embeddings": 16},
    "plain norm": {"norm_rel_ebd": "none"},
    "positions added": {"position_biased_input": True},
}
PLAIN: dict[str, dict[str, Any]] = {
    "convolution": {"conv_kernel_size": 3},
    "one kind of position": {"pos_att_type": ["c2p"]},
    "no positions": {"relative_attention": False, "pos_att_type": None, "position_biased_input": True},
}


def ids_of(lengths: tuple[int, int, int], seed: int = 0) -> list[int]:
    """Three segments behind their prefixes, the text random."""
    generator = torch.Generator().manual_seed(seed)
    out: list[int] = []
    for prefix, length in zip(slow.prefix_ids(), lengths, strict=True):
        out += [1, prefix, *torch.randint(4, 90, (length,), generator=generator).tolist(), 2]
    return out


INPUTS = [ids_of(lengths, i) for i, lengths in enumerate([(3, 4, 5), (12, 1, 2), (2, 14, 9), (0, 0, 0)])]


def logits(model: PairRM, rows: list[list[int]], pad: int = 0) -> list[float]:
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
    places = torch.tensor([[row.index(prefix) for prefix in slow.prefix_ids()] for row in rows])
    made: list[float] = model(ids, torch.tensor([len(row) for row in rows]), places).tolist()
    return made


def filled(weights: dict[str, torch.Tensor], made: Any, tasks: int = 1) -> PairRM:
    model = PairRM(made, tasks).eval()
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("kind", [*KINDS, *PLAIN])
def test_the_names_that_a_config_tells_are_those_of_the_model_or_the_kind_is_not_known(kind: str) -> None:
    made = config(ROWS, **(KINDS | PLAIN)[kind])
    told = expected(json.loads(made.to_json_string(use_diff=False)))
    assert told == (None if kind == "convolution" else set(PairRM(made, 1).state_dict()))


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("kind", [*KINDS, *PLAIN])
def test_logits_are_those_of_one_pair_at_a_time_through_transformers(kind: str, tasks: int) -> None:
    made = config(ROWS, **(KINDS | PLAIN)[kind])
    weights = random_weights(made, tasks)
    expected = [slow.logit(weights, made, row) for row in INPUTS]
    assert logits(filled(weights, made, tasks), INPUTS) == pytest.approx(expected, abs=2e-5)
    assert len({round(x, 3) for x in expected}) == len(INPUTS)


@torch.inference_mode()
def states(kind: str) -> tuple[PrefixStates, DebertaV2Model]:
    model = DebertaV2Model(config(ROWS, **(KINDS | PLAIN)[kind])).eval()
    return PrefixStates(model), model


@pytest.mark.parametrize("kind", [*KINDS, *PLAIN])
def test_the_fast_pass_serves_what_is_of_the_kind_of_deberta_v3_and_nothing_else(kind: str) -> None:
    assert (states(kind)[0].why_plain is None) == (kind in KINDS)


@torch.inference_mode()
def test_a_model_whose_layers_compute_something_else_takes_its_own_pass() -> None:
    _, model = states("deberta-v3")
    layer = model.encoder.layer[1]
    own = layer.forward
    layer.forward = lambda *args, **kwargs: (2 * own(*args, **kwargs)[0], None)
    changed = PrefixStates(model)
    ids = torch.tensor([[1, 5, 6, 2]])
    got = changed(ids, torch.tensor([4]), torch.tensor([[0, 2]]))
    assert changed.why_plain is not None
    assert re.fullmatch(r"its hidden states are off by [\d.e+-]+ of the largest, more than 0\.001", changed.why_plain)
    assert torch.equal(got, model(input_ids=ids).last_hidden_state[:, [0, 2]])


def test_a_logit_depends_neither_on_padding_nor_on_what_else_is_in_the_batch() -> None:
    made = config(ROWS)
    model = filled(random_weights(made), made)
    alone = [logits(model, [row])[0] for row in INPUTS]
    assert logits(model, INPUTS) == pytest.approx(alone, abs=1e-5)
    assert logits(model, INPUTS, pad=50) == pytest.approx(alone, abs=1e-5)
    assert logits(model, INPUTS[::-1]) == pytest.approx(alone[::-1], abs=1e-5)


def test_the_side_matters_to_the_model_and_the_mean_of_both_orders_changes_its_sign_with_them() -> None:
    made = config(ROWS)
    model = filled(random_weights(made), made)
    left_id, right_id = slow.prefix_ids()[1:]
    source, a, b = ids_of((3, 4, 5))[:6], [7, 8, 9, 2], [20, 21, 2]
    there = [*source, 1, left_id, *a, 1, right_id, *b]
    back = [*source, 1, left_id, *b, 1, right_id, *a]
    first, second = logits(model, [there, back])
    assert first != pytest.approx(-second, abs=1e-3)
    again, other = logits(model, [back, there])
    assert (first - second) / 2 == pytest.approx(-(again - other) / 2, abs=1e-6)
