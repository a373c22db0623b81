"""What became of the prompts: rows that were left out, pairs, ties, drops, and failures of the judge."""

from collections import Counter

from xpo_ray.report.blocks import Block, Figure, Note, Section, Table
from xpo_ray.report.charts import stacked_bars
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.series import spread

MAX_ITERATIONS = 40
MAX_REASONS = 8
CALLS = {
    "judge_requests": "requests to the judge",
    "judge_retries": "of which again",
    "judge_known_answers": "answers known already",
    "judge_input_tokens": "tokens sent",
    "judge_output_tokens": "tokens answered",
    "judge_unmetered_answers": "answers without counts",
    "judge_cost": "cost",
}
COUNTS = ("prompts", "pairs", "ties", "dropped", "identical", "failed")
OF_SOME_JUDGES = {
    "disagreed": "members disagreed",
    "asked_dear": "asked the dear judge",
    "without_member": "a member out of reach",
    "cached_responses": "responses known already",
}


def judging(run: RunFolder, _other: RunFolder | None) -> Section:
    """Data, outcomes by iteration, and reasons."""
    lead = "A prompt without a pair teaches nothing; here is where prompts were lost, and why."
    return Section("judging", "Data and judging", lead, (_data(run), *_outcomes(run), *_calls(run), *_reasons(run)))


def _data(run: RunFolder) -> Block:
    if not run.history.data:
        return Note("The datasets have not been read yet.")
    head = (
        "dataset",
        "rows read",
        "kept",
        "invalid, left out",
        "over-long, dropped",
        "prompts truncated",
        "responses cut",
    )
    keys = ("read", "kept", "invalid_rows", "dropped_overlong", "truncated_prompts", "cut_responses")
    names = {"source": "training", "evaluation": "held-out"}
    rows = tuple((names.get(n, n), *(f"{d[k]:,}" for k in keys)) for n, d in run.history.data.items())
    return Table(head, rows)


def _outcomes(run: RunFolder) -> tuple[Block, ...]:
    judged = run.history.judged
    if not judged:
        return (Note("No shard has been judged yet."),)
    shown = spread(sorted(judged), MAX_ITERATIONS)
    pairs, ties, dropped = ([judged[t].get(k, 0.0) for t in shown] for k in ("pairs", "ties", "dropped"))
    failed = [judged[t].get("failed", 0.0) for t in shown]
    others = [max(d - f, 0.0) for d, f in zip(dropped, failed, strict=True)]
    parts = [
        ("pairs", pairs, "@draw"),
        ("ties", ties, "@reference"),
        ("dropped", others, "@rule"),
        ("judge failed", failed, "@warn"),
    ]
    blocks: list[Block] = []
    if any([*ties, *dropped, *failed]):
        reading = (
            "Prompts by outcome: a tie keeps its bonus, in a window that has a pair; "
            "one that was dropped or not judged trains nothing."
        )
        blocks.append(Figure("Outcomes", reading, stacked_bars([str(t) for t in shown], parts, "iteration", "prompts")))
    more = {key: title for key, title in OF_SOME_JUDGES.items() if any(key in counts for counts in judged.values())}
    head = ("iteration", "prompts", "pairs", "ties", "dropped", "identical candidates", "judge failed", *more.values())
    rows = tuple((str(t), *(f"{judged[t].get(k, 0.0):,.0f}" for k in (*COUNTS, *more))) for t in shown)
    caption = "" if len(shown) == len(judged) else f"{len(shown)} of {len(judged)} iterations, evenly spaced."
    return (*blocks, Table(head, rows, caption))


def _calls(run: RunFolder) -> tuple[Block, ...]:
    """Requests, tokens and cost of a judge that counts them, evaluations included."""
    calls = run.history.calls
    known = [(name, head) for name, head in CALLS.items() if any(name in taken for taken in calls.values())]
    if not known:
        return ()
    rows = [
        (str(t), *(_amount(calls[t].get(name, 0.0)) for name, _ in known))
        for t in spread(sorted(calls), MAX_ITERATIONS)
    ]
    rows.append(("all", *(_amount(sum(taken.get(name, 0.0) for taken in calls.values())) for name, _ in known)))
    caption = "What the judge has taken, evaluations included; shards that were not kept are not in it."
    return (Table(("iteration", *(head for _, head in known)), tuple(rows), caption),)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4f}"


def _reasons(run: RunFolder) -> tuple[Block, ...]:
    counted: Counter[str] = Counter()
    for t in spread(run.tables.training_iterations, 6):
        counted.update(run.tables.scores(t).reasons)
    if not counted:
        return ()
    rows = tuple((reason[:300], f"{count:,}") for reason, count in counted.most_common(MAX_REASONS))
    return (Table(("reason given", "prompts"), rows, "Why prompts have no pair, the most frequent first."),)
