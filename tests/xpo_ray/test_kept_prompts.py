"""Prompt tables kept for the next attempt: found when nothing has changed, never believed when they are damaged."""

import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tables
from tests.running import tiny_world, write_spec
from tests.tiny import CHAT_TEMPLATE, tiny_pairs, write_parquet
from xpo_ray import preparation
from xpo_ray.attempts import check_output
from xpo_ray.datasets import Example, read_examples
from xpo_ray.errors import ResumeError
from xpo_ray.kept_prompts import FOLDER, keep, kept
from xpo_ray.preparation import Prepared, prepare
from xpo_ray.prompts import PromptSet
from xpo_ray.spec.data import ColumnsSpec, Source
from xpo_ray.spec.loading import load_spec
from xpo_ray.storage import to_json


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

    other = PromptSet(tables.prompts([[1, 2, 3]] * 9), 9, 0, 0, 0, origin=first.prompts.origin)
    (root / FOLDER / "source.json").unlink()
    keep(other, root, "source")
    assert prepared(world).prompts.table == other.table  # so it was read, not made


@pytest.mark.parametrize(
    "overrides", [("data.max_prompt_tokens=20", "data.overlong_prompts=truncate"), ("data.source.limit=9",)]
)
def test_other_settings_make_another_table(world: tuple[Path, dict[str, Any]], overrides: tuple[str, ...]) -> None:
    first, changed = prepared(world), prepared(world, *overrides)
    assert first.prompts.origin != changed.prompts.origin
    assert prepared(world, "training.batch_size=4").prompts.origin == first.prompts.origin


def test_other_rows_under_the_same_name_make_another_table(world: tuple[Path, dict[str, Any]]) -> None:
    root, first = root_of(world), prepared(world)
    first.keep(root)
    write_parquet(world[0] / "train.parquet", tiny_pairs(30)[18:])
    assert prepared(world).prompts.fingerprint != first.prompts.fingerprint


@pytest.mark.parametrize("damage", ["cut", "altered", "no sidecar", "half a sidecar"])
def test_a_damaged_table_is_made_again(world: tuple[Path, dict[str, Any]], damage: str) -> None:
    root, first = root_of(world), prepared(world)
    first.keep(root)
    assert first.prompts.origin is not None
    file = root / FOLDER / "source.arrow"
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "altered":
        file.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    elif damage == "half a sidecar":
        file.with_suffix(".json").write_text('{"size": 7')
    else:
        file.with_suffix(".json").unlink()
    assert kept(root, "source", first.prompts.origin) is None
    again = prepared(world)
    assert again.prompts.fingerprint == first.prompts.fingerprint
    again.keep(root)
    assert file.read_bytes() == whole


def test_what_cannot_be_told_is_not_kept(tmp_path: Path) -> None:
    prompts = PromptSet(tables.prompts([[1, 2]]), 1, 0, 0, 0)
    assert keep(prompts, tmp_path, "source") is prompts
    assert list(tmp_path.iterdir()) == []
    assert keep(replace(prompts, origin={"the data": "k"}), tmp_path, "source").table == prompts.table


DATED = "{{ strftime_now('%H:%M:%S.%f') }}\n" + CHAT_TEMPLATE


def with_template(world: tuple[Path, dict[str, Any]], text: str) -> None:
    (world[0] / "mine.jinja").write_text(text)
    world[1]["model"]["chat_template"] = str(world[0] / "mine.jinja")


def started(world: tuple[Path, dict[str, Any]]) -> tuple[Path, Prepared]:
    """A run whose first attempt has begun."""
    root, first = root_of(world), prepared(world)
    (root / "attempts").mkdir()
    (root / "run.json").write_bytes(to_json({"identity": first.identity}))
    return root, first.keep(root)


def refusal(world: tuple[Path, dict[str, Any]]) -> str:
    """What the next attempt is told."""
    again = prepared(world)
    with pytest.raises(ResumeError, match="content of the dataset: was") as caught:
        check_output(world[0] / "out", again.identity, resume=True, remarks=again.remarks)
    return str(caught.value)


def test_a_run_goes_on_with_the_prompts_that_it_began_with_though_the_template_writes_the_time(
    world: tuple[Path, dict[str, Any]],
) -> None:
    with_template(world, DATED)
    _, first = started(world)
    again = prepared(world)
    assert again.identity == first.identity
    assert again.prompts.table == first.prompts.table
    assert again.canary_ids == first.canary_ids
    assert again.held_out_id == first.held_out_id
    assert again.remarks == ()


def test_prompts_of_the_hub_are_kept_and_the_hub_is_not_asked_again(
    world: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_spec(write_spec(*world)).data.source
    rows = iter([list(read_examples(source, ColumnsSpec(), needs_pairs=True, algorithm="selm"))])

    def from_the_hub(source: Source, *given: Any, **more: Any) -> Generator[Example]:
        yield from next(rows) if source.kind == "hub" else read_examples(source, *given, **more)

    monkeypatch.setattr(preparation, "read_examples", from_the_hub)
    world[1]["data"]["source"] = {"kind": "hub", "name": "me/pairs"}
    with_template(world, DATED)
    _, first = started(world)
    assert prepared(world).identity == first.identity


def test_a_template_that_was_changed_is_named_with_the_line(world: tuple[Path, dict[str, Any]]) -> None:
    with_template(world, CHAT_TEMPLATE)
    started(world)
    with_template(world, "Be kind.\n" + CHAT_TEMPLATE)
    assert re.search(r"the chat template changed: line 1 was .*\{% for .*, is 'Be kind", refusal(world))


@pytest.mark.parametrize(("left", "told"), [(None, "missing"), (b"ARROW1", "damaged")])
def test_prompts_that_are_lost_are_named_where_a_date_makes_new_ones_different(
    world: tuple[Path, dict[str, Any]], left: bytes | None, told: str
) -> None:
    with_template(world, DATED)
    root, _ = started(world)
    file = root / FOLDER / "source.arrow"
    file.unlink() if left is None else file.write_bytes(left)
    assert re.search(rf"source\.arrow .*{told}; the chat template writes the date", refusal(world))


def test_prompts_that_are_lost_are_made_again_with_the_date_of_the_first_attempt(
    world: tuple[Path, dict[str, Any]],
) -> None:
    with_template(world, DATED)
    root, first = started(world)
    (root / "attempts" / "0001").mkdir()
    (root / "attempts" / "0001" / "attempt.json").write_bytes(to_json(first.record))
    (root / FOLDER / "source.arrow").unlink()
    again = prepared(world)
    assert again.identity == first.identity
    assert again.prompts.table == first.prompts.table


def test_a_first_attempt_has_nothing_to_say_of_earlier_prompts(world: tuple[Path, dict[str, Any]]) -> None:
    assert prepared(world).remarks == ()
