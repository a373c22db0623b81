"""Whether a judge has given up because its endpoint is out of reach: then waiting can help, and nobody is to blame."""

from collections.abc import Sequence

from xpo_ray.decisions import out_of_reach
from xpo_ray.errors import JudgeUnreachable
from xpo_ray.judges.judgement import Judgement
from xpo_ray.spec.remote_judge import RemoteJudge


def refuse_unreachable(
    spec: RemoteJudge, judgements: Sequence[Judgement], away: Sequence[str | None], *, down: bool
) -> None:
    """Raises JudgeUnreachable where judgements are missing for want of an endpoint; `away` says of which, and how."""
    lost = [reason for reason in away if reason is not None]
    failed = sum(j.failed for j in judgements)
    if out_of_reach(len(judgements), failed, len(lost), spec.max_failed_fraction, down=down):
        raise JudgeUnreachable(
            f"judge {judgements[0].judge} could not be reached for {len(lost)} of {len(judgements)} prompts of a shard: "
            f"{lost[0]}"
        )
