"""Prompt tables kept for the next attempt: found when nothing has changed, never believed when they are damaged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tables
from tests.running import tiny_world, write_spec
from tests.tiny import tiny_pairs, write_parquet
from xpo_ray.kept_prompts import FOLDER, keep, kept
from xpo_ray.preparation import Prepared, prepare
from xpo_ray.prompts import PromptSet
from xpo_ray.spec.loading import load_spec


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    raw = tiny_world(tmp_path, prompts=12, held_out=4)
    raw["training"]["batch_size"] = 2
    return tmp_path, raw


def prepared(world: tuple[Path, dict[str, Any]], *overrides: str) -> Prepared:
    folder, raw = world
    return prepare(load_spec(write_spec(folder, raw), list(overrides)), folder)


def root_of(world: tuple[Path, dict[str, Any]]) -> Path:
    root = world[0] / "out"
    root.mkdir()
    return root


def test_preparing_writes_nothing_where_the_run_will_be(world: tuple[Path, dict[str, Any]]) -> None:
    prepared(world)
    assert not (world[0] / "out").exists()


def test_the_next_attempt_reads_what_was_kept(world: tuple[Path, dict[str, Any]]) -> None:
    root, first = root_of(world), prepared(world)
    stays = first.keep(root)
    again = prepared(world)
    assert stays.prompts.table == first.prompts.table == again.prompts.table
    assert again.identity == first.identity
    assert again.held_out_id == first.held_out_id
    assert again.prompts.counts() == first.prompts.counts()
    assert len(list((root / FOLDER).iterdir())) == 4

    assert first.prompts.key is not None
    other = PromptSet(tables.prompts([[1, 2, 3]] * 9), 9, 0, 0, 0, key=first.prompts.key)
    (root / FOLDER / f"{first.prompts.key}.json").unlink()
    keep(other, root)
    assert prepared(world).prompts.table == other.table  # so it was read, not made


@pytest.mark.parametrize(
    "overrides", [("data.max_prompt_tokens=20", "data.overlong_prompts=truncate"), ("data.source.limit=9",)]
)
def test_other_settings_make_another_table(world: tuple[Path, dict[str, Any]], overrides: tuple[str, ...]) -> None:
    first, changed = prepared(world), prepared(world, *overrides)
    assert first.prompts.key != changed.prompts.key
    assert prepared(world, "training.batch_size=4").prompts.key == first.prompts.key


def test_other_rows_under_the_same_name_make_another_table(world: tuple[Path, dict[str, Any]]) -> None:
    root, first = root_of(world), prepared(world)
    first.keep(root)
    write_parquet(world[0] / "train.parquet", tiny_pairs(30)[18:])
    assert prepared(world).prompts.fingerprint != first.prompts.fingerprint


@pytest.mark.parametrize("damage", ["cut", "altered", "no sidecar"])
def test_a_damaged_table_is_made_again(world: tuple[Path, dict[str, Any]], damage: str) -> None:
    root, first = root_of(world), prepared(world)
    first.keep(root)
    assert first.prompts.key is not None
    file = root / FOLDER / f"{first.prompts.key}.arrow"
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "altered":
        file.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    else:
        file.with_suffix(".json").unlink()
    assert kept(root, first.prompts.key) is None
    again = prepared(world)
    assert again.prompts.fingerprint == first.prompts.fingerprint
    again.keep(root)
    assert file.read_bytes() == whole


def test_what_cannot_be_told_is_not_kept(tmp_path: Path) -> None:
    prompts = PromptSet(tables.prompts([[1, 2]]), 1, 0, 0, 0)
    assert keep(prompts, tmp_path) is prompts
    assert list(tmp_path.iterdir()) == []
    assert keep(replace(prompts, key="k"), tmp_path).table == prompts.table
