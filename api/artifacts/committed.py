"""What the newest attempt of a run sees of its committed tables and checkpoints: its own and those that it adopted.

Readers of samples and checkpoints use it. It reads the storage's sidecars and never a table.
"""

import re
from collections import defaultdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from xpo_ray.storage import Checkpoint, LocalStorage, checkpoint_from_json, read_json

Rows = dict[str, Any]
_SHARD = re.compile(r"(.+)/shard-(\d+)$")
_HELD_OUT = re.compile(r"(evaluation-\w+)/iteration-(\d+)/judged$")
_TRAINING = re.compile(r"iteration-(\d+)/preferences$")


class Adopted:
    """The adoption list of an attempt, which never changes once it is there."""

    def __init__(self, root: Path, attempt: int) -> None:
        listed = read_json(LocalStorage(root, attempt).attempt_folder / "adopted.json")
        self.checkpoints: list[Checkpoint] = [checkpoint_from_json(c) for c in listed["checkpoints"]]
        self.shards: dict[str, dict[int, Rows]] = defaultdict(dict)
        for commit in listed["commits"]:
            if match := _SHARD.match(commit["key"]):
                self.shards[match[1]][int(match[2])] = commit


_adopted = lru_cache(maxsize=64)(Adopted)


class Committed:
    """Commits by the folder of their keys: `iteration-0001/preferences`, `evaluation-…/iteration-0002/judged`."""

    def __init__(self, root: Path, attempt: int) -> None:
        self.root = root
        self.attempt = attempt
        self._adopted = _adopted(root, attempt)
        self._own = LocalStorage(root, attempt).attempt_folder

    @classmethod
    def of(cls, root: Path) -> "Committed | None":
        """What the newest attempt with an adoption list sees; None before there is one."""
        lists = sorted((root / "attempts").glob("*/adopted.json"), key=lambda p: int(p.parent.name))
        return cls(root, int(lists[-1].parent.name)) if lists else None

    def checkpoints(self) -> list[Checkpoint]:
        """Published checkpoints, by steps applied; those whose files were freed too."""
        own = [checkpoint_from_json(read_json(p)) for p in (self._own / "checkpoints").glob("*.json")]
        return sorted([*self._adopted.checkpoints, *own], key=lambda c: (c.total_steps, c.iteration, c.step))

    def shards(self, folder: str) -> dict[int, Rows]:
        """The commits under a folder of keys by shard, in order."""
        own = {int(p.stem.removeprefix("shard-")): p for p in (self._own / "tables" / folder).glob("shard-*.json")}
        found = {number: read_json(path) for number, path in own.items()}
        return dict(sorted((found | self._adopted.shards.get(folder, {})).items()))

    @cached_property
    def training(self) -> dict[int, str]:
        """Folders of judged training prompts, by iteration."""
        return {int(m[1]): f for f in self._folders("iteration-*/preferences") if (m := _TRAINING.match(f))}

    @cached_property
    def held_out(self) -> dict[int, str]:
        """Folders of held-out responses, by iteration; of evaluations that were made in two ways the latest alone."""
        by_kind: dict[str, dict[int, str]] = defaultdict(dict)
        for folder in self._folders("evaluation-*/iteration-*/judged"):
            if match := _HELD_OUT.match(folder):
                by_kind[match[1]][int(match[2])] = folder
        latest = max(by_kind, key=lambda kind: (self._is_own(kind), len(by_kind[kind]), kind), default=None)
        return {} if latest is None else dict(sorted(by_kind[latest].items()))

    def _folders(self, pattern: str) -> list[str]:
        tables = self._own / "tables"
        own = {str(p.relative_to(tables)) for p in tables.glob(pattern)}
        return sorted(own | set(self._adopted.shards))

    def _is_own(self, kind: str) -> bool:
        return (self._own / "tables" / kind).is_dir()
