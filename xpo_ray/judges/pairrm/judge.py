"""The judge that is PairRM: every ordered pair of a prompt's responses is read, and both orders make one answer.

Pairs of all prompts of a shard are read together, in batches by length; what two prompts have in common, or equal responses,
is read once. A logit depends on its own pair alone: not on the padding, nor on what else is in the batch (but for float
rounding). The model is deterministic, so nothing is tried twice and `retries` has no effect.

It gives scores unless the spec asks for win probabilities: SELM takes best and worst by LLM-Blender's ranks, which are those of
the scores; SPPO's probabilities are σ(s_i − s_j); and logits still differ where probabilities round to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import torch

from xpo_ray.devices import own_device
from xpo_ray.errors import JudgeError
from xpo_ray.judges.halving import in_halves
from xpo_ray.judges.judgement import Comparison, Judgement
from xpo_ray.judges.pairrm.checkpoint import load
from xpo_ray.judges.pairrm.conversation import Conversation
from xpo_ray.judges.pairrm.encoding import Ids, Pair, PairEncoding
from xpo_ray.judges.pairrm.ranking import max_logits, win_probabilities
from xpo_ray.linear import through_onednn
from xpo_ray.rounding import SCORE_ROUNDING
from xpo_ray.spec.judge import PairRMJudge

PAD = 0
"""It is masked, so that any id would do."""
SPREAD = 1.125
"""The longest pair of a batch by its shortest. Measured: a batch padded by half costs more than it saves, on a CPU."""


@dataclass(frozen=True)
class Read:
    """A comparison as token ids: the prompt, and each response's text cut to its room."""

    source: Ids
    responses: tuple[Ids, ...]


