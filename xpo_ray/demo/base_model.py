"""The demo's base model: a Llama of about a million parameters and its tokenizer, trained on the demo's corpus.

Plain PyTorch, no Ray; about half a minute on two cores. Only the demo calls this. The result is an ordinary Hugging
Face folder, so that a run loads it as it loads any model.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from xpo_ray.demo.world import World
from xpo_ray.seeds import seed_of

VOCABULARY = 1400
"""At most; enough for every word of the corpus to be one token."""
PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ('user', 'assistant') %}"
    "{{ raise_exception('the demo model knows the roles user and assistant, got ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

BATCH = 8
LEARNING_RATE = 4e-3
WARMUP_STEPS = 20
IGNORED = -100  # the label that cross-entropy leaves out


@dataclass(frozen=True)
class Row:
    """A conversation as token ids; the loss is on the ids from `start` on: the answer and its end token."""

    ids: tuple[int, ...]
    start: int


def train_base(folder: Path, world: World, *, seed: int = 0, progress: Callable[[int, int], None]) -> Path:
    """Train tokenizer and model on the corpus, save both in folder/base, and return that folder.

    `progress` is called with (steps done, steps in all) after each step. The same seed, versions and number of threads
    give the same model.
    """
    conversations: list[list[dict[str, str]]] = pq.read_table(world.corpus)["messages"].to_pylist()
    tokenizer = train_tokenizer([turn["content"] for turns in conversations for turn in turns])
    rows = [_row(tokenizer, turns) for turns in conversations]
    model = new_model(tokenizer, seed)
    random.Random(seed_of(seed, "demo batches")).shuffle(rows)
    _fit(model, [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)], progress)
    path = folder / "base"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the demo's chat template; it can spell any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama in float32 for the tokenizer; the random state of the process is left as it was."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "demo model"))
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def _row(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]]) -> Row:
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    answer_ids = tokenizer.encode(turns[-1]["content"], add_special_tokens=False)
    return Row((*prompt_ids, *answer_ids, tokenizer.eos_token_id), len(prompt_ids))


def _fit(model: LlamaForCausalLM, batches: Sequence[Sequence[Row]], progress: Callable[[int, int], None]) -> None:
    """One pass over the batches: every row is seen once."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(batches)))
    model.train()
    for step, batch in enumerate(batches, start=1):
        loss = _loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step, len(batches))
    model.eval()


def _rate(step: int, steps: int) -> float:
    """Share of the full learning rate: a short warm-up within a straight line to zero."""
    return min((step + 1) / WARMUP_STEPS, 1.0) * (1.0 - step / steps)


def _loss(model: LlamaForCausalLM, batch: Sequence[Row]) -> torch.Tensor:
    """Mean negative log-likelihood (nats) of the tokens of the answers.

    The rows lie in one sequence without padding; positions that restart keep each blind to those before it.
    """
    ids_T = torch.tensor([i for row in batch for i in row.ids])
    labels_T = torch.tensor([label for row in batch for label in [IGNORED] * row.start + list(row.ids[row.start :])])
    positions_T = torch.cat([torch.arange(len(row.ids)) for row in batch])
    logits_TV = model(input_ids=ids_T[None], position_ids=positions_T[None], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits_TV[:-1], labels_T[1:], ignore_index=IGNORED)
