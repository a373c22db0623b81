"""The folder that a lap of benchmarks/scale.py runs in: a tokenizer of words, a model of a few weights, N preference pairs."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"w{i:04d}" for i in range(1000)]
PROMPT_WORDS, ANSWER_WORDS = 24, 16
PIECE = 50_000
JUDGE = '''"""Never asked: the judge's place is taken by an actor that answers at once."""


def score(prompt, responses):
    return [0.0 for _ in responses]
'''


def build(folder: Path, prompts: int) -> None:
    """Make the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _model(folder / "base")
    (folder / "instant.py").write_text(JUDGE)
    generator = np.random.default_rng(0)
    schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
    with pq.ParquetWriter(folder / "train.parquet", schema) as writer:
        for begin in range(0, prompts, PIECE):
            count = min(PIECE, prompts - begin)
            columns = [_texts(generator, count, n) for n in (PROMPT_WORDS, ANSWER_WORDS, ANSWER_WORDS)]
            writer.write_table(pa.table(columns, schema=schema))


def write_spec(folder: Path, name: str, *, shard_size: int, partitions: int) -> Path:
    """A SELM run over the folder: one draw and the dataset's pair for each prompt; a step for each shard."""
    spec: dict[str, Any] = {
        "name": name,
        "seed": 0,
        "model": {"path": "./base"},
        "data": {
            "source": {"kind": "files", "path": "./train.parquet"},
            "partitions": partitions,
            "shard_size": shard_size,
        },
        "algorithm": {"kind": "selm", "beta": 0.1, "alpha": 0.01},
        "sampling": {"max_new_tokens": 16},
        "judge": {"kind": "python", "function": "instant:score"},
        "training": {"learning_rate": 1.0e-6, "batch_size": shard_size, "checkpoint_every_steps": 200},
        "resources": {"engine_replicas": 1, "dashboard": False},
        "output": {"path": f"./{name}"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def _texts(generator: np.random.Generator, count: int, words: int) -> list[str]:
    return [" ".join(WORDS[i] for i in row) for row in generator.integers(0, len(WORDS), (count, words)).tolist()]


def _model(folder: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
