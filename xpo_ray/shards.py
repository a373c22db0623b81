"""Shards: Arrow tables that gain columns as they walk through the actors. Every stage's schema stands here, once.

    PROMPTS ──draw──► CANDIDATES ──judge, pair──► PREFERENCES ──reference log-probs──► SCORED

The same table travels by object ref and lies in storage as Parquet. Row i of a shard is the same prompt in every stage.
"""

from typing import Literal

import pyarrow as pa

Stage = Literal["candidates", "preferences", "scored"]
STAGES: tuple[Stage, ...] = ("candidates", "preferences", "scored")

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

PROMPT_FIELDS = [
    pa.field("row", pa.int64(), nullable=False),  # index in the normalised dataset; part of every draw's seed
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("prompt", pa.list_(MESSAGE), nullable=False),  # what judges read
    pa.field(
        "prompt_ids", pa.list_(pa.int32()), nullable=False
    ),  # what models read: template and generation prompt included
]
PAIR_FIELDS = [  # null where the dataset has prompts only
    pa.field("chosen", pa.string()),
    pa.field("chosen_ids", pa.list_(pa.int32())),  # text ids and one EOS; cut, and then without EOS, when over-long
    pa.field("chosen_ended", pa.bool_()),
    pa.field("rejected", pa.string()),
    pa.field("rejected_ids", pa.list_(pa.int32())),
    pa.field("rejected_ended", pa.bool_()),
]
PROMPTS = pa.schema([*PROMPT_FIELDS, *PAIR_FIELDS])

# origin: who made it, one of "policy", "reference" (draws), "chosen", "rejected" (the dataset's).
# ids: the drawn token ids, EOS included where it was drawn; these are trained on. ended: the response has its EOS.
# version: policy version of the weights that drew it (-1 for the dataset's); sample: index among draws of that origin.
CANDIDATE = pa.struct(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("ids", pa.list_(pa.int32()), nullable=False),
        pa.field("ended", pa.bool_(), nullable=False),
    ]
)
CANDIDATES = pa.schema([*PROMPT_FIELDS, pa.field("candidates", pa.list_(CANDIDATE), nullable=False)])

# status: "judged", "given" (the dataset's own pair) or "failed" (then `reason` says why and the prompt is dropped).
# scores[K]: higher is better; null where a candidate has none. wins[K][K]: P(row beats column), or null.
# rounding: relative rounding of a judge that computes its scores, within which they tie; 0 where they are compared as given.
# disagreement: of an ensemble, the weighted share of its members that do not put its best candidate above its worst, ties half.
JUDGEMENT = pa.struct(
    [
        pa.field("status", pa.string(), nullable=False),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("wins", pa.list_(pa.list_(pa.float64()))),
        pa.field("judge", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("tries", pa.int32(), nullable=False),
        pa.field("disagreement", pa.float64()),
        pa.field("rounding", pa.float64()),
    ]
)

# outcome: "pair", "tie" (weight 0, comparators stay) or "dropped" (nothing is trained on).
# chosen, rejected, comparators: indices into candidates. label: P(chosen beats rejected) that the objective fits, 1 when hard.
# wins_chosen, wins_rejected: mean win probability of each over all candidates, itself at ½ (SPPO).
PREFERENCE = pa.struct(
    [
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("chosen", pa.int32()),
        pa.field("rejected", pa.int32()),
        pa.field("comparators", pa.list_(pa.int32()), nullable=False),
        pa.field("label", pa.float64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("wins_chosen", pa.float64()),
        pa.field("wins_rejected", pa.float64()),
        pa.field("reason", pa.string()),
    ]
)
PREFERENCES = pa.schema(
    [*CANDIDATES, pa.field("judgement", JUDGEMENT, nullable=False), pa.field("preference", PREFERENCE, nullable=False)]
)

# reference_logps[K]: summed log-prob (nats) of each candidate under the reference; null for candidates not trained on.
SCORED = pa.schema([*PREFERENCES, pa.field("reference_logps", pa.list_(pa.float64()), nullable=False)])

SCHEMAS: dict[Stage, pa.Schema] = {"candidates": CANDIDATES, "preferences": PREFERENCES, "scored": SCORED}


def with_column(table: pa.Table, schema: pa.Schema, **columns: list[object]) -> pa.Table:
    """The table of the next stage: its columns and new ones, in the declared schema.

    A column that was committed before its type had gained a nullable field has null there.
    """
    arrays = {name: _typed(table[name], schema.field(name).type) for name in table.column_names if name in schema.names}
    arrays |= {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)
