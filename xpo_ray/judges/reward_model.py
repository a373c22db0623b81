"""The judge that is a reward model: a sequence-classification checkpoint with one output.

It reads messages with the checkpoint's own tokenizer and chat template, never the policy's token ids. A score depends on
its own text alone: not on the padding, nor on what else is in the batch (but for float rounding). The model is
deterministic, so nothing is tried twice and `retries` has no effect. No code and no pickle of a checkpoint is ever run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from xpo_ray.chat_template import holds
from xpo_ray.devices import own_device
from xpo_ray.errors import JudgeError
from xpo_ray.judges.halving import in_halves
from xpo_ray.judges.judgement import Comparison, Judgement, Message
from xpo_ray.judges.packed_scores import batches, grouped, packable, packs, scores, why_plain
from xpo_ray.linear import through_onednn
from xpo_ray.logprobs import PromptGroup
from xpo_ray.logprobs.attention_kinds import whole_attention
from xpo_ray.logprobs.sides import Sides, alike, forget_lengths
from xpo_ray.rounding import SCORE_ROUNDING
from xpo_ray.spec.judge import RewardModelJudge

Ids = tuple[int, ...]
PLAIN = "plain"
DEFAULT_MAX_TOKENS = 2048
LOADING_FAULTS = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)


class RewardModel:
    """A Judge whose scores come from a checkpoint. Raises JudgeError where that cannot be loaded or fits no text."""

    def __init__(self, spec: RewardModelJudge, folder: Path) -> None:
        self._spec = spec
        self._name = f"reward_model:{Path(spec.path).name}"
        self._device = own_device()
        path = _local(spec.path, folder)
        self._tokenizer = _tokenizer(spec, path)
        self._template = _template(spec, folder, self._tokenizer)
        self._model = _model(spec, path).to(self._device).eval()
        through_onednn(self._model, frozen=True)
        self._max_tokens = _most_tokens(spec, self._model)
        self._vocabulary: int = self._model.get_input_embeddings().num_embeddings
        self._refuse_template_without_response()
        self._sides = Sides.of(self._model)
        shares = packable(self._model)
        self._why_plain = why_plain(self._model, self._logits) if shares else None
        self._packed = shares and self._why_plain is None

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison; a prompt that the chat template refuses is a failed one."""
        read = [self._read(comparison) for comparison in comparisons]
        scores = self._scores([texts for texts in read if not isinstance(texts, str)])
        return [self._judgement(c, texts, scores) for c, texts in zip(comparisons, read, strict=True)]

    def take_remarks(self) -> dict[str, str]:
        """That a decoder reads the prompt again for each response, which is slower, and why, once."""
        why, self._why_plain = self._why_plain, None
        if why is None:
            return {}
        slow = "prompts are read again for each response, which is slower and judges alike; they are not shared, as"
        return {"reward_model_plain_pass": f"judge.path {self._spec.path}: {slow} {why}"}

    def close(self) -> None:
        """Give the memory of the weights back."""
        self._model.to("meta")

    def _judgement(self, comparison: Comparison, texts: list[Ids] | str, scores: dict[Ids, float]) -> Judgement:
        if isinstance(texts, str):
            return Judgement(self._name, reason=texts)
        penalties = [0.0 if r.ended else self._spec.missing_eos_penalty for r in comparison.responses]
        finite = [_finite(scores.get(ids, math.nan) - minus) for ids, minus in zip(texts, penalties, strict=True)]
        if all(score is None for score in finite):
            return Judgement(self._name, reason="the model gave no finite score to any response")
        return Judgement(self._name, scores=tuple(finite), rounding=SCORE_ROUNDING[self._spec.dtype])

    def _read(self, comparison: Comparison) -> list[Ids] | str:
        """The token ids of each response with its prompt, or the reason why the template refuses them."""
        try:
            return [self._ids(self._text(comparison.prompt, response.text)) for response in comparison.responses]
        except TemplateError as error:
            return f"the chat template refuses the messages: {error}"

    def _text(self, prompt: Sequence[Message], response: str) -> str:
        if self._template == PLAIN:
            return "\n\n".join([*(message["content"] for message in prompt), response])
        messages = [*prompt, Message(role="assistant", content=response)]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, chat_template=self._template))

    def _ids(self, text: str) -> Ids:
        """A template writes its own special tokens; only plain text gets those of the tokenizer (so no doubled BOS)."""
        ids = self._tokenizer(text, add_special_tokens=self._template == PLAIN, verbose=False)["input_ids"]
        if ids and max(ids) >= self._vocabulary:
            raise JudgeError(
                f"judge.path {self._spec.path}: the tokenizer gives id {max(ids)}, the model has {self._vocabulary} "
                f"embeddings; put the tokenizer that the model was trained with into its folder"
            )
        return without_beginning(tuple(ids), self._max_tokens, self._leading_ids)

    @property
    def _leading_ids(self) -> tuple[int | None, ...]:
        return (self._tokenizer.bos_token_id, self._tokenizer.cls_token_id)

    def _scores(self, comparisons: Sequence[list[Ids]]) -> dict[Ids, float]:
        """The score of each text that has any token; texts of a comparison share their beginning where the model can."""
        texts = [sorted({ids for ids in each if ids}) for each in comparisons]
        groups = [grouped(each) for each in texts if self._packed and len(each) > 1]
        groups = [group for group in groups if packs(self._model, group) and self._alike(group)]
        out: dict[Ids, float] = {}
        for side in alike(self._sides, [group.tokens for group in groups]):
            for batch in batches([groups[i] for i in side], self._spec.batch_tokens):
                forget_lengths(self._model)
                out |= self._packed_scores([groups[side[i]] for i in batch])
        rest = sorted({ids for each in texts for ids in each} - out.keys(), key=lambda ids: (len(ids), ids))
        for side in alike(self._sides, [len(ids) for ids in rest]):
            for alone in by_length([rest[i] for i in side], self._spec.batch_tokens):
                forget_lengths(self._model)
                out |= zip(alone, self._forward(alone), strict=True)
        return out

    def _alike(self, group: PromptGroup) -> bool:
        """Whether all texts of a group have the same frequencies."""
        return len(alike(self._sides, [len(group.prompt_ids) + len(r) for r in group.responses])) == 1

    def _packed_scores(self, groups: Sequence[PromptGroup]) -> dict[Ids, float]:
        """Packed scores; what does not fit into the memory is left to the plain path."""
        try:
            made = scores(self._model, groups)
        except torch.OutOfMemoryError:
            return {}
        pairs = zip(groups, made, strict=True)
        return {(*g.prompt_ids, *r): score for g, each in pairs for r, score in zip(g.responses, each, strict=True)}

    def _forward(self, batch: Sequence[Ids]) -> list[float]:
        def no_room(text: Ids) -> str:
            return (
                f"judge.path {self._spec.path}: no memory for one text of {len(text)} tokens on {self._device}; "
                f"lower judge.max_tokens (now {self._max_tokens})"
            )

        return in_halves(self._logits, batch, no_room)

    @torch.inference_mode()
    def _logits(self, batch: Sequence[Ids]) -> list[float]:
        """Right-padded with an id that no text of the batch holds, because decoders score the last other id."""
        pad = self._padding(batch)
        length = max(map(len, batch))
        for config in (self._model.config, self._model.config.get_text_config()):
            config.pad_token_id = pad
        ids = torch.tensor([[*text, *[pad] * (length - len(text))] for text in batch], device=self._device)
        lengths = torch.tensor([len(text) for text in batch], device=self._device)
        mask = (torch.arange(length, device=self._device) < lengths[:, None]).long()
        logits = self._model(input_ids=ids, attention_mask=mask).logits
        return [float(score) for score in logits[:, 0].float().cpu()]

    def _padding(self, batch: Sequence[Ids]) -> int:
        """The tokenizer's own padding where it can be told from every token of the batch, else a free id."""
        taken = {token for text in batch for token in text} | {self._tokenizer.eos_token_id}
        own = self._tokenizer.pad_token_id
        if own is not None and own < self._vocabulary and own not in taken:
            return int(own)
        return next(token for token in range(self._vocabulary) if token not in taken)

    def _refuse_template_without_response(self) -> None:
        """A template that fails, or drops the assistant's turn, would give every response the same score."""
        question = [Message(role="user", content="question")]
        try:
            text = self._text(question, "the response")
            held = holds(text, "the response", partial(self._text, question))
        except (TemplateError, ValueError, TypeError) as error:
            raise JudgeError(
                f"judge.chat_template {self._spec.chat_template}: fails on a user's and an assistant's turn: {error}"
            ) from error
        if not held:
            raise JudgeError(
                f"judge.chat_template {self._spec.chat_template}: the assistant's turn is not in the text, "
                f"got {text[:200]!r}; give the template that the reward model was trained with"
            )


