"""The demo's base model on a handful of conversations: an ordinary Hugging Face folder with a chat template."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from xpo_ray.chat import Chat
from xpo_ray.checkpoints import load_model
from xpo_ray.demo.base_model import train_base
from xpo_ray.demo.world import write_world
from xpo_ray.judges.judgement import Message


def test_a_base_model_is_saved_as_a_folder_that_a_run_loads(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(world.corpus).slice(0, 64), few)
    seen: list[tuple[int, int]] = []
    base = train_base(tmp_path, replace(world, corpus=few), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen)
    chat = Chat.load(str(base), None, "tokenizer")
    ids, ended = chat.response_ids([Message(role="user", content="Hello.")], "Put the sun behind you.", 64)
    assert ended
    assert chat.decode(ids) == "Put the sun behind you."
    assert load_model(base, "float32").config.eos_token_id == chat.eos_id
