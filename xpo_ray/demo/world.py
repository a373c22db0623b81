"""The demo's data: prompts made of topics, questions and circumstances, with answers in several styles.

Writes three Parquet files whose prompts are disjoint: a corpus for the base model, pairs to train on, pairs held out.
The best style has its small share of the corpus and is in no pair. Only the demo calls this; nothing is downloaded.
"""

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.demo.judge import score
from xpo_ray.demo.styles import STYLES, Style
from xpo_ray.demo.topics import TOPICS, Topic
from xpo_ray.judges.judgement import Message
from xpo_ray.seeds import seed_of, seeded_order
from xpo_ray.shards import MESSAGE

TRAIN_PROMPTS = 768
HELD_OUT_PROMPTS = 96
ANSWERS_PER_CORPUS_PROMPT = 3
CLEAR_MARGIN = 0.5
"""Points by which the chosen answer of a pair beats the rejected one, at least."""

QUESTIONS = (
    "How do I {task}?",
    "Can you help me {task}?",
    "I want to {task}. Where do I start?",
    "What is the best way to {task}?",
    "Please explain how to {task}.",
    "My friend hopes to {task}. What should she do?",
    "Any advice? I would like to {task}.",
    "I tried to {task} and failed. What now?",
)
CIRCUMSTANCES = (
    "",
    "I am a beginner.",
    "I have little time.",
    "It should be cheap.",
    "I get bored quickly.",
    "I am seventy years old.",
    "My sister is curious too.",
    "I begin on Monday.",
    "Please be honest.",
)

PAIRS = pa.schema(
    [
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("chosen", pa.list_(MESSAGE), nullable=False),
        pa.field("rejected", pa.list_(MESSAGE), nullable=False),
    ]
)
CORPUS = pa.schema(
    [
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("messages", pa.list_(MESSAGE), nullable=False),
    ]
)


@dataclass(frozen=True)
class World:
    """Where the demo's data lies."""

    train: Path
    """Prompts with pairs, as in UltraFeedback-binarized: prompt, prompt_id, chosen, rejected."""
    evaluation: Path
    """The same for held-out prompts."""
    corpus: Path
    """Conversations that the base model learns from: prompt, prompt_id, messages."""


@dataclass(frozen=True)
class Prompt:
    """One question of a user, and what it is about."""

    text: str
    topic: Topic

    @property
    def id(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def write_world(folder: Path, seed: int = 0) -> World:
    """Write train.parquet, test.parquet and corpus.parquet into a folder; the same seed gives the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = all_prompts(seed)
    train, rest = prompts[:TRAIN_PROMPTS], prompts[TRAIN_PROMPTS:]
    held_out, corpus = rest[:HELD_OUT_PROMPTS], rest[HELD_OUT_PROMPTS:]
    world = World(folder / "train.parquet", folder / "test.parquet", folder / "corpus.parquet")
    pq.write_table(_pairs(train, _rng(seed, "train")), world.train)
    pq.write_table(_pairs(held_out, _rng(seed, "test")), world.evaluation)
    pq.write_table(_corpus(corpus, _rng(seed, "corpus")), world.corpus)
    return world


def _rng(seed: int, table: str) -> random.Random:
    return random.Random(seed_of(seed, "demo answers", table))


def all_prompts(seed: int) -> list[Prompt]:
    """Every combination of topic, question and circumstance, once, in the seed's order."""
    prompts = [
        Prompt(f"{question.format(task=topic.task)} {circumstance}".strip(), topic)
        for topic in TOPICS
        for question in QUESTIONS
        for circumstance in CIRCUMSTANCES
    ]
    return [prompts[i] for i in seeded_order(range(len(prompts)), seed, "demo prompts")]


def _pairs(prompts: Sequence[Prompt], rng: random.Random) -> pa.Table:
    rows = []
    for prompt in prompts:
        chosen, rejected = _pair(prompt, rng)
        rows.append(
            {
                "prompt": prompt.text,
                "prompt_id": prompt.id,
                "chosen": _conversation(prompt, chosen),
                "rejected": _conversation(prompt, rejected),
            }
        )
    return pa.Table.from_pylist(rows, schema=PAIRS)


def _pair(prompt: Prompt, rng: random.Random) -> tuple[str, str]:
    """Two answers, the better one first; near ties are drawn again."""
    weights = [style.in_pairs for style in STYLES]
    asked = [Message(role="user", content=prompt.text)]
    while True:
        answers = [style.write(prompt.topic, rng) for style in rng.choices(STYLES, weights, k=2)]
        first, second = score(asked, answers)
        if abs(first - second) >= CLEAR_MARGIN:
            return (answers[0], answers[1]) if first > second else (answers[1], answers[0])


def _corpus(prompts: Sequence[Prompt], rng: random.Random) -> pa.Table:
    asked = [prompt for prompt in prompts for _ in range(ANSWERS_PER_CORPUS_PROMPT)]
    styles = _by_share(len(asked), rng)
    rows = [
        {
            "prompt": prompt.text,
            "prompt_id": prompt.id,
            "messages": _conversation(prompt, style.write(prompt.topic, rng)),
        }
        for prompt, style in zip(asked, styles, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CORPUS)


def _by_share(count: int, rng: random.Random) -> list[Style]:
    """As many styles as asked for, each with its share of the corpus, rounded, in random order."""
    edges = [0.0]
    for style in STYLES:
        edges.append(edges[-1] + style.share)
    counts = [round(b * count) - round(a * count) for a, b in itertools.pairwise(edges)]
    styles = [style for style, n in zip(STYLES, counts, strict=True) for _ in range(n)]
    rng.shuffle(styles)
    return styles


def _conversation(prompt: Prompt, answer: str) -> list[Message]:
    return [Message(role="user", content=prompt.text), Message(role="assistant", content=answer)]
