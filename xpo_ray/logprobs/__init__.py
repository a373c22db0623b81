"""Log-probs of responses: the one seam that everything which enters a loss goes through (DESIGN §4.5).

`choose` picks the path for a model: `shared` computes each prompt once for all of its responses, `plain` each (prompt,
response) as a sequence of its own.
"""

from xpo_ray.logprobs.choice import Choice, choose
from xpo_ray.logprobs.plain import plain
from xpo_ray.logprobs.seam import LogProbFunction, PromptGroup, ResponseLogProbs, micro_batches, precision
from xpo_ray.logprobs.shared import shared

__all__ = [
    "Choice",
    "LogProbFunction",
    "PromptGroup",
    "ResponseLogProbs",
    "choose",
    "micro_batches",
    "plain",
    "precision",
    "shared",
]
