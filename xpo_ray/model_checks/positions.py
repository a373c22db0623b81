"""Whether a model can read sequences as long as a run's, for every engine.

A table of positions ends, and the run with it; rotary positions go on, to where the model was never trained.
Before the data are read the spec's limits are looked at, afterwards the lengths themselves.
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
NOT_TRAINED = "what is longer is read as the model never was in its training"
REMEDY = "lower data.max_prompt_tokens, data.max_response_tokens or sampling.max_new_tokens"


def check_limits(spec: RunSpec, folder: Path) -> dict[str, str]:
    """Raises SpecError where no prompt leaves room for the draws in a table of positions; returns a warning where the longest
    prompt and draw that the spec allows leave the model's positions. The lengths themselves decide: `check_lengths`."""
    new, most = most_new_tokens(spec), positions(folder)
    longest = spec.data.max_prompt_tokens + new
    if most is None or longest <= most:
        return {}
    if _is_table(folder) and new >= most:
        raise SpecError(f"{new} new tokens: the model in {folder} has {most} positions, and none beyond: {REMEDY}")
    told = f"data.max_prompt_tokens {spec.data.max_prompt_tokens} and {new} new tokens are {longest}"
    beyond = "the run is refused where the data have such a prompt" if _is_table(folder) else NOT_TRAINED
    return {"beyond_positions": f"{told}, the model in {folder} has {most} positions; {beyond}: {REMEDY}"}


def check_lengths(spec: RunSpec, *tables: pa.Table) -> dict[str, str]:
    """The same of prompts that are tokenised, with what may be drawn for them and with the dataset's answers."""
    folder = model_folder(spec.model.path)
    if folder is None:
        return {}
    longest, most = max(longest_sequence(table, most_new_tokens(spec)) for table in tables), positions(folder)
    if most is None or longest <= most:
        return {}
    told = f"the longest prompt and its response are up to {longest} tokens, the model in {folder} has {most} positions"
    if _is_table(folder):
        raise SpecError(f"{told}, and none beyond: {REMEDY}")
    return {"beyond_positions": f"{told}; {NOT_TRAINED}: {REMEDY}"}


def _is_table(folder: Path) -> bool:
    return text_part(read_config(folder)).get("model_type") in TABLES


def most_new_tokens(spec: RunSpec) -> int:
    """Of a draw, for training or evaluation."""
    return max(spec.sampling.max_new_tokens, spec.evaluation.max_new_tokens or 0)


def longest_sequence(prompts: pa.Table, new_tokens: int) -> int:
    """Tokens of the longest prompt with a response: a draw, or the dataset's."""
    lengths = [pc.list_value_length(prompts[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    behind = pc.max_element_wise(new_tokens, *lengths[1:])
    return pc.max(pc.add(lengths[0], behind)).as_py() or 0
