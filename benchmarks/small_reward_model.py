"""A reward model with one output, made from a language model's trunk and trained on real pairs (Bradley-Terry).

real_text calls this. It is trained on texts as its own chat template writes them and on answers cut where the run cuts
them, and measured on the test pairs through xpo_ray's own judge. It never sees a test pair before that.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from answer_pairs import Pair
from fitting import batches_of, fit, padded
from small_policy import Limits, answer_ids, prompt_ids
from torch import Tensor
from transformers import AutoTokenizer, LlamaForSequenceClassification, PreTrainedTokenizerFast

from xpo_ray.judges.judgement import Comparison, Message, Response
from xpo_ray.judges.reward_model import RewardModel
from xpo_ray.spec.judge import RewardModelJudge

EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 2, 16, 3e-4, 0.1
Texts = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of the chosen and of the rejected dialogue."""


def train_reward_model(folder: Path, policy: Path, pairs: Sequence[Pair], limits: Limits, seed: int) -> Path:
    """Train on the pairs, save model and tokenizer, and return the folder."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification.from_pretrained(policy, num_labels=1)
    torch.nn.init.zeros_(model.score.weight)
    rows = [row for pair in pairs if (row := _texts(tokenizer, pair, limits)) is not None]
    rng = random.Random(seed)
    batches = [b for _ in range(EPOCHS) for b in batches_of(rows, BATCH, lambda r: max(map(len, r)), rng)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    fit(model, [optimizer], batches, lambda b: bradley_terry(model, b), "reward model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scores(model: LlamaForSequenceClassification, texts: Sequence[Sequence[int]]) -> Tensor:
    """Scores [B], read at the last token of each text."""
    hidden_BTH = model.model(input_ids=padded(texts, fill=0), use_cache=False).last_hidden_state
    last_B = torch.tensor([len(text) - 1 for text in texts])
    return model.score(hidden_BTH[torch.arange(len(texts)), last_B])[:, 0]


def bradley_terry(model: LlamaForSequenceClassification, batch: Sequence[Texts]) -> Tensor:
    """Mean of −log σ(r(chosen) − r(rejected)), nats."""
    scores_2B = scores(model, [row[0] for row in batch] + [row[1] for row in batch])
    return -torch.nn.functional.logsigmoid(scores_2B[: len(batch)] - scores_2B[len(batch) :]).mean()


def judged_pairs(folder: Path, pairs: Sequence[Pair], limits: Limits) -> list[tuple[float, float]]:
    """(score of chosen, score of rejected) of each pair, from the judge that the run uses."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    judge = RewardModel(RewardModelJudge(kind="reward_model", path=str(folder.resolve())), folder)
    judgements = judge.judge([_comparison(tokenizer, pair, limits) for pair in pairs])
    judge.close()
    return [(s[0], s[1]) for j in judgements if (s := j.scores) is not None and s[0] is not None and s[1] is not None]


def _texts(tokenizer: PreTrainedTokenizerFast, pair: Pair, limits: Limits) -> Texts | None:
    """Both dialogues with the end that the chat template writes; None where the prompt is over the limit."""
    before = prompt_ids(tokenizer, pair.prompt)
    if len(before) > limits.prompt:
        return None
    end = int(tokenizer.eos_token_id)
    chosen, rejected = (_cut(tokenizer, answer, limits) for answer in (pair.chosen, pair.rejected))
    return (*before, *chosen, end), (*before, *rejected, end)


def _cut(tokenizer: PreTrainedTokenizerFast, answer: str, limits: Limits) -> list[int]:
    ids = answer_ids(tokenizer, answer, limits.answer)
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids


def _comparison(tokenizer: PreTrainedTokenizerFast, pair: Pair, limits: Limits) -> Comparison:
    texts = [tokenizer.decode(_cut(tokenizer, answer, limits)) for answer in (pair.chosen, pair.rejected)]
    return Comparison((Message(role="user", content=pair.prompt),), tuple(Response(text) for text in texts))
