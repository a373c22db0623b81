"""What one process needs of the memory that it computes in, part by part: how much at most, and how much certainly.

xpo_ray.plan.memory makes them from the formulas; whether they lie in the machine's memory or on a GPU is decided there too.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """Bytes of one part of a process."""

    name: str
    most: int
    least: int = 0
    """What of it is certainly there while the process works."""
    rests: int = 0
    """What of it may stay while other roles have their turn (`colocated`): weights that stay, and what torch keeps of a GPU's
    memory for later tensors."""
    rests_least: int = 0

    @classmethod
    def certain(cls, name: str, size: int, *, stays: bool) -> "Need":
        """What lies there as long as the process works; or, where it stays, as long as it lives."""
        return cls(name, size, size, size if stays else 0, size if stays else 0)

    @classmethod
    def bound(cls, name: str, size: int, *, stays: bool) -> "Need":
        """What may be as much, and nobody knows how much less."""
        return cls(name, size, 0, size if stays else 0)


def most_of(needs: Iterable[Need]) -> dict[str, int]:
    """By part, at most."""
    return {need.name: need.most for need in needs}


def least_of(needs: Iterable[Need]) -> dict[str, int]:
    """By part, what is certain; parts of which nothing is certain are left out."""
    return {need.name: need.least for need in needs if need.least}
