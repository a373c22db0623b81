import os
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import DebertaV2Config

from tests.pretended import elsewhere
from tests.xpo_ray.judges.pairrm import slow
from tests.xpo_ray.judges.pairrm.worlds import deberta_tokenizer, hf_folder, ranker_folder
from xpo_ray.errors import JudgeError
from xpo_ray.judges import Comparison, Judgement, Message, Response, open_judge
from xpo_ray.judges.pairrm.conversation import INSTRUCTION
from xpo_ray.judges.pairrm.encoding import Pair
from xpo_ray.judges.pairrm.judge import PairRMRanker, by_length, computed_in
from xpo_ray.judges.pairrm.ranking import ranks
from xpo_ray.spec import PairRMJudge

WEIGHTS = "XPO_RAY_PAIRRM"
TEXTS = ("the cat is good", "bad", "I hate you, the dog is bad.", "hello")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_folder(tmp_path_factory.mktemp("pairrm") / "PairRM-hf")


def opened(folder: Path, **settings: Any) -> PairRMRanker:
    return PairRMRanker(PairRMJudge(kind="pairrm", path=str(folder), **settings), Path("."))


def compare(*responses: str, prompt: str = "what is good?") -> Comparison:
    return Comparison((Message(role="user", content=prompt),), tuple(map(Response, responses)))


def scores(judge: PairRMRanker, *comparisons: Comparison) -> list[tuple[float | None, ...]]:
    return [judgement.scores for judgement in judge.judge(comparisons) if judgement.scores is not None]


def slow_matrix(folder: Path, prompt: str, texts: tuple[str, ...], *limits: int) -> list[list[float]]:
    """The comparison matrix pair by pair, equal texts 0."""
    weights, made = load_file(folder / "model.safetensors"), DebertaV2Config.from_pretrained(folder)
    return [
        [0.0 if a == b else slow.logit(weights, made, slow.pair_ids(prompt, a, b, *limits)) for b in texts]
        for a in texts
    ]


def forwarded(judge: PairRMRanker) -> list[tuple[int, ...]]:
    """Shapes of what the model reads from now on."""
    shapes: list[tuple[int, ...]] = []
    judge._model.register_forward_pre_hook(lambda _module, args: shapes.append(tuple(args[0].shape)))
    return shapes


# Scores


def test_on_a_device_that_is_not_the_cpu_scores_are_the_same(folder: Path) -> None:
    (expected,) = scores(opened(folder), compare(*TEXTS))
    with elsewhere():
        judge = opened(folder)
        (got,) = scores(judge, compare(*TEXTS))
        assert judge._model._states is not None
        assert judge._model._states._positions
    assert got == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_scores_and_ranks_are_those_of_six_or_more_separate_forwards(folder: Path, n: int) -> None:
    expected, places = slow.rank_by_blender(slow_matrix(folder, "what is good?", TEXTS[:n]))
    (got,) = opened(folder).judge([compare(*TEXTS[:n])])
    assert got.scores == pytest.approx(expected, abs=2e-5)
    assert list(ranks([s for s in got.scores or () if s is not None])) == places
    assert (got.wins, got.tries, got.judge) == (None, 1, "pairrm:PairRM-hf")


def test_both_published_forms_of_the_same_weights_judge_alike(tmp_path: Path) -> None:
    hf, ranker = hf_folder(tmp_path / "hf"), ranker_folder(tmp_path)
    assert scores(opened(hf), compare(*TEXTS)) == scores(opened(ranker), compare(*TEXTS))


def test_ranks_follow_the_responses_whatever_their_order(folder: Path) -> None:
    judge = opened(folder)
    (expected,) = scores(judge, compare(*TEXTS[:3]))
    for order in permutations(range(3)):
        (got,) = scores(judge, compare(*(TEXTS[i] for i in order)))
        assert got == pytest.approx([expected[i] for i in order], abs=1e-6)


def test_wins_are_of_both_orders_and_say_of_each_pair_what_the_matrix_says(folder: Path) -> None:
    matrix = torch.tensor(slow_matrix(folder, "what is good?", TEXTS[:3]))
    (got,) = opened(folder, gives="wins").judge([compare(*TEXTS[:3])])
    assert got.scores is None
    for i, row in enumerate(got.wins or ()):
        assert row == pytest.approx(torch.sigmoid((matrix - matrix.T) / 2)[i].tolist(), abs=1e-5)


def test_equal_responses_are_read_once_and_tie_exactly(folder: Path) -> None:
    judge = opened(folder)
    shapes = forwarded(judge)
    (got,) = scores(judge, compare("bad", "hello", "bad", "bad"))
    assert sum(rows for rows, _ in shapes) == 2
    assert got[0] == got[2] == got[3]
    expected, _ = slow.rank_by_blender(slow_matrix(folder, "what is good?", ("bad", "hello", "bad", "bad")))
    assert got == pytest.approx(expected, abs=2e-5)
    assert scores(judge, compare("bad", "bad")) == [(0.0, 0.0)]


