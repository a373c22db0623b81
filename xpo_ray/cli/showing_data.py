"""What `xpo-ray validate` tells of the data: what is read and what is not, prompts that stand twice, and the first pair as
the model will see it. `--json` gets the same as plain data.

The command calls it; texts of the dataset are shown without control characters.
"""

from typing import TYPE_CHECKING, Any

from xpo_ray.algorithms import rows as algorithm_rows
from xpo_ray.cli.plain_text import line, plain
from xpo_ray.datasets.survey import SourceSurvey, survey
from xpo_ray.spec.run import RunSpec

if TYPE_CHECKING:
    from xpo_ray.chat import Chat
    from xpo_ray.preparation import Prepared
    from xpo_ray.prompt_facts import Repeats

MAX_FILES = 5
MAX_TEXT = 2000
Facts = dict[str, Any]


def surveyed(spec: RunSpec, *, hub: bool) -> Facts:
    """What each source holds; a hub repository is looked at only where `hub` says so, for it may be a download. Raises
    DatasetError where a source lacks the columns that the algorithm reads."""
    sources = {"source": spec.data.source, "evaluation": spec.data.evaluation}
    pairs = {"source": any(row.needs_pairs for row in algorithm_rows(spec)), "evaluation": False}
    return {
        name: _survey(survey(source, spec.data.columns, needs_pairs=pairs[name], algorithm=spec.algorithm.kind))
        for name, source in sources.items()
        if source is not None and (hub or source.kind == "files")
    }


def compared(prepared: "Prepared") -> Facts:
    """What the tokenised prompts say: those that stand twice, held-out ones that are trained on, the first one."""
    from xpo_ray.chat import Chat
    from xpo_ray.prompt_facts import equal_prompts, overlap

    chat = Chat.of(prepared.spec.model)
    facts: Facts = {
        "equal_prompts": _repeats(
            equal_prompts(prepared.prompts.table), prepared.prompts.table, prepared.prompts.table
        ),
        "first": _first(prepared, chat),
    }
    if prepared.held_out is not None:
        held_out, prompts = prepared.held_out.table, prepared.prompts.table
        facts["held_out_prompts_trained_on"] = _repeats(overlap(held_out, prompts), held_out, prompts)
    return facts


def sentences(facts: Facts, rows: Facts | None, *, tokens: bool) -> list[str]:
    """The facts in words, with the counts of the rows where all were read; `tokens` shows the first prompt and pair token by
    token."""
    lines = [
        said
        for name in ("source", "evaluation")
        if name in facts
        for said in _of_source(name, facts[name], (rows or {}).get(name))
    ]
    if rows is not None:
        lines += [f"answers end with {rows['end_of_turn']!r}", f"optimizer steps: {rows['steps']}"]
        lines += [f"warning: {line(message, MAX_TEXT)}" for message in rows["warnings"]]
    if "equal_prompts" in facts:
        lines += _of_repeats("prompts are equal to an earlier one", facts["equal_prompts"])
    if "held_out_prompts_trained_on" in facts:
        lines += _of_repeats("held-out prompts are also trained on", facts["held_out_prompts_trained_on"])
    for name, shown in facts.get("first", {}).items():
        lines += ["", f"the first {name}, as the model will see it:"]
        lines += _tokens(shown) if tokens else [plain(_cut(shown["text"]))]
    return lines


def _survey(found: SourceSurvey) -> Facts:
    return {
        "files": list(found.parts),
        "columns": found.columns,
        "columns_not_read": list(found.unread),
        "splits": list(found.splits),
        "split": found.split,
    }


def _repeats(repeats: "Repeats", table: Any, other: Any) -> Facts:
    if repeats.first is None:
        return {"count": 0, "of": table.num_rows, "first": None}
    position, earlier = repeats.first
    first = {
        "row": table["row"][position].as_py(),
        "equal_to_row": other["row"][earlier].as_py(),
        "prompt": _cut(table["prompt"][position].as_py()[-1]["content"]),
    }
    return {"count": repeats.count, "of": table.num_rows, "first": first}


def _first(prepared: "Prepared", chat: "Chat") -> Facts:
    """The first prompt, and its pair where the data have one, as text and token by token."""
    row = prepared.prompts.table.slice(0, 1).to_pylist()[0]
    ids = {"prompt": row["prompt_ids"], "chosen": row["chosen_ids"], "rejected": row["rejected_ids"]}
    return {name: _decoded(chat, each) for name, each in ids.items() if each is not None}


def _decoded(chat: "Chat", ids: list[int]) -> Facts:
    decode = chat.tokenizer.decode
    return {
        "text": decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        "tokens": [[i, decode([i], skip_special_tokens=False, clean_up_tokenization_spaces=False)] for i in ids],
    }


def _of_source(name: str, found: Facts, counts: dict[str, int] | None) -> list[str]:
    files = found["files"]
    more = f" and {len(files) - MAX_FILES} more" if len(files) > MAX_FILES else ""
    read = ", ".join(role if role == column else f"{role} ({column})" for role, column in found["columns"].items())
    lines = [
        f"data.{name}: {', '.join(line(file) for file in files[:MAX_FILES])}{more}",
        f"  columns that are read: {line(read)}",
    ]
    if found["columns_not_read"]:
        unread = ", ".join(column or "one without a name" for column in found["columns_not_read"])
        lines.append(f"  columns that are not read: {line(unread, MAX_TEXT)}")
    if found["splits"]:
        lines.append(f"  splits: {line(', '.join(found['splits']))}; read is {line(found['split'])}")
    if counts is not None:
        lines.append("  rows: " + ", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.items()))
    return lines


def _of_repeats(what: str, found: Facts) -> list[str]:
    if found["first"] is None:
        return [f"no {what}"]
    first = found["first"]
    return [
        f"{found['count']} of {found['of']} {what}; the first is row {first['row']}, equal to row "
        f"{first['equal_to_row']}: {line(first['prompt'], 80)}"
    ]


def _tokens(shown: Facts) -> list[str]:
    return [f"  {i:>8} {text!r}" for i, text in shown["tokens"]]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