def by_length(texts: Sequence[Ids], batch_tokens: int) -> Iterator[list[Ids]]:
    """Cut texts, which are ordered by length, into batches of at most that many padded tokens (or of one text)."""
    batch: list[Ids] = []
    for text in texts:
        if batch and (len(batch) + 1) * len(text) > batch_tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def without_beginning(ids: Ids, limit: int, leading: Sequence[int | None]) -> Ids:
    """The last `limit` ids; a leading BOS or CLS stays, because encoders score at it."""
    if len(ids) <= limit:
        return ids
    kept = ids[:1] if ids[0] in leading else ()
    return kept + ids[len(ids) - limit + len(kept) :]


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


def _local(path: str, folder: Path) -> str:
    """A folder beside the spec file where there is one, else what the hub knows by that name."""
    beside = folder / Path(path).expanduser()
    if beside.is_dir():
        return str(beside)
    if Path(path).is_absolute() or path.startswith((".", "~")):
        raise JudgeError(f"judge.path {path}: no such folder; give a reward model's folder or hub repository")
    return path


def _tokenizer(spec: RewardModelJudge, path: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(path, revision=spec.revision, trust_remote_code=False)
    except LOADING_FAULTS as error:
        raise JudgeError(
            f"judge.path {spec.path}: its tokenizer cannot be loaded: {error}; the folder needs tokenizer files"
        ) from error


def _template(spec: RewardModelJudge, folder: Path, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """PLAIN, the text of a Jinja file, or None for the tokenizer's own."""
    if spec.chat_template == PLAIN:
        return PLAIN
    if spec.chat_template != "tokenizer":
        return _template_file(spec, folder)
    if tokenizer.chat_template is None:
        raise JudgeError(
            f"judge.chat_template tokenizer: the tokenizer of {spec.path} has no chat template; set "
            f"judge.chat_template to `plain` (messages joined by blank lines) or to the path of a Jinja file"
        )
    return None


def _template_file(spec: RewardModelJudge, folder: Path) -> str:
    try:
        return (folder / Path(spec.chat_template).expanduser()).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JudgeError(
            f"judge.chat_template {spec.chat_template}: cannot be read: {error}; "
            f"give `tokenizer`, `plain` or the path of a Jinja file"
        ) from error


def _model(spec: RewardModelJudge, path: str) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(path, revision=spec.revision, trust_remote_code=False)
        _refuse_other_outputs(spec, config)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            path,
            revision=spec.revision,
            config=config,
            dtype=getattr(torch, spec.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except JudgeError:
        raise
    except LOADING_FAULTS as error:
        raise JudgeError(
            f"judge.path {spec.path}: cannot be loaded as a sequence-classification model: {error}; "
            f"it needs config.json and weights as safetensors"
        ) from error
    _refuse_untrained_weights(spec, report["missing_keys"])
    return whole_attention(model)


def _refuse_other_outputs(spec: RewardModelJudge, config: PretrainedConfig) -> None:
    if config.num_labels != 1:
        raise JudgeError(
            f"judge.path {spec.path}: a reward model has one output (num_labels 1), this one has {config.num_labels}; "
            f"give a checkpoint that was trained as a reward model"
        )


def _refuse_untrained_weights(spec: RewardModelJudge, missing: set[str]) -> None:
    if missing:
        raise JudgeError(
            f"judge.path {spec.path}: the checkpoint has no {', '.join(sorted(missing)[:3])}, which would be random; "
            f"give a reward model, not the language model that it was made from"
        )


def _most_tokens(spec: RewardModelJudge, model: PreTrainedModel) -> int:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    offset = max((_positions_lost(module) for module in model.modules()), default=0)
    limit = DEFAULT_MAX_TOKENS if positions is None else positions - offset
    if spec.max_tokens is None:
        return min(limit, DEFAULT_MAX_TOKENS)
    if positions is not None and spec.max_tokens > limit:
        raise JudgeError(
            f"judge.max_tokens is {spec.max_tokens}, {spec.path} reads at most {limit} tokens; leave it out or set {limit}"
        )
    return spec.max_tokens


def _positions_lost(module: torch.nn.Module) -> int:
    """Models such as RoBERTa count positions from behind the padding id."""
    embeddings = getattr(module, "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1
