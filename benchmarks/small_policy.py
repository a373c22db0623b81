"""A tokenizer and a language model of a few million parameters, trained from scratch on the answers of real pairs.

real_text calls this; the result is an ordinary Hugging Face folder. Chosen and rejected answers are trained on alike, as
the text of a base model: what is better is for the run to find out. No Ray, nothing is downloaded.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from answer_pairs import Pair
from fitting import batches_of, fit, padded
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 2048
PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
EPOCHS, BATCH = 2, 8
MATRIX_RATE, OTHER_RATE = 5e-3, 3e-3
IGNORED = -100  # the label that cross-entropy leaves out


@dataclass(frozen=True)
class Limits:
    """Token limits that the language model, the reward model and the run share."""

    prompt: int = 96
    answer: int = 128


@dataclass(frozen=True)
class Dialogue:
    """A prompt and an answer as token ids; the loss is on the ids from `start` on."""

    ids: tuple[int, ...]
    start: int


def train_policy(folder: Path, pairs: Sequence[Pair], test: Sequence[Pair], limits: Limits, seed: int) -> Path:
    """Train tokenizer and model, save both, say how well the model reads the test answers, and return the folder."""
    tokenizer = new_tokenizer([text for pair in pairs for text in (pair.prompt, pair.chosen, pair.rejected)])
    model = new_model(tokenizer, limits, seed)
    size = sum(p.numel() for p in model.parameters())
    rows = _dialogues(tokenizer, pairs, limits)
    print(f"  {len(tokenizer)} tokens, {size / 1e6:.1f} M parameters, {len(rows)} answers", flush=True)
    rng = random.Random(seed)
    batches = [b for _ in range(EPOCHS) for b in batches_of(rows, BATCH, lambda row: len(row.ids), rng)]
    fit(model, _optimizers(model), batches, lambda b: loss(model, b), "base")
    with torch.inference_mode():
        held_out = batches_of(_dialogues(tokenizer, test, limits), BATCH, lambda row: len(row.ids), rng)
        nats = sum(float(loss(model, b)) for b in held_out) / len(held_out)
    print(f"  test answers: {nats:.3f} nats per token", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def new_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template; it can spell any text."""
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


def new_model(tokenizer: PreTrainedTokenizerFast, limits: Limits, seed: int) -> LlamaForCausalLM:
    """An untrained Llama in float32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=2 * (limits.prompt + limits.answer),
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """What the model reads before it answers."""
    turns = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(text, add_special_tokens=False))


def answer_ids(tokenizer: PreTrainedTokenizerFast, answer: str, limit: int) -> list[int]:
    """An answer and its end; over the limit it is cut and has none, as in a run."""
    ids = [*tokenizer.encode(answer, add_special_tokens=False), int(tokenizer.eos_token_id)]
    return ids[:limit]


def loss(model: LlamaForCausalLM, batch: Sequence[Dialogue]) -> Tensor:
    """Mean negative log-likelihood (nats) of the tokens of the answers."""
    ids_BT = padded([row.ids for row in batch], fill=0)
    labels_BT = padded([[*[IGNORED] * row.start, *row.ids[row.start :]] for row in batch], fill=IGNORED)
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=IGNORED
    )


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the embeddings, which learn from half the text that AdamW needs; AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _dialogues(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], limits: Limits) -> list[Dialogue]:
    """Each distinct answer once, without prompts over the limit."""
    rows = []
    for prompt, answer in dict.fromkeys((p.prompt, text) for p in pairs for text in (p.chosen, p.rejected)):
        before = prompt_ids(tokenizer, prompt)
        if len(before) <= limits.prompt:
            rows.append(Dialogue((*before, *answer_ids(tokenizer, answer, limits.answer)), len(before)))
    return rows