class PairRMRanker:
    """A Judge whose scores come from PairRM. Raises JudgeError where that cannot be loaded."""

    def __init__(self, spec: PairRMJudge, folder: Path) -> None:
        self._spec = spec
        self._name = f"pairrm:{Path(spec.path).name}"
        self._device = own_device()
        loaded = load(spec, folder, computed_in(spec, self._device))
        self._encoding = PairEncoding(
            loaded.tokenizer, spec.path, max_source_tokens=spec.max_source_tokens, max_tokens=spec.max_tokens
        )
        self._model = loaded.model.to(self._device)
        through_onednn(self._model, frozen=True)
        self._remarked = False

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison; a prompt that does not end with the user's turn is a failed one."""
        read = [self._read(comparison) for comparison in comparisons]
        pairs = {pair for one in read if isinstance(one, Read) for pair in self._pairs(one).values()}
        logits = self._logits(pairs)
        return [self._judgement(one, logits) for one in read]

    def take_remarks(self) -> dict[str, str]:
        """That pairs are read more slowly than they could be, and why, once."""
        why = None if self._remarked else self._model.why_plain
        if why is None:
            return {}
        self._remarked = True
        slow = "PairRM reads its pairs by transformers' own pass, which is slower and judges alike"
        return {"pairrm_plain_pass": f"judge.path {self._spec.path}: {slow}; the fast one is left out, as {why}"}

    def close(self) -> None:
        """Give the memory of the weights back."""
        self._model.to("meta")
        self._model.forget()

    def _read(self, comparison: Comparison) -> Read | str:
        """The token ids of a comparison, or the reason why there is nothing to compare."""
        if len(comparison.responses) < 2:
            return f"PairRM compares responses, the prompt has {len(comparison.responses)}"
        try:
            whole = Conversation.of(comparison.prompt)
        except ValueError as error:
            return str(error)
        conversation = self._fitting(whole)
        source = self._encoding.cut_source(self._encoding.source(conversation.source))
        texts = self._encoding.candidates([conversation.candidate(r.text) for r in comparison.responses])
        return Read(source, tuple(text[: self._encoding.room(source)] for text in texts))

    def _fitting(self, conversation: Conversation) -> Conversation:
        """Without its oldest exchanges, until the prompt is not cut and leaves each response half of its room or more."""
        while conversation.history:
            source = self._encoding.source(conversation.source)
            (said,) = self._encoding.candidates([conversation.candidate("")])
            if self._encoding.fits(source) and 2 * len(said) <= self._encoding.room(source):
                break
            conversation = conversation.without_oldest()
        return conversation

    def _pairs(self, read: Read) -> dict[tuple[Ids, Ids], Pair]:
        """What is read for a prompt: every ordered pair of its different responses."""
        different = dict.fromkeys(read.responses)
        return {(a, b): self._encoding.pair(read.source, a, b) for a, b in permutations(different, 2)}

    def _judgement(self, read: Read | str, logits: dict[Pair, float]) -> Judgement:
        if isinstance(read, str):
            return Judgement(self._name, reason=read)
        of = {key: logits[pair] for key, pair in self._pairs(read).items()}
        if faults := [logit for logit in of.values() if not math.isfinite(logit)]:
            return Judgement(
                self._name, reason=f"{len(faults)} of {len(of)} logits are not finite, such as {faults[0]}"
            )
        rounding = SCORE_ROUNDING[self._spec.dtype]
        matrix = [[of.get((a, b), 0.0) for b in read.responses] for a in read.responses]
        if self._spec.gives == "wins":
            return Judgement(self._name, wins=win_probabilities(matrix), rounding=rounding)
        return Judgement(self._name, scores=max_logits(matrix), rounding=rounding)

    def _logits(self, pairs: set[Pair]) -> dict[Pair, float]:
        out: dict[Pair, float] = {}
        for batch in by_length(pairs, self._spec.batch_tokens):
            out |= zip(batch, self._forward(batch), strict=True)
        return out

    def _forward(self, batch: Sequence[Pair]) -> list[float]:
        def no_room(pair: Pair) -> str:
            return (
                f"judge.path {self._spec.path}: no memory for one pair of {len(pair.ids)} tokens on {self._device}; "
                f"lower judge.max_tokens (now {self._spec.max_tokens}) and judge.max_source_tokens"
            )

        return in_halves(self._batch_logits, batch, no_room)

    def _batch_logits(self, batch: Sequence[Pair]) -> list[float]:
        length = max(len(pair.ids) for pair in batch)
        ids = torch.tensor([(*pair.ids, *[PAD] * (length - len(pair.ids))) for pair in batch], device=self._device)
        lengths = torch.tensor([len(pair.ids) for pair in batch], device=self._device)
        places = torch.tensor([pair.places for pair in batch], device=self._device)
        logits: list[float] = self._model(ids, lengths, places).tolist()
        return logits


def by_length(pairs: set[Pair], batch_tokens: int) -> Iterator[list[Pair]]:
    """Pairs from short to long in batches of at most that many padded tokens (or of one pair), of which few are padding."""
    batch: list[Pair] = []
    for pair in sorted(pairs, key=lambda p: (len(p.ids), p.ids)):
        length = len(pair.ids)
        if batch and ((len(batch) + 1) * length > batch_tokens or length > SPREAD * len(batch[0].ids)):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def computed_in(spec: PairRMJudge, device: torch.device) -> torch.dtype:
    """The dtype of the spec, refused where the device would be slower with it than in float32, or could not compute in it."""
    if device.type == "cpu":
        capable = torch.cpu.get_capabilities()
        if spec.dtype == "float16" or (
            spec.dtype == "bfloat16" and not (capable.get("avx512_bf16") or capable.get("amx_bf16"))
        ):
            raise JudgeError(
                f"judge.dtype {spec.dtype}: float16 is computed on GPUs, bfloat16 also on processors with instructions for it; "
                "this process has neither. Leave it out, which computes in float32"
            )
    dtype: torch.dtype = getattr(torch, spec.dtype)
    return dtype
