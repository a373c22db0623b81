"""Whether a judge has given up because its endpoint is out of reach: then waiting can help, and nobody is to blame."""

from collections.abc import Sequence

from xpo_ray.decisions import out_of_reach
from xpo_ray.errors import JudgeUnreachable
from xpo_ray.judges.judgement import Judgement
from xpo_ray.spec.judge import RemoteJudge


def refuse_unreachable(
    spec: RemoteJudge, judgements: Sequence[Judgement], unreachable: Sequence[bool], *, down: bool
) -> None:
    """Raises JudgeUnreachable where what is missing is missing for want of an endpoint; `unreachable` says of which."""
    lost = [j for j, away in zip(judgements, unreachable, strict=True) if j.failed and away]
    failed = sum(j.failed for j in judgements)
    if not out_of_reach(len(judgements), failed, len(lost), spec.max_failed_fraction, down=down):
        return
    raise JudgeUnreachable(
        f"judge {lost[0].judge} could not be reached for {len(lost)} of {len(judgements)} prompts of a shard: "
        f"{lost[0].reason}. What is committed stays and nothing of this shard was kept; bring the endpoint back, "
        f"then resume the run"
    )