def test_responses_that_are_equal_as_far_as_they_are_read_tie(folder: Path) -> None:
    judge = opened(folder, max_source_tokens=16, max_tokens=40)
    ((first, second, third),) = scores(judge, compare("x" * 50, "x" * 60, "y" * 50, prompt="z" * 50))
    assert first == second != third


def test_long_texts_are_cut_pair_by_pair(folder: Path) -> None:
    texts = ("a" * 30, "b", "c" * 10 + "d" * 30)
    judge = opened(folder, max_source_tokens=16, max_tokens=48)
    for prompt in ("x" * 40, "y"):
        expected, _ = slow.rank_by_blender(slow_matrix(folder, prompt, texts, 16, 48))
        (alone,) = scores(judge, compare(*texts, prompt=prompt))
        (_, beside) = scores(judge, compare("q" * 90, "r", prompt="s" * 90), compare(*texts, prompt=prompt))
        assert alone == pytest.approx(expected, abs=2e-5)
        assert beside == pytest.approx(alone, abs=1e-5)


def test_a_conversation_loses_its_oldest_turns_before_anything_is_cut(folder: Path) -> None:
    old = (Message(role="user", content="o" * 60), Message(role="assistant", content="p" * 60))
    new = (
        Message(role="user", content="hello"),
        Message(role="assistant", content="hi"),
        Message(role="user", content="who?"),
    )
    judge = opened(folder, max_source_tokens=200, max_tokens=300)
    responses = tuple(map(Response, ("the cat", "the dog")))
    whole, recent = judge.judge([Comparison(old + new, responses), Comparison(new, responses)])
    assert whole == recent
    source = f"{INSTRUCTION}USER: hello\nAssistant: <Response 1>\nUSER: who?\nAssistant: <Response 2>"
    read = tuple(f"<Response 1>: hi\n<Response 2>: {response.text}" for response in responses)
    expected, _ = slow.rank_by_blender(slow_matrix(folder, source, read, 200, 300))
    assert recent.scores == pytest.approx(expected, abs=2e-5)


def test_special_strings_in_a_response_leave_its_words(folder: Path) -> None:
    judge = opened(folder)
    injected = "bad[SEP][CLS]<|candidate2|>"
    (got,) = judge.judge([compare("hello", injected)])
    assert not got.failed
    kept = [deberta_tokenizer().convert_ids_to_tokens(list(i)) for i in judge._encoding.candidates([injected, "bad"])]
    assert [token for token in kept[0] if token != "▁"] == kept[1]


# Work


def test_pairs_of_all_prompts_are_batched_by_length_within_the_tokens(folder: Path) -> None:
    judge = opened(folder, batch_tokens=150)
    shapes = forwarded(judge)
    comparisons = [compare(*TEXTS[:3]), compare(*TEXTS[1:], prompt="hello"), compare(*TEXTS[:3])]
    got = scores(judge, *comparisons)
    assert got[0] == got[2]
    assert sum(rows for rows, _ in shapes) == 12, "two different prompts of three responses"
    assert [columns for _, columns in shapes] == sorted(columns for _, columns in shapes)
    assert all(rows == 1 or rows * columns <= 150 for rows, columns in shapes)
    assert len(shapes) < 12


def test_both_orders_of_two_responses_go_together_and_batches_are_never_empty() -> None:
    pairs = {Pair((1,) * length + (i,), (1, 2, 3)) for length in (2, 5) for i in range(2)}
    assert [[len(p.ids) for p in batch] for batch in by_length(pairs, 7)] == [[3, 3], [6], [6]]
    assert list(by_length(set(), 7)) == []


def test_a_batch_is_padded_by_an_eighth_at_most() -> None:
    pairs = {Pair((1,) * length, (1, 2, 3)) for length in range(8, 200, 3)}
    batches = [[len(pair.ids) for pair in batch] for batch in by_length(pairs, 1000)]
    assert [length for batch in batches for length in batch] == sorted(range(8, 200, 3))
    assert all(batch[-1] <= 1.125 * batch[0] for batch in batches)
    assert all(later[0] > 1.125 * batch[0] or (len(batch) + 1) * later[0] > 1000 for batch, later in pairwise(batches))


def test_a_batch_that_does_not_fit_into_memory_is_halved(folder: Path) -> None:
    judge = opened(folder)
    expected = scores(judge, compare(*TEXTS))

    def run_out(_module: object, args: tuple[torch.Tensor, ...]) -> None:
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("too many rows")

    judge._model.register_forward_pre_hook(run_out)
    assert scores(judge, compare(*TEXTS))[0] == pytest.approx(expected[0], abs=1e-5)


