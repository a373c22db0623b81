import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.xpo_ray.judges.pairrm.worlds import deberta_tokenizer, edit, hf_folder, ranker_folder
from xpo_ray.errors import JudgeError
from xpo_ray.judges.pairrm.checkpoint import Checkpoint, load
from xpo_ray.spec import PairRMJudge


def loaded(path: Path, dtype: torch.dtype = torch.float32, backbone: Path | None = None) -> Checkpoint:
    named = None if backbone is None else str(backbone)
    return load(PairRMJudge(kind="pairrm", path=str(path), backbone=named), Path("."), dtype)


def change_weights(folder: Path, *gone: str, **new: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if k not in gone} | new, file)


def test_both_published_forms_hold_the_weights_of_their_files_bit_for_bit(tmp_path: Path) -> None:
    for folder in (hf_folder(tmp_path / "hf"), ranker_folder(tmp_path)):
        weights = load_file(folder / "model.safetensors")
        made = loaded(folder)
        assert made.model.state_dict().keys() == weights.keys()
        assert all(torch.equal(v, weights[k]) for k, v in made.model.state_dict().items())
        assert not made.model.training
        assert not any(t.is_meta for t in [*made.model.parameters(), *made.model.buffers()])


def test_the_ranker_gets_the_prefixes_behind_the_backbones_tokens(tmp_path: Path) -> None:
    tokens = len(deberta_tokenizer(prefixes=False))
    made = loaded(ranker_folder(tmp_path))
    ids = made.tokenizer.convert_tokens_to_ids(["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"])
    assert ids == [tokens, tokens + 1, tokens + 2, tokens + 3]
    assert made.model.pretrained_model.config.vocab_size == tokens + 4


def test_a_backbone_is_found_beside_the_ranker_within_it_or_where_the_spec_says(tmp_path: Path) -> None:
    ranker, beside = ranker_folder(tmp_path), tmp_path / "deberta-v3-large"
    within = beside.rename(ranker / "deberta-v3-large")
    loaded(ranker)
    elsewhere = within.rename(tmp_path / "elsewhere")
    loaded(ranker, backbone=elsewhere)
    with pytest.raises(JudgeError, match=r"set judge\.backbone to microsoft/deberta-v3-large or to a folder"):
        loaded(ranker)
    with pytest.raises(JudgeError, match=r"judge\.backbone .*nowhere: no such folder"):
        loaded(ranker, backbone=tmp_path / "nowhere")


def test_a_stored_half_precision_is_cast_to_what_is_computed_in(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    whole = load_file(folder / "model.safetensors")
    save_file({k: v.half() for k, v in whole.items()}, folder / "model.safetensors")
    made = loaded(folder).model.state_dict()
    assert {v.dtype for v in made.values()} == {torch.float32}
    assert all(torch.equal(v, whole[k].half().float()) for k, v in made.items())
    assert {p.dtype for p in loaded(folder, torch.bfloat16).model.parameters()} == {torch.bfloat16}


def test_position_ids_of_older_versions_are_left_out(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    before = load_file(folder / "model.safetensors")
    change_weights(folder, **{"pretrained_model.embeddings.position_ids": torch.arange(64)[None]})
    made = loaded(folder).model.state_dict()
    assert made.keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in made.items())


def test_missing_and_unexpected_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    change_weights(folder, "head_layer.4.bias", extra=torch.zeros(1))
    with pytest.raises(
        JudgeError, match=r"not PairRM's weights: head_layer\.4\.bias missing; extra unexpected; give llm-"
    ):
        loaded(folder)
    change_weights(folder, *(f"head_layer.{k}" for k in ("1.weight", "1.bias", "4.weight")))
    change_weights(folder, "pretrained_model.encoder.LayerNorm.bias", "pretrained_model.encoder.LayerNorm.weight")
    with pytest.raises(JudgeError, match=r"head_layer\.1\.bias, head_layer\.1\.weight, .* and 1 more missing"):
        loaded(folder)
    change_weights(folder, "pretrained_model.embeddings.word_embeddings.weight")
    with pytest.raises(
        JudgeError, match=r"has no pretrained_model\.embeddings\.word_embeddings\.weight, it begins with extra"
    ):
        loaded(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_tasks": "one"}, r"n_tasks in config\.json is 'one', not a number from 1"),
        ({"hidden_size": "large"}, r"is not of a DeBERTa: .*'hidden_size' expected int, got str"),
        ({"position_biased_input": True}, r"judge\.max_tokens is 2048, .* has 64 absolute positions; set .* to 64"),
    ],
)
def test_a_config_with_values_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    folder = hf_folder(tmp_path / "hf")
    edit(folder / "config.json", **changes)
    with pytest.raises(JudgeError, match=words):
        loaded(folder)


