"""Each architecture of the table draws as `generate` does, gives its own log-probs, learns, comes back; others are refused."""

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedModel

from tests.xpo_ray.model_table import DECODERS, REFUSED, WHOLE, Row, Whole
from xpo_ray.adapters import Adapter, merged
from xpo_ray.architectures import check_architecture
from xpo_ray.checkpoints import load_model, put_weights, save_model, weights_of
from xpo_ray.errors import ModelError
from xpo_ray.generation import transformers as engine_module
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine, uniforms
from xpo_ray.logprobs import PromptGroup, choose
from xpo_ray.recomputation import recompute_layers
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")

ENDS = [1, 4, 9]
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [18, 1, 19], [20, 21], [5, 6, 7]]
SEEDS = [101, 102, 103, 104, 105, 106]
GROUPS = [
    PromptGroup([5, 6, 7], ((8, 9, 10, 1), (3, 1))),
    PromptGroup([8], ((20, 21, 22, 23, 24, 25, 26, 1), (3,))),
    PromptGroup([9, 10, 11, 12, 13, 14, 15, 16, 17], ((9, 2), (7, 7, 7, 3, 3, 2, 2, 1))),
]
TOLERANCE = 1e-4
each_decoder = pytest.mark.parametrize("row", DECODERS, ids=lambda row: row.id)
each_whole = pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.kind)


def generated(model: PreTrainedModel, prompt: Sequence[int], tokens: int) -> list[int]:
    """What transformers' own `generate` decodes greedily for one prompt."""
    ids = torch.tensor([list(prompt)])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=ENDS,
        pad_token_id=0,
    )
    made: list[int] = out[0, len(prompt) :].tolist()
    return made


def slow_draw(model: PreTrainedModel, prompt: Sequence[int], seed: int, tokens: int) -> list[int]:
    """One sequence, without a cache: each token by its uniform number's place in the cumulative distribution."""
    ids = list(prompt)
    for u in uniforms([seed], tokens)[0].tolist():
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(next(i for i, reached in enumerate(accumulate(logits.double().softmax(-1).tolist())) if reached > u))
        if ids[-1] in ENDS:
            break
    return ids[len(prompt) :]


@torch.no_grad()
def own_log_probs(model: PreTrainedModel, groups: Sequence[PromptGroup] = GROUPS) -> Tensor:
    """Of each response, from the model's pass over that sequence alone."""
    sums = []
    for prompt, response in [(g.prompt_ids, r) for g in groups for r in g.responses]:
        logits = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
        logp = logits.float().log_softmax(-1)[len(prompt) - 1 : -1]
        sums.append(logp.gather(-1, torch.tensor(response)[:, None]).sum())
    return torch.stack(sums)


def near(made: Tensor, own: Tensor) -> bool:
    return bool(((made - own).abs() <= TOLERANCE * own.abs().clamp(min=1)).all())


def stepped(model: PreTrainedModel) -> list[str]:
    """Take a step towards likelier responses; returns the names of weights that no gradient reached."""
    log_probs = choose(model).log_probs
    torch.autograd.backward(-log_probs(model, GROUPS).logp_S.sum())
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    with torch.no_grad():
        for _, parameter in trained:
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad.sign())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for _, p in trained)
    left = [n for n, p in trained if p.grad is None]
    model.zero_grad(set_to_none=True)
    return left


@each_decoder
def test_greedy_draws_are_those_of_generate(row: Row) -> None:
    model = row.make()
    drawn = TransformersEngine(model, ENDS).draw(PROMPTS, SEEDS, Sampling(0.0, 1.0, None, 10))
    assert [list(d.ids) for d in drawn] == [generated(model, p, 10) for p in PROMPTS]


