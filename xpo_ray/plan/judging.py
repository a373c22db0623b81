"""What judging takes at most where each judgement is a request that somebody pays for. Counts only."""

from xpo_ray.algorithms import Row, row_of_iteration
from xpo_ray.plan.work import IterationWork, evaluations
from xpo_ray.spec.judge import JudgeSpec, single_judges
from xpo_ray.spec.remote_judge import LlmJudge
from xpo_ray.spec.run import RunSpec


def candidates(row: Row) -> int:
    """Candidates of a prompt that a judge sees."""
    return sum(draw.samples for draw in row.draws) + (2 if row.dataset_candidates else 0)


def training_requests(spec: RunSpec, judge: LlmJudge, work: tuple[IterationWork, ...]) -> int:
    """Requests for all prompts of a run, without further tries: K·(K − 1) for a prompt with K candidates, or K."""
    rows = ((each, row_of_iteration(spec.algorithm, each.iteration)) for each in work)
    return sum(each.prompts * judge.requests(candidates(row)) for each, row in rows if row.judged)


def evaluation_requests(spec: RunSpec, judge: LlmJudge, held_out: int, work: tuple[IterationWork, ...]) -> int:
    """Requests for the held-out prompts: the base's responses alone, each later model's beside the base's and beside those of
    the model before it; pairs in both orders."""
    later = max(0, evaluations(spec, work) - 1)
    each = 2 * judge.requests(2) if judge.mode == "pairwise" else judge.requests(1)  # other scores are known by then
    return held_out * (judge.requests(1) + later * each)


def judging_notes(spec: RunSpec, held_out: int | None, work: tuple[IterationWork, ...]) -> list[str]:
    """One sentence for each language model that judges, alone or as a member of an ensemble."""
    if not work:
        return []
    notes = [_training(spec, judge, work, dear) for judge, dear in language_models(spec.judge)]
    if spec.data.evaluation is not None and held_out is not None:
        models = language_models(spec.evaluation.judge or spec.judge)
        notes += [_evaluation(spec, judge, held_out, work, dear) for judge, dear in models]
    return notes


def language_models(judge: JudgeSpec | None) -> list[tuple[LlmJudge, bool]]:
    """Those that judge, each with whether it is the dear judge of an ensemble, which sees a part of the prompts alone."""
    if judge is None:
        return []
    parted = judge.kind == "ensemble" and judge.combine == "cheap_then_dear"
    singles = [single for _, single in single_judges(judge, "judge")]
    return [(each, parted and i > 0) for i, each in enumerate(singles) if isinstance(each, LlmJudge)]


def _training(spec: RunSpec, judge: LlmJudge, work: tuple[IterationWork, ...], dear: bool) -> str:
    most = max(candidates(row_of_iteration(spec.algorithm, each.iteration)) for each in work)
    how = f"K(K − 1) = {judge.requests(most)}" if judge.mode == "pairwise" else f"K = {most}"
    total = f"{'at most ' if dear else ''}{training_requests(spec, judge, work):,}"
    return (
        f"judge {judge.model}, {judge.mode}: {how} requests for a prompt with K = {most} candidates, {total} in the whole "
        f"run, with up to {judge.max_tokens} tokens of answer each; failed tries come on top"
    )


def _evaluation(spec: RunSpec, judge: LlmJudge, held_out: int, work: tuple[IterationWork, ...], dear: bool) -> str:
    bound = "at most" if dear else "about"
    requests = evaluation_requests(spec, judge, held_out, work)
    return f"evaluation by {judge.model}: {bound} {requests:,} requests in the whole run"
