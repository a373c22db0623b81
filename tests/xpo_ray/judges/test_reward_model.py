import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Phi3Config,
    Phi3ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tests.pretended import elsewhere
from xpo_ray.errors import JudgeError
from xpo_ray.judges import Comparison, Judgement, Message, Response, open_judge
from xpo_ray.judges.reward_model import RewardModel, by_length, without_beginning
from xpo_ray.spec import RewardModelJudge

LINES = ["What is a good name for a cat?", "A good name for a cat is Tom.", "I do not know.", "user assistant system"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_labels": 1,
    "max_position_embeddings": 128,
}
TEXTS = ["Tom.", "I do not know. " * 3, "", "A good name for a cat is Tom, or Tim, or Tam.", "no"]


def words(**special: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that puts BOS before plain text, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **special)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose tokenizer has a chat template that ends every turn, the last one too, with EOS, and pad == EOS."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = words(pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, eos_token_id=1, **SIZES)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, which scores at its first token; plain text gets CLS and SEP from the tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = words(pad_token="<pad>", cls_token="<s>", sep_token="</s>")
    tokenizer.save_pretrained(folder)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=2, **SIZES)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))


def spec(path: Path | str, **settings: Any) -> RewardModelJudge:
    return RewardModelJudge(kind="reward_model", path=str(path), **{"max_tokens": 128} | settings)


def opened(path: Path | str, **settings: Any) -> RewardModel:
    return RewardModel(spec(path, **settings), Path("."))


def compare(*responses: str, prompt: str = "What is a good name for a cat?", ended: bool = True) -> Comparison:
    return Comparison((Message(role="user", content=prompt),), tuple(Response(text, ended) for text in responses))


