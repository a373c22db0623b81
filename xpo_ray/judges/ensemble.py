"""The judge that is several judges: a weighted mean of all, or a cheap one and a dear one for what it is unsure of.

Rules. A member that failed on a prompt takes no part in it; with fewer than `min_members` left (by default with any gone) the
judgement fails, as a mean of other members than usual would be another measure. A cheap judge that failed sends nothing to the
dear one: that would spend without limit while the cheap one is down. A dear one that failed leaves no verdict, as the cheap one
was unsure. With `min_members` a member that is out of reach has failed on all prompts of the call; where a prompt has too few
judgements for want of it, the ensemble is out of reach, as waiting can help. The formulas stand in `combination`; members judge
one after the other, in the order of the spec.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from xpo_ray.errors import JudgeUnreachable
from xpo_ray.judges.combination import Vote, combined, disagreement, margin
from xpo_ray.judges.judgement import Comparison, Judge, Judgement, counts_of, remarks_of
from xpo_ray.judges.naming import named
from xpo_ray.spec.judge import EnsembleJudge


class Ensemble:
    """A Judge made of judges; they are its own, and end with it."""

    def __init__(self, spec: EnsembleJudge, members: Sequence[Judge]) -> None:
        self._spec = spec
        self._members = tuple(members)
        self._counts: Counter[str] = Counter()
        self._away: dict[int, JudgeUnreachable] = {}
        """Members that are out of reach in this call."""
        self._gone_on_without: set[int] = set()
        """Those that the last call went on without, of which a remark has been made."""
        self._remarks: dict[str, str] = {}

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison. Raises what a member raises: JudgeError, JudgeUnreachable."""
        judging = self._by_all if self._spec.combine == "mean" else self._cheap_then_dear
        judgements = judging(comparisons)
        self._counts["disagreed"] += sum((judgement.disagreement or 0.0) > 0.0 for judgement in judgements)
        return judgements

    def take_counts(self) -> dict[str, float]:
        """`disagreed`: prompts on which a member said otherwise. `asked_dear`: those that went to the dear judge.
        `without_member`: those that were judged while a member was out of reach."""
        taken = Counter(self._counts)
        self._counts = Counter()
        for member in self._members:
            taken.update(counts_of(member))
        return {name: float(count) for name, count in taken.items()}

    def take_remarks(self) -> dict[str, str]:
        """That a member is out of reach and the others go on without it, once for each time; and its members' own."""
        taken, self._remarks = self._remarks, {}
        for member in self._members:
            taken |= remarks_of(member)
        return taken

    def close(self) -> None:
        for member in self._members:
            member.close()

    def _by_all(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        self._away = {}
        given = [self._by_one(i, comparisons) for i in range(len(self._members))]
        told = list(zip(*given, strict=True)) if comparisons else []
        self._check_reach(told)
        for i in self._away.keys() - self._gone_on_without:
            self._remarks[f"judge_member_{i}_away"] = self._without(i)
        self._gone_on_without = set(self._away)
        if self._away:
            self._counts["without_member"] += len(told)
        return [self._mean(c, said) for c, said in zip(comparisons, told, strict=True)]

    def _by_one(self, place: int, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """What a member says; where it is out of reach and may be missing, that it failed on all."""
        try:
            with named(self._field(place), self._kind(place)):
                return self._members[place].judge(comparisons)
        except JudgeUnreachable as error:
            self._away[place] = error
            if len(self._members) - len(self._away) < self._least:
                raise
            return [Judgement(self._field(place), reason=str(error))] * len(comparisons)

    def _check_reach(self, told: Sequence[Sequence[Judgement]]) -> None:
        """Raises JudgeUnreachable where a prompt has too few judgements, and enough with those of the members that are away."""
        if not self._away:
            return
        votes = [sum(not judgement.failed for judgement in said) for said in told]
        lost = sum(count < self._least <= count + len(self._away) for count in votes)
        if lost:
            reasons = "; ".join(map(str, self._away.values()))
            raise JudgeUnreachable(
                f"{lost} of {len(told)} prompts of a shard have fewer judgements than judge.min_members {self._least}, as "
                f"{reasons}"
            )

    def _without(self, place: int) -> str:
        return (
            f"the other members judge without one that is out of reach, as judge.min_members {self._least} allows: "
            f"{self._away[place]}"
        )

    @property
    def _least(self) -> int:
        """Members that must have judged a prompt."""
        return self._spec.min_members or len(self._members)

    def _field(self, place: int) -> str:
        return f"judge.members.{place}.judge"

    def _kind(self, place: int) -> str:
        return self._spec.members[place].judge.kind

    def _mean(self, comparison: Comparison, said: Sequence[Judgement]) -> Judgement:
        weighted = zip(said, self._spec.members, strict=True)
        votes = [Vote(judgement, member.weight) for judgement, member in weighted if not judgement.failed]
        if len(votes) < self._least:
            return _failed(said, f"{len(votes)} of {len(said)} members judged it, min_members is {self._least}")
        return self._verdict(comparison, votes, votes)

    def _cheap_then_dear(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        first = self._by_one(0, comparisons)
        unsure = [i for i, c in enumerate(comparisons) if self._unsure(c, first[i])]
        second = dict(zip(unsure, self._by_one(1, [comparisons[i] for i in unsure]) if unsure else (), strict=True))
        self._counts["asked_dear"] += len(unsure)
        return [self._stands(c, first[i], second.get(i)) for i, c in enumerate(comparisons)]

    def _unsure(self, comparison: Comparison, cheap: Judgement) -> bool:
        """One that left all but one candidate without a score is unsure too; of one candidate there is nothing to decide."""
        if cheap.failed or len(comparison.responses) < 2:
            return False
        assert self._spec.unsure_below is not None
        gap = margin(cheap)
        return gap is None or gap < self._spec.unsure_below

    def _stands(self, comparison: Comparison, cheap: Judgement, dear: Judgement | None) -> Judgement:
        """The dear judge's verdict where it was asked, else the cheap one's."""
        said = [cheap] if dear is None else [cheap, dear]
        if said[-1].failed:
            return _failed(said, "the cheap judge failed" if dear is None else "the dear judge failed")
        return self._verdict(comparison, [Vote(said[-1])], [Vote(judgement) for judgement in said])

    def _verdict(self, comparison: Comparison, deciding: Sequence[Vote], heard: Sequence[Vote]) -> Judgement:
        verdict = combined(deciding, len(comparison.responses), self._spec.normalise)
        return replace(verdict, disagreement=disagreement(verdict, heard))


def _failed(said: Sequence[Judgement], why: str) -> Judgement:
    reasons = "; ".join(f"{judgement.judge}: {judgement.reason}" for judgement in said if judgement.failed)
    names = " + ".join(judgement.judge for judgement in said)
    return Judgement(f"ensemble({names})", reason=f"{why}: {reasons}", tries=max(each.tries for each in said))
