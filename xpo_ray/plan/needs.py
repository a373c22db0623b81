"""What one process needs of the memory that it computes in, part by part: how much at most, and how much certainly.

xpo_ray.plan.roles makes them from the formulas of xpo_ray.plan.memory, and decides whether they lie in the machine's memory or
on a GPU.
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
    sleeps: bool = False
    """Whether it leaves a GPU while other roles have their turn (`colocated`). What does not may stay as a whole, because torch
    keeps a GPU's memory for later tensors."""
    passes: bool = False
    """Whether it is there only while the process works, and is not laid aside but given up."""

    @classmethod
    def certain(cls, name: str, size: int, *, sleeps: bool = False, passes: bool = False) -> "Need":
        """What certainly is as much."""
        return cls(name, size, size, sleeps, passes)

    @classmethod
    def bound(cls, name: str, size: int, *, sleeps: bool = False) -> "Need":
        """What is needed for the work alone, and may be as much; nobody knows how much less."""
        return cls(name, size, 0, sleeps, passes=True)


def most_of(needs: Iterable[Need]) -> dict[str, int]:
    """By part, at most."""
    return {need.name: need.most for need in needs}


def least_of(needs: Iterable[Need]) -> dict[str, int]:
    """By part, what is certain; parts of which nothing is certain are left out."""
    return {need.name: need.least for need in needs if need.least}
