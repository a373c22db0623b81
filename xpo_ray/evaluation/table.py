"""The held-out table of an iteration: one row per prompt, gaining columns from the policy, the base and the judge.

    PROMPTS ──draw──► DRAWN ──log-probs of the base──► BASED ──judge──► JUDGED

Draws use the same seeds in every iteration, so that iterations are compared on the same random numbers. The base's draws and
log-probs are made once and kept: its table is the one of iteration 0.
"""

from typing import Any

import pyarrow as pa

from xpo_ray.shards import MESSAGE

DRAWN_FIELDS = [
    pa.field("row", pa.int64(), nullable=False),
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("prompt", pa.list_(MESSAGE), nullable=False),
    pa.field("prompt_ids", pa.list_(pa.int32()), nullable=False),
    pa.field("response", pa.string(), nullable=False),
    pa.field("ids", pa.list_(pa.int32()), nullable=False),
    pa.field("ended", pa.bool_(), nullable=False),
    pa.field("logp", pa.float64(), nullable=False),  # of the response under the model that drew it, nats, summed
    pa.field("chosen_logp", pa.float64()),  # of the held-out pair under that model; null without pairs
    pa.field("rejected_logp", pa.float64()),
]
DRAWN = pa.schema(DRAWN_FIELDS)
BASED = pa.schema(
    [*DRAWN_FIELDS, pa.field("base_logp", pa.float64(), nullable=False)]
)  # of the response under the base
# score: of this response, beside the base's; base_score, previous_score: of the base's and the last evaluated iterate's,
# each judged beside this response alone.
# base_win, previous_win: P(this response beats that one), 1, ½ or 0 from scores. Null where the judge failed or was not asked.
JUDGED_COLUMNS = ("score", "base_score", "previous_score", "base_win", "previous_win")
JUDGED = pa.schema([*BASED, *(pa.field(name, pa.float64()) for name in JUDGED_COLUMNS)])


def extended(table: pa.Table, schema: pa.Schema, columns: dict[str, list[Any]]) -> pa.Table:
    """The table with new columns, in the schema of its next stage."""
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else table[field.name] for field in schema
    ]
    return pa.table(arrays, schema=schema)


def held_out_key(held_out_id: str, stage: str, iteration: int, shard: int) -> str:
    """Where a held-out shard of an iteration is committed; stage is drawn or judged."""
    return f"evaluation-{held_out_id}/iteration-{iteration:04d}/{stage}/shard-{shard:05d}"