def scores(judge: RewardModel, *comparisons: Comparison) -> list[float]:
    judgements = judge.judge(comparisons)
    return [score for judgement in judgements for score in judgement.scores or () if score is not None]


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@torch.no_grad()
def slow_decoder_score(folder: Path, text: str, limit: int = 10_000) -> float:
    """One text alone, without padding or mask: the head on the hidden state of the very last token."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    if ids.shape[1] > limit:
        ids = torch.cat([ids[:, :1], ids[:, 1:][:, -(limit - 1) :]], dim=1)
    return float(model.score(model.model(ids).last_hidden_state[0, -1]))


def templated(response: str, prompt: str = "What is a good name for a cat?") -> str:
    return f"<s>[user]{prompt}</s>[assistant]{response}</s>"


# Scores


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_on_a_device_that_is_not_the_cpu_scores_are_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    settings = {"chat_template": "plain"} if kind == "bert" else {}
    expected = scores(opened(folder, **settings), compare(*TEXTS))
    with elsewhere():
        assert scores(opened(folder, **settings), compare(*TEXTS)) == pytest.approx(expected, abs=1e-5)


def test_scores_are_those_of_each_text_alone_though_padding_is_eos_and_every_text_ends_with_it(llama: Path) -> None:
    batched = scores(opened(llama), compare(*TEXTS))
    assert batched == pytest.approx([slow_decoder_score(llama, templated(text)) for text in TEXTS], abs=1e-5)
    assert len({round(score, 5) for score in batched}) == len(TEXTS)


def test_scores_do_not_depend_on_texts_beyond_a_border_of_longrope(llama: Path, copy: Callable[[Path], Path]) -> None:
    folder = copy(llama)
    torch.manual_seed(0)
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [6.0] * 4, "factor": 2.0}
    rope |= {"rope_theta": 10_000.0, "original_max_position_embeddings": 60}
    sizes = {
        "vocab_size": 320,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "initializer_range": 0.3,
        **SIZES,
    }
    config = Phi3Config(**sizes, rope_parameters=rope, original_max_position_embeddings=60)
    Phi3ForSequenceClassification(config).save_pretrained(folder)
    texts = ["Tom.", "I do not know. " * 3, "A good name for a cat is Tom, or Tim, or Tam. " * 3]
    own = [slow_decoder_score(folder, templated(text)) for text in texts]
    assert scores(opened(folder), compare(*texts)) == pytest.approx(own, abs=1e-4)
    apart = [score for text in texts for score in scores(opened(folder), compare(text))]
    assert apart == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("special", [{}, {"pad_token": "<pad>"}, {"pad_token": "</s>"}], ids=str)
def test_batched_equals_one_by_one_whatever_the_tokenizer_pads_with(
    llama: Path, copy: Callable[[Path], Path], special: dict[str, str]
) -> None:
    folder = copy(llama)
    tokenizer = words(**special)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    edit(folder / "config.json", pad_token_id=tokenizer.pad_token_id)
    texts = [*TEXTS, "it ends with <pad>", "it ends with </s>"]
    together, alone = opened(folder, batch_tokens=10_000), opened(folder, batch_tokens=1)
    expected = [slow_decoder_score(folder, templated(text)) for text in texts]
    assert scores(together, compare(*texts)) == pytest.approx(expected, abs=1e-5)
    assert scores(alone, compare(*texts)) == pytest.approx(expected, abs=1e-5)


def test_an_encoder_scores_plain_text_with_the_special_tokens_of_its_tokenizer(bert: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(bert)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    prompt = (Message(role="system", content="Be kind."), Message(role="user", content="Who?"))
    judge = opened(bert, chat_template="plain")
    got = judge.judge([Comparison(prompt, tuple(map(Response, TEXTS)))])[0].scores
    with torch.no_grad():
        inputs = [tokenizer(f"Be kind.\n\nWho?\n\n{text}", return_tensors="pt") for text in TEXTS]
        expected = [float(model(**one).logits) for one in inputs]
    assert all(one["input_ids"][0, 0] == 0 for one in inputs)  # CLS
    assert got == pytest.approx(expected, abs=1e-5)


def test_a_template_writes_its_own_bos_and_plain_text_gets_the_tokenizers(llama: Path) -> None:
    ids = AutoTokenizer.from_pretrained(llama)(templated("Tom."), add_special_tokens=False)["input_ids"]
    assert ids.count(0) == 1
    plain = opened(llama, chat_template="plain")
    assert scores(plain, compare("Tom.", prompt="Who?")) == pytest.approx(
        [slow_decoder_score(llama, "<s>Who?\n\nTom.")], abs=1e-5
    )


def test_a_template_of_a_file_beside_the_spec_is_used(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{% for m in messages %}{{ m['content'] }}|{% endfor %}")
    judge = RewardModel(spec(llama, chat_template="chat.jinja"), tmp_path)
    assert scores(judge, compare("Tom.", prompt="Who?")) == pytest.approx(
        [slow_decoder_score(llama, "Who?|Tom.|")], abs=1e-5
    )


def test_a_long_text_loses_the_beginning_but_for_its_bos(llama: Path) -> None:
    judge = opened(llama, max_tokens=16)
    prompt = "I do not know. " * 20
    assert scores(judge, compare("Tom.", "Tim.", prompt=prompt)) == pytest.approx(
        [slow_decoder_score(llama, templated(name, prompt), 16) for name in ("Tom.", "Tim.")], abs=1e-5
    )


def test_the_penalty_is_subtracted_where_the_response_did_not_end(llama: Path) -> None:
    judge = opened(llama, missing_eos_penalty=1.5)
    ended, cut = scores(judge, compare("Tom."), compare("Tom.", ended=False))
    assert cut == pytest.approx(ended - 1.5)
    assert ended == pytest.approx(slow_decoder_score(llama, templated("Tom.")), abs=1e-5)


def test_bfloat16_is_near_float32(llama: Path) -> None:
    half, whole = scores(opened(llama, dtype="bfloat16"), compare(*TEXTS)), scores(opened(llama), compare(*TEXTS))
    assert half == pytest.approx(whole, abs=0.02)
    assert half != whole


def test_the_factory_opens_it_by_a_path_beside_the_spec_file(llama: Path) -> None:
    judge = open_judge(spec(llama.name), llama.parent)
    judgement = judge.judge([compare("Tom.")])[0]
    assert judgement.judge == f"reward_model:{llama.name}"
    assert judgement.tries == 1
    judge.close()
    judge.close()


# Work


def forwarded(judge: RewardModel) -> list[tuple[int, ...]]:
    """Shapes of what the model reads from now on."""
    shapes: list[tuple[int, ...]] = []
    judge._model.base_model.register_forward_pre_hook(
        lambda _module, args, kwargs: shapes.append(tuple((args[0] if args else kwargs["input_ids"]).shape)),
        with_kwargs=True,
    )
    return shapes


def test_identical_texts_are_scored_once_and_batches_keep_to_their_tokens(llama: Path) -> None:
    judge = opened(llama, batch_tokens=150)
    shapes = forwarded(judge)
    got = scores(judge, compare("Tom.", "Tim.", "Tom."), compare("Tom."), compare(TEXTS[3]), compare("no"))
    assert got[0] == got[2] == got[3] != got[1]
    assert all(rows * columns <= 150 for rows, columns in shapes)
    assert [rows for rows, _ in shapes] == [1, 2], "one packing of two texts, then the two that stand alone"


def test_what_the_texts_of_a_comparison_have_in_common_is_read_once(llama: Path) -> None:
    judge = opened(llama)
    shapes = forwarded(judge)
    scores(judge, compare(*TEXTS))
    lengths = [len(judge._ids(templated(text))) for text in TEXTS]
    common = len(judge._ids("<s>[user]What is a good name for a cat?</s>[assistant]"))
    assert [rows for rows, _ in shapes] == [1]
    assert shapes[0][1] <= sum(lengths) - 4 * (common - 1)


def test_a_decoder_whose_prompts_cannot_be_shared_says_why_once_and_judges_alike(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = opened(llama)
    expected = scores(fine, compare(*TEXTS))
    assert fine.take_remarks() == {}
    monkeypatch.setattr("xpo_ray.judges.packed_scores.TOLERANCE", -1.0)
    monkeypatch.setattr("xpo_ray.judges.packed_scores.LAST_PLACES", -1)
    plain = opened(llama)
    ((code, message),) = plain.take_remarks().items()
    assert code == "reward_model_plain_pass"
    assert re.search(r"they are not shared, as its scores are off by \S+, more than \S+$", message)
    assert plain.take_remarks() == {}
    assert scores(plain, compare(*TEXTS))[0] == pytest.approx(expected[0], abs=1e-4)


def test_an_encoder_reads_every_text_whole(bert: Path) -> None:
    judge = opened(bert, chat_template="plain")
    shapes = forwarded(judge)
    scores(judge, compare("Tom.", "Tim."))
    assert [rows for rows, _ in shapes] == [2]


def test_a_batch_that_does_not_fit_into_memory_is_halved(llama: Path) -> None:
    judge = opened(llama)
    expected = scores(judge, compare(*TEXTS))

    def run_out(_module: object, _args: object, kwargs: dict[str, torch.Tensor]) -> None:
        if kwargs["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError("too many rows")

    judge._model.register_forward_pre_hook(run_out, with_kwargs=True)
    assert scores(judge, compare(*TEXTS)) == pytest.approx(expected, abs=1e-5)


def test_one_text_that_does_not_fit_into_memory_names_the_setting(llama: Path) -> None:
    judge = opened(llama)

    def run_out(_module: object, _args: object, _kwargs: object) -> None:
        raise torch.OutOfMemoryError("too long")

    judge._model.register_forward_pre_hook(run_out, with_kwargs=True)
    with pytest.raises(JudgeError, match=r"no memory for one text of \d+ tokens.*lower judge.max_tokens \(now 128\)"):
        judge.judge([compare("Tom.")])


def test_batches_are_as_large_as_they_may_be_and_never_empty() -> None:
    texts = [(1,) * length for length in (1, 2, 2, 3, 5, 9)]
    assert [[len(text) for text in batch] for batch in by_length(texts, 6)] == [[1, 2, 2], [3], [5], [9]]
    assert list(by_length([], 6)) == []


def test_the_beginning_is_lost_behind_a_leading_special_token() -> None:
    assert without_beginning((0, 1, 2, 3, 4), 3, (0, None)) == (0, 3, 4)
    assert without_beginning((5, 1, 2, 3, 4), 3, (0, None)) == (2, 3, 4)
    assert without_beginning((0, 1, 2), 3, (0, None)) == (0, 1, 2)


# What cannot be scored


def test_a_score_that_is_not_finite_is_missing_and_nothing_but_such_scores_is_a_failure(
    llama: Path, copy: Callable[[Path], Path]
) -> None:
    folder = copy(llama)
    model = LlamaForSequenceClassification.from_pretrained(folder)
    (poison,) = AutoTokenizer.from_pretrained(folder)("Z", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.model.embed_tokens.weight[poison] = torch.nan
    model.save_pretrained(folder)
    some, none = opened(folder).judge([compare("Tom.", "Z"), compare("Z", "ZZ")])
    assert some.scores is not None
    assert some.scores[0] == pytest.approx(slow_decoder_score(folder, templated("Tom.")), abs=1e-5)
    assert some.scores[1] is None
    assert none.failed
    assert none.reason == "the model gave no finite score to any response"


def test_a_prompt_that_the_template_refuses_fails_alone(llama: Path) -> None:
    system = Comparison((Message(role="system", content="Be kind."),), (Response("Tom."),))
    refused, judged = opened(llama).judge([system, compare("Tom.")])
    assert refused == Judgement(
        f"reward_model:{llama.name}", reason="the chat template refuses the messages: no system turns"
    )
    assert not judged.failed


def test_a_text_without_any_token_has_no_score(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.jinja").write_text("{{ messages[-1]['content'] }}")
    judge = RewardModel(spec(llama, chat_template="bare.jinja"), tmp_path)
    judgement = judge.judge([compare("", "Tom.")])[0]
    assert judgement.scores is not None
    assert judgement.scores[0] is None
    assert judgement.scores[1] is not None


# What is refused


def test_a_checkpoint_with_other_than_one_output_is_refused(llama: Path, copy: Callable[[Path], Path]) -> None:
    folder = copy(llama)
    edit(folder / "config.json", id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    with pytest.raises(JudgeError, match=r"one output \(num_labels 1\), this one has 2"):
        opened(folder)


def test_a_language_model_is_refused_because_its_head_would_be_random(
    llama: Path, copy: Callable[[Path], Path]
) -> None:
    folder = copy(llama)
    LlamaForCausalLM.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(JudgeError, match=r"the checkpoint has no score.weight, which would be random"):
        opened(folder)


def test_pickled_and_broken_weights_are_refused(llama: Path, copy: Callable[[Path], Path]) -> None:
    folder = copy(llama)
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(JudgeError, match="cannot be loaded as a sequence-classification model"):
        opened(folder)
    weights.unlink()
    with pytest.raises(JudgeError, match=r"no file named model\.safetensors"):
        opened(folder)


def test_code_that_comes_with_a_checkpoint_is_not_run(
    llama: Path, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = copy(llama)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(JudgeError, match=r"trust_remote_code"):
        opened(folder)
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_not_there_or_has_no_tokenizer_is_refused(
    llama: Path, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(JudgeError, match="no such folder"):
        opened(tmp_path / "nothing")
    folder = copy(llama)
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(JudgeError, match="its tokenizer cannot be loaded"):
        opened(folder)


def test_a_tokenizer_without_a_template_names_the_setting_that_cures_it(bert: Path) -> None:
    with pytest.raises(JudgeError, match=r"has no chat template; set judge.chat_template to `plain`"):
        opened(bert)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{% if %}", "fails on a user's and an assistant's turn: Expected an expression"),
        ("{{ messages[0]['content'] }}", "the assistant's turn is not in the text, got 'question'"),
    ],
)
def test_a_template_that_cannot_show_the_response_is_refused(
    llama: Path, tmp_path: Path, template: str, fault: str
) -> None:
    (tmp_path / "chat.jinja").write_text(template)
    with pytest.raises(JudgeError, match=fault):
        RewardModel(spec(llama, chat_template="chat.jinja"), tmp_path)
    with pytest.raises(JudgeError, match=r"judge.chat_template nothing.jinja: cannot be read"):
        RewardModel(spec(llama, chat_template="nothing.jinja"), tmp_path)


def test_more_tokens_than_the_model_can_read_are_refused_with_the_number_to_set(llama: Path) -> None:
    with pytest.raises(
        JudgeError, match=r"judge.max_tokens is 129, .* reads at most 128 tokens; leave it out or set 128"
    ):
        opened(llama, max_tokens=129)
    assert len(scores(opened(llama, max_tokens=None), compare("a good name " * 200))) == 1


def test_positions_that_a_model_counts_from_behind_its_padding_cannot_be_read(
    bert: Path, copy: Callable[[Path], Path]
) -> None:
    folder = copy(bert)
    RobertaForSequenceClassification(RobertaConfig(vocab_size=320, pad_token_id=2, **SIZES)).save_pretrained(folder)
    with pytest.raises(JudgeError, match="reads at most 125 tokens"):
        opened(folder, chat_template="plain", max_tokens=126)
    judge = opened(folder, chat_template="plain", max_tokens=125)
    assert len(scores(judge, compare("I do not know. " * 100, "Tom."))) == 2


def test_a_tokenizer_of_another_model_is_refused_when_its_ids_do_not_fit(
    llama: Path, copy: Callable[[Path], Path]
) -> None:
    folder = copy(llama)
    config = LlamaConfig(vocab_size=260, **SIZES)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(JudgeError, match=r"the tokenizer gives id \d+, the model has 260 embeddings"):
        opened(folder).judge([compare("A good name for a cat is Tom.")])
