"""How far a tracker has been told: the total step and the evaluations that it has taken, in a file of the run's folder.

    <output>/exports/<kind>.json    {"step": 12, "evaluated": [0, 1]}

Written by a shipper after the tracker has taken a batch, read by the next attempt's, which leaves out what stands here.
"""

from dataclasses import dataclass
from pathlib import Path

from xpo_ray.storage import read_json, replace_file, to_json


@dataclass(frozen=True)
class Mark:
    """What a tracker has."""

    step: int = 0
    evaluated: frozenset[int] = frozenset()

    @classmethod
    def read(cls, path: Path) -> "Mark":
        """The mark in a file; of a run that is new to the tracker, one that has nothing."""
        if not path.exists():
            return cls()
        raw = read_json(path)
        return cls(int(raw["step"]), frozenset(int(t) for t in raw["evaluated"]))

    def write(self, path: Path) -> None:
        """Put this mark in the place of the one before, whole or not at all."""
        path.parent.mkdir(exist_ok=True)
        replace_file(path, to_json({"step": self.step, "evaluated": sorted(self.evaluated)}))
