"""Whether a model can read sequences as long as a run's, for every engine.

A table of positions ends, and the run with it; rotary positions go on, to where the model was never trained. Before the data are
read the spec's limits are looked at, afterwards the lengths themselves.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from xpo_ray.errors import SpecError
from xpo_ray.model_files import model_folder, positions, read_config, text_part
from xpo_ray.spec.run import RunSpec

TABLES = (
    "gpt2",
    "gpt_neo",
    "gpt_bigcode",
    "gptj",
    "codegen",
    "opt",
    "biogpt",
    "openai-gpt",
    "imagegpt",
    "bert",
    "roberta",
    "electra",
    "ctrl",
)
"""`model_type` of decoders that look positions up in a table (transformers 5.19)."""
REMEDY = "lower data.max_prompt_tokens, data.max_response_tokens or sampling.max_new_tokens"


def check_limits(spec: RunSpec, folder: Path) -> dict[str, str]:
    """Raises SpecError where the longest prompt and draw that the spec allows run off a table of positions; returns a warning
    where they leave the positions that the model was trained on."""
    new = most_new_tokens(spec)
    told = f"data.max_prompt_tokens {spec.data.max_prompt_tokens} and {new} new tokens are {spec.data.max_prompt_tokens + new}"
    return _checked(folder, spec.data.max_prompt_tokens + new, told)


def check_lengths(spec: RunSpec, *tables: pa.Table) -> dict[str, str]:
    """The same of prompts that are tokenised, with what may be drawn for them and with the dataset's answers."""
    folder = model_folder(spec.model.path)
    if folder is None:
        return {}
    longest = max(longest_sequence(table, most_new_tokens(spec)) for table in tables)
    return _checked(folder, longest, f"the longest prompt and its response are up to {longest} tokens")


def most_new_tokens(spec: RunSpec) -> int:
    """Of a draw, for training or evaluation."""
    return max(spec.sampling.max_new_tokens, spec.evaluation.max_new_tokens or 0)


def longest_sequence(prompts: pa.Table, new_tokens: int) -> int:
    """Tokens of the longest prompt with a response: a draw, or the dataset's."""
    lengths = [pc.list_value_length(prompts[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    behind = pc.max_element_wise(new_tokens, *lengths[1:])
    return pc.max(pc.add(lengths[0], behind)).as_py() or 0


def _checked(folder: Path, wanted: int, told: str) -> dict[str, str]:
    most = positions(folder)
    if most is None or wanted <= most:
        return {}
    told = f"{told}, the model in {folder} has {most} positions"
    if text_part(read_config(folder)).get("model_type") in TABLES:
        raise SpecError(f"{told}, and none beyond: {REMEDY}")
    return {"beyond_positions": f"{told}; what is longer is read as the model never was in its training: {REMEDY}"}
