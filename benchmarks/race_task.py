"""The task that both sides of the race are given: one model, one reward model, one list of prompts, in a folder.

Both sides import this; it knows neither. Words are tokens, so that a reward model which reads ids and one which reads texts
see the same number of them. The pad is the EOS: EOS is never drawn, so no drawn text holds a token that either side drops.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

EOS = "<eos>"
PROBES = 64


@dataclass(frozen=True)
class Task:
    """Sizes and settings; every response has exactly `new_tokens` tokens."""

    name: str
    prompt_tokens: int
    new_tokens: int
    batch: int
    updates: int
    left_out: int
    """First updates that no figure counts."""
    left_out_last: int
    """Last updates that no figure counts: a side that draws ahead has nothing left to draw there. As many as it draws ahead."""
    hidden: int = 256
    intermediate: int = 688
    layers: int = 4
    heads: int = 4
    vocabulary: int = 1024
    learning_rate: float = 1e-3
    beta: float = 0.1
    alpha: float = 1e-5
    temperature: float = 1.0
    seed: int = 0

    @property
    def prompts(self) -> int:
        """Each update has prompts of its own."""
        return self.batch * self.updates

    @property
    def counted(self) -> slice:
        """The updates that figures count."""
        return slice(self.left_out, self.updates - self.left_out_last)

    @property
    def length(self) -> int:
        """Tokens of a prompt and its response."""
        return self.prompt_tokens + self.new_tokens


SHORT = Task("short", prompt_tokens=24, new_tokens=64, batch=32, updates=28, left_out=4, left_out_last=4)
LONG = Task("long", prompt_tokens=512, new_tokens=128, batch=16, updates=24, left_out=8, left_out_last=8)


def build(folder: Path, task: Task) -> Path:
    """Write model/, reward-model/, prompts.jsonl and task.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(task)
    torch.manual_seed(task.seed)
    for name, model in (("model", LlamaForCausalLM(_config(task))), ("reward-model", _reward_model(task))):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rng = random.Random(task.seed)
    words = [f"w{i}" for i in range(1, task.vocabulary)]
    prompts = [" ".join(rng.choices(words, k=task.prompt_tokens)) for _ in range(task.prompts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    (folder / "task.json").write_text(json.dumps(asdict(task)))
    return folder


def read_task(folder: Path) -> Task:
    """The task that `build` wrote."""
    return Task(**json.loads((folder / "task.json").read_text()))


def _tokenizer(task: Task) -> PreTrainedTokenizerFast:
    words = {EOS: 0, **{f"w{i}": i for i in range(1, task.vocabulary)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=EOS))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS, clean_up_tokenization_spaces=False
    )


def _config(task: Task) -> LlamaConfig:
    config = LlamaConfig(
        vocab_size=task.vocabulary,
        hidden_size=task.hidden,
        intermediate_size=task.intermediate,
        num_hidden_layers=task.layers,
        num_attention_heads=task.heads,
        num_key_value_heads=task.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    config.num_labels = 1  # the reward model's one output
    return config


@torch.no_grad()
def _reward_model(task: Task) -> LlamaForSequenceClassification:
    """A random one whose first layer looks at all tokens alike, so that each word of a response counts; scores of random
    texts have mean 0 and standard deviation 1 (as near as a head without bias allows)."""
    model = LlamaForSequenceClassification(_config(task)).eval()
    first = model.model.layers[0].self_attn
    first.q_proj.weight.zero_()
    first.v_proj.weight.mul_(16.0)
    first.o_proj.weight.mul_(16.0)
    texts = torch.randint(1, task.vocabulary, (PROBES, task.length))
    states = _last_states(model, texts)
    model.score.weight.copy_(_head(states, model.score.weight))
    return model


def _last_states(model: LlamaForSequenceClassification, texts: Tensor) -> Tensor:
    hidden: Tensor = model.model(input_ids=texts, use_cache=False).last_hidden_state
    return hidden[:, -1]


def _head(states: Tensor, direction: Tensor) -> Tensor:
    """`direction` without its part along the mean state, scaled to a standard deviation of 1 over the states."""
    mean = nn.functional.normalize(states.mean(0), dim=0)
    centred = direction - (direction @ mean)[:, None] * mean
    return centred / (states @ centred.T).std()