@each_decoder
def test_rows_that_end_or_begin_at_other_times_change_no_draw(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    model = row.make()
    expected = [slow_draw(model, p, s, 16) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert len({len(e) for e in expected}) > 1
    for most in (2, 128):
        monkeypatch.setattr(engine_module, "MOST_ROWS", most)
        drawn = TransformersEngine(model, ENDS).draw(PROMPTS, SEEDS, Sampling(1.0, 1.0, None, 16))
        assert [list(d.ids) for d in drawn] == expected


@each_decoder
def test_log_probs_are_those_of_each_sequence_alone(row: Row) -> None:
    model = row.make()
    own = own_log_probs(model)
    with torch.no_grad():
        out = choose(model).log_probs(model, GROUPS, entropy=True)
    assert near(out.logp_S, own)
    assert out.tokens_S.tolist() == [len(r) for g in GROUPS for r in g.responses]
    assert out.entropy_S is not None
    assert bool((out.entropy_S > 0).all())


@each_decoder
def test_a_model_that_took_a_step_is_saved_sent_and_loaded(row: Row, tmp_path: Path, model_folder: Path) -> None:
    row.make().save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base", "float32")
    before = own_log_probs(model)
    assert set(stepped(model)) <= set(row.unused)
    after = own_log_probs(model)
    assert float(after.sum()) > float(before.sum())
    save_model(model, model_folder, tmp_path / "model")
    assert near(own_log_probs(load_model(tmp_path / "model", "float32")), after)
    other = load_model(tmp_path / "base", "float32")
    put_weights(other, weights_of(model))
    assert near(own_log_probs(other), after)


@pytest.mark.parametrize("name", ["qwen3_5_text", "gemma3n_text", "gemma4_text", "granitemoehybrid", "rwkv"])
def test_gradients_are_the_same_where_layers_are_computed_again(name: str) -> None:
    model = next(r for r in DECODERS if r.id == name).make()
    model.config.rescale_every = 0
    log_probs = choose(model).log_probs
    trained = [p for p in model.parameters() if p.requires_grad]
    before = torch.autograd.grad(log_probs(model, GROUPS).logp_S.sum(), trained, allow_unused=True)
    recompute_layers(model)
    after = torch.autograd.grad(log_probs(model, GROUPS).logp_S.sum(), trained, allow_unused=True)
    for one, other in zip(after, before, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@each_decoder
def test_an_adapter_learns_in_it(row: Row, tmp_path: Path) -> None:
    row.make().save_pretrained(tmp_path)
    adapter = Adapter(ModelSpec(path=str(tmp_path)), LoraSpec(rank=2, alpha=4.0))
    log_probs = choose(adapter.model).log_probs
    torch.autograd.backward(-log_probs(adapter.model, GROUPS).logp_S.sum())
    reached = [n for n, p in adapter.parameters.items() if "lora_B" in n and p.grad is not None and p.grad.any()]
    assert reached
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad.sign())
    after = own_log_probs(adapter.model)
    adapter.save(tmp_path / "adapter")
    assert near(own_log_probs(merged(tmp_path / "adapter")), after)


def test_no_forward_pass_halves_the_weights_of_rwkv(tmp_path: Path) -> None:
    row = next(r for r in DECODERS if r.kind == "rwkv")
    row.make().save_pretrained(tmp_path)
    model = load_model(tmp_path, "float32")
    before = weights_of(model)
    own_log_probs(model)
    assert all(torch.equal(before[n], w) for n, w in weights_of(model).items())


@each_whole
def test_the_text_of_a_model_with_other_parts_is_trained_and_those_stand_unchanged(
    row: Whole, tmp_path: Path, model_folder: Path
) -> None:
    row.make().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "preprocessor_config.json").write_text("{}")
    model = load_model(tmp_path / "base", "float32")
    parts = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    assert parts
    assert all("language_model" not in n and "lm_head" not in n for n in parts)
    adapter = Adapter(ModelSpec(path=str(tmp_path / "base")), LoraSpec(rank=2, alpha=4.0))
    assert all("language_model" in n for n in adapter.parameters)
    with torch.no_grad():
        assert near(choose(model).log_probs(model, GROUPS).logp_S, own_log_probs(model))
    assert stepped(model) == []
    after = own_log_probs(model)
    for file in model_folder.glob("*token*"):
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    save_model(model, tmp_path / "base", tmp_path / "model")
    again = load_model(tmp_path / "model", "float32")
    assert type(again) is type(model)
    assert near(own_log_probs(again), after)
    assert all(torch.equal(parts[n], p) for n, p in again.named_parameters() if n in parts)
    assert (tmp_path / "model" / "preprocessor_config.json").exists()


@each_whole
def test_a_model_with_other_parts_draws_as_generate_does(row: Whole) -> None:
    model = row.make()
    drawn = TransformersEngine(model, ENDS).draw(PROMPTS, SEEDS, Sampling(0.0, 1.0, None, 8))
    assert [list(d.ids) for d in drawn] == [generated(model, p, 8) for p in PROMPTS]


@pytest.mark.parametrize(("kind", "lack"), REFUSED)
def test_what_cannot_draw_from_left_to_right_is_refused_by_what_it_lacks(kind: str, lack: str) -> None:
    with pytest.raises(
        ModelError, match=f"of kind {kind} cannot be trained: .*{lack}.*; choose a causal language model"
    ):
        check_architecture(CONFIG_MAPPING[kind]())


def test_a_model_is_refused_before_a_weight_is_read(tmp_path: Path) -> None:
    CONFIG_MAPPING["bart"]().save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=f"model.path {tmp_path}: .*bart cannot be trained: it is an encoder with a decoder"
    ):
        load_model(tmp_path, "float32")


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    config: dict[str, Any] = {"model_type": "my_own", "auto_map": {"AutoConfig": "mine.MyConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no causal language model could be loaded"):
        load_model(tmp_path, "float32")