def test_a_config_that_does_not_fit_the_weights_is_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    edit(folder / "config.json", n_tasks=2)
    with pytest.raises(JudgeError, match=r"head_layer\.4\.weight is \(1, 32\), not \(2, 32\)"):
        loaded(folder)
    edit(folder / "config.json", n_tasks=1, num_hidden_layers=4)
    with pytest.raises(JudgeError, match=r"encoder\.layer\.3.* and 11 more missing"):
        loaded(folder)


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "bert"}, {"ranker_type": "summareranker"}, {"n_tasks": None}],
    ids=["bert", "other", "score"],
)
def test_another_kind_of_checkpoint_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = hf_folder(tmp_path / "hf")
    raw = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    with pytest.raises(JudgeError, match=r"config\.json is not of a PairRM, got .*judge\.kind reward_model"):
        loaded(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    edit(folder / "config.json", cand1_prefix_id=5)
    with pytest.raises(JudgeError, match=r"has cand1_prefix_id 5, the tokenizer has 97 for <\|candidate1\|>"):
        loaded(folder)
    edit(folder / "config.json", cand1_prefix_id=97)
    deberta_tokenizer(prefixes=False).save_pretrained(folder)
    with pytest.raises(JudgeError, match=r"does not know <\|source\|> as one token"):
        loaded(folder)
    ranker = ranker_folder(tmp_path)
    deberta_tokenizer().save_pretrained(tmp_path / "deberta-v3-large")
    loaded(ranker)  # the prefixes were there already, with the same ids
    larger = deberta_tokenizer(prefixes=False)
    larger.add_tokens(["one more"])
    larger.save_pretrained(tmp_path / "deberta-v3-large")
    with pytest.raises(
        JudgeError, match=r"tokenizer has 101 tokens with the four prefixes, the checkpoint has 100 embeddings"
    ):
        loaded(ranker)


def test_ids_beyond_the_embeddings_are_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    weights = load_file(folder / "model.safetensors")
    name = "pretrained_model.embeddings.word_embeddings.weight"
    change_weights(folder, **{name: weights[name][:97].clone()})
    with pytest.raises(
        JudgeError, match=r"the tokenizer has 97 for <\|candidate1\|>, the checkpoint has 97 embeddings"
    ):
        loaded(folder)


def test_files_that_are_not_there_or_broken_are_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(JudgeError, match=r"model\.safetensors cannot be read"):
        loaded(folder)
    weights.unlink()
    with pytest.raises(JudgeError, match=r"judge\.path .*: has no model\.safetensors, or it cannot be reached"):
        loaded(folder)
    for text, words in (("{", "cannot be read"), ("[]", "holds list, not an object")):
        (folder / "config.json").write_text(text)
        with pytest.raises(JudgeError, match=rf"judge\.path .*: config\.json {words}"):
            loaded(folder)
    with pytest.raises(JudgeError, match=r"judge\.path .*nothing: no such folder"):
        loaded(tmp_path / "nothing")


def test_a_backbone_is_refused_where_it_has_no_use_or_is_of_another_kind(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    with pytest.raises(JudgeError, match=r"has DeBERTa's config and tokenizer of its own; leave it out"):
        loaded(folder, backbone=tmp_path)
    ranker = ranker_folder(tmp_path)
    edit(tmp_path / "deberta-v3-large" / "config.json", model_type="bert")
    with pytest.raises(JudgeError, match=r"model_type is 'bert', PairRM's is deberta-v2"):
        loaded(ranker)
