"""Small models of many kinds go through what a run does with one; what the run's code does wrong is a refusal."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import GenerationConfig, LlamaConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.tiny import tiny_model_folder, tiny_tokenizer
from tests.xpo_ray.model_checks.test_model_checks import rewritten, spec_of
from tests.xpo_ray.model_table import DECODERS
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.rehearsal import trial
from xpo_ray.rehearsal.cutting import cuts
from xpo_ray.rehearsal.request import Request, Verdict

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("llama", "qwen3_5_text", "gemma2", "phi3-longrope", "gpt_oss", "mamba2", "deepseek_v3", "opt")


def rehearsed(folder: Path, scratch: Path, **model: object) -> Verdict:
    spec = spec_of(folder)
    return trial.rehearsed(
        Request(spec.model_copy(update={"model": spec.model.model_copy(update=model)}), str(scratch))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_work_are_not_refused(kind: str, tmp_path: Path) -> None:
    row = next(row for row in DECODERS if row.id == kind)
    row.make().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    assert rehearsed(tmp_path / "model", tmp_path) == Verdict("ok")


def test_bfloat16_is_rehearsed_too(tmp_path: Path) -> None:
    assert rehearsed(tiny_model_folder(tmp_path / "model"), tmp_path, dtype="bfloat16") == Verdict("ok")


def test_weights_that_the_class_wants_and_the_folder_lacks_are_named(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    rewritten(folder, without="model.norm")
    verdict = rehearsed(folder, tmp_path)
    assert verdict.outcome == "refused"
    assert "the weights lack model.norm.weight, which would be random" in verdict.reason


def test_an_encoder_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    CONFIG_MAPPING["bert"](hidden_size=32, num_attention_heads=4, num_hidden_layers=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert rehearsed(tmp_path, tmp_path / "scratch").outcome == "refused"


def test_a_generation_config_that_servers_refuse_keeps_no_run_from_its_checkpoint(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    settings = GenerationConfig(temperature=0.6, do_sample=True)
    settings.save_pretrained(folder)
    text = (folder / "generation_config.json").read_text()
    (folder / "generation_config.json").write_text(text.replace('"do_sample": true', '"do_sample": false'))
    assert rehearsed(folder, tmp_path) == Verdict("ok")


def test_an_engine_that_draws_other_tokens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = TransformersEngine.draw

    def wrong(
        self: TransformersEngine, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[Drawn]:
        return [Drawn(tuple((i + 1) % 300 for i in d.ids), d.ended) for d in right(self, prompts, seeds, sampling)]

    monkeypatch.setattr(TransformersEngine, "draw", wrong)
    verdict = rehearsed(tiny_model_folder(tmp_path / "model"), tmp_path)
    assert verdict.outcome == "refused"
    assert "greedy draws are not those of its own forward pass" in verdict.reason


def parameters(config: PretrainedConfig) -> int:
    return sum(p.numel() for p in trial._made(config).parameters())


def test_a_model_of_8_billion_parameters_becomes_small_with_its_proportions() -> None:
    large = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        bos_token_id=128000,
        eos_token_id=[128001, 128009],
    )
    small = next(cuts(large))
    assert (small.num_attention_heads // small.num_key_value_heads, small.head_dim) == (4, 128)
    assert set(small.eos_token_id) <= set(range(small.vocab_size))
    assert parameters(small) < trial.MOST_PARAMETERS
    assert large.hidden_size == 4096


def test_each_kind_of_layer_is_kept() -> None:
    config = CONFIG_MAPPING["qwen3_5_text"](num_hidden_layers=24)
    assert set(next(cuts(config)).layer_types) == set(config.layer_types)
