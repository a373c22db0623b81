"""What a small model gives by transformers alone: the measure of a rehearsal, and whether a refusal is the cut's fault.

`trial` calls it. A model that its own class cannot load, draw from or train is one that was cut badly; of such a one no
refusal is believed.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from xpo_ray.logprobs import PromptGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

APART = 1e-3
"""Nats per sequence, or this share, by which a class's own attention functions may differ."""
END = 10**9
"""No token: draws do not end by themselves."""


@torch.no_grad()
def own_logps(own: "PreTrainedModel", groups: list[PromptGroup]) -> list[float]:
    """By the model's own forward pass, one sequence at a time, without a cache."""
    return [_own_logp(own, list(g.prompt_ids), list(r)) for g in groups for r in g.responses]


def _own_logp(own: "PreTrainedModel", prompt: list[int], response: list[int]) -> float:
    logits_TV = own_logits(own, [*prompt, *response])[len(prompt) - 1 : -1]
    chosen_T = torch.log_softmax(logits_TV, -1).gather(-1, torch.tensor(response)[:, None])
    return float(chosen_T.sum())


def own_logits(own: "PreTrainedModel", ids: list[int]) -> Tensor:
    logits: Tensor = own(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    return logits


def doubt_of(own: "PreTrainedModel", folder: Path, groups: list[PromptGroup]) -> str | None:
    """Why a refusal of a small model says nothing of the real one, if there is a reason."""
    try:
        loaded = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, trust_remote_code=False).eval()
        for group in groups:
            _generate(loaded, list(group.prompt_ids))
        logits_TV = loaded(input_ids=torch.tensor([list(groups[0].prompt_ids)]), use_cache=False).logits[0]
        torch.autograd.backward(logits_TV.log_softmax(-1)[:, 0].sum())
        loaded.zero_grad()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the run's
        return f"cut down it fails in transformers itself ({told(error)})"
    pairs = list(zip(own_logps(own, groups), own_logps(loaded, groups), strict=True))
    if any(abs(a - b) > APART * max(1.0, abs(b)) for a, b in pairs):
        return "its own attention functions (eager and the default one) give different log-probs"
    return None


@torch.no_grad()
def _generate(model: "PreTrainedModel", prompt: list[int]) -> Any:
    ids = torch.tensor([prompt])
    asked = {"do_sample": False, "max_new_tokens": 4, "eos_token_id": END, "pad_token_id": 0}
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **asked)


def told(error: BaseException) -> str:
    """Kind and first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'without a word'}"