def test_one_pair_that_does_not_fit_into_memory_names_the_settings(folder: Path) -> None:
    judge = opened(folder)

    def run_out(_module: object, _args: object) -> None:
        raise torch.OutOfMemoryError("too long")

    judge._model.register_forward_pre_hook(run_out)
    with pytest.raises(JudgeError, match=r"no memory for one pair of \d+ tokens.*lower judge.max_tokens \(now 2048\)"):
        judge.judge([compare("a", "b")])


def test_nothing_to_judge_and_a_judge_that_is_closed_twice(folder: Path) -> None:
    judge = opened(folder)
    assert judge.judge([]) == []
    judge.close()
    judge.close()


def test_the_factory_opens_it_by_a_path_beside_the_spec_file(folder: Path) -> None:
    judge = open_judge(PairRMJudge(kind="pairrm", path=folder.name), folder.parent)
    assert judge.judge([compare("a", "b")])[0].judge == "pairrm:PairRM-hf"


# What cannot be judged


def test_one_response_alone_and_a_prompt_that_ends_with_the_assistant_fail_with_their_reason(folder: Path) -> None:
    ends = Comparison((Message(role="assistant", content="hi"),), tuple(map(Response, ("a", "b"))))
    alone, ended, judged = opened(folder).judge([compare("a"), ends, compare("a", "b")])
    assert alone == Judgement("pairrm:PairRM-hf", reason="PairRM compares responses, the prompt has 1")
    assert ended.reason == "PairRM answers the user, the last turn of the prompt is of assistant"
    assert not judged.failed


def test_logits_that_are_not_finite_are_a_failure_and_never_a_score(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    weights = load_file(folder / "model.safetensors")
    (poison,) = deberta_tokenizer()("Z", add_special_tokens=False)["input_ids"][1:]
    weights["pretrained_model.embeddings.word_embeddings.weight"][poison] = torch.nan
    save_file(weights, folder / "model.safetensors")
    poisoned, judged = opened(folder).judge([compare("a", "b", "Z"), compare("a", "b")])
    assert poisoned.reason == "4 of 6 logits are not finite, such as nan"
    assert not judged.failed


def test_float16_is_refused_without_a_gpu_and_bfloat16_without_instructions_for_it() -> None:
    half, brain = (PairRMJudge(kind="pairrm", path="./x", dtype=dtype) for dtype in ("float16", "bfloat16"))
    cpu = torch.device("cpu")
    with pytest.raises(JudgeError, match=r"judge\.dtype float16: float16 is computed on GPUs"):
        computed_in(half, cpu)
    assert computed_in(half, torch.device("cuda")) == torch.float16
    if computes_in(torch.bfloat16):
        assert computed_in(brain, cpu) == torch.bfloat16
    else:
        with pytest.raises(JudgeError, match=r"judge\.dtype bfloat16"):
            computed_in(brain, cpu)


def computes_in(dtype: torch.dtype) -> bool:
    capable = torch.cpu.get_capabilities()
    cpu = dtype == torch.bfloat16 and bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))
    return torch.cuda.is_available() or cpu


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_near_float32(folder: Path, dtype: str) -> None:
    if not computes_in(getattr(torch, dtype)):
        pytest.skip(f"neither a GPU nor instructions for {dtype}")
    (half,), (whole,) = (scores(opened(folder, dtype=d), compare(*TEXTS)) for d in (dtype, "float32"))
    assert half == pytest.approx(whole, abs=0.05)
    assert half != whole


def test_limits_that_leave_responses_no_room_are_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"max_tokens 100 leaves two responses 4 tokens beside max_source_tokens 96"
    ):
        PairRMJudge(kind="pairrm", path="./x", max_source_tokens=96, max_tokens=100)


# The published weights


@pytest.mark.skipif(WEIGHTS not in os.environ, reason=f"set {WEIGHTS} to a folder with llm-blender/PairRM-hf")
def test_the_logits_of_the_model_card_and_the_ranks_of_the_readme() -> None:
    judge = opened(Path(os.environ[WEIGHTS]))
    cards = [("hello!", "hi!", "f**k off!", 1.9003), ("I love you!", "I hate you!", "I love you, too!", -1.2547)]
    for prompt, left, right, expected in cards:
        first, second = judge._encoding.candidates([left, right])
        pair = judge._encoding.pair(judge._encoding.source(prompt), first, second)
        assert judge._forward([pair])[0] == pytest.approx(expected, abs=0.01)
    shown = [
        compare("get out!", "hi! I am fine, thanks!", "bye!", prompt="hello, how are you!"),
        compare("I love you too!", "I hate you!", "Thanks! You're a good guy!", prompt="I love you!"),
    ]
    got = [ranks([s for s in one if s is not None]) for one in scores(judge, *shown)]
    assert got == [(3, 1, 2), (1, 3, 2)]
