"""Makers of tiny models and datasets for the tests: real files of the real formats, a second or less each.

The tokenizer is a byte-level BPE that can spell any text; models are Llamas with random weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TURNS = (
    ("How do I boil an egg?", "Put it in hot water for seven minutes, then cool it."),
    ("Why is the sky blue?", "Because air scatters blue light more than red light."),
    ("What helps a friend who is ill?", "Write a short note: I hope that you feel better soon."),
    ("What should I read on a rainy day?", "A long novel and a cup of tea go well together."),
)


def tiny_tokenizer(chat: bool = True, vocabulary: int = 384) -> PreTrainedTokenizerFast:
    """A byte-level BPE without BOS, with EOS and pad apart; with a ChatML-like template unless `chat` is False."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for turn in TURNS for text in turn), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_model_folder(
    path: Path,
    seed: int = 0,
    *,
    vocabulary: int = 384,
    hidden: int = 32,
    layers: int = 2,
    chat: bool = True,
    tied: bool = False,
) -> Path:
    """A Hugging Face folder with a random Llama (safetensors) and its tokenizer; the same seed gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(chat, vocabulary)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tiny_pairs(n: int) -> list[dict[str, Any]]:
    """Rows as in UltraFeedback-binarized; every prompt is different, every chosen answer differs from its rejected one."""
    return [_pair(i) for i in range(n)]


def _pair(i: int) -> dict[str, Any]:
    question, answer = TURNS[i % len(TURNS)]
    user = {"role": "user", "content": f"{question} (case {i})"}
    return {
        "prompt": user["content"],
        "prompt_id": f"tiny-{i}",
        "chosen": [user, {"role": "assistant", "content": f"{answer} That settles case {i}."}],
        "rejected": [user, {"role": "assistant", "content": f"I would not know, case {i} is odd."}],
    }


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a Parquet file and return its path."""
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path
