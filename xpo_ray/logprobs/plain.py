"""The plain path: each (prompt, response) is a sequence of its own, and the check of any faster one.

Prompts are padded on the left and responses on the right, so that all responses begin at the same position.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xpo_ray.logprobs.seam import PromptGroup, ResponseLogProbs


class Plain:
    """A LogProbFunction: logits on the response positions only, every prompt as often as it has responses."""

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        sequences = [(g.prompt_ids, r) for g in groups for r in g.responses]
        width = max(len(p) for p, _ in sequences)
        ids, mask = (x.to(next(model.parameters()).device) for x in _padded(sequences, width))
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        keep = ids.shape[1] - width + 1
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep)
        return _gathered(output.logits[:, :-1].float(), ids[:, width:], mask[:, width:], entropy)

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """Prompts and responses are padded apart."""
        responses = [len(r) for g in groups for r in g.responses]
        return len(responses) * (max(len(g.prompt_ids) for g in groups) + max(responses, default=0))


def _padded(sequences: Sequence[tuple[Sequence[int], Sequence[int]]], prompt_width: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [S, prompt_width + longest response]."""
    width = prompt_width + max(len(r) for _, r in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, (prompt, response) in enumerate(sequences):
        start, stop = prompt_width - len(prompt), prompt_width + len(response)
        ids[i, start:stop] = torch.as_tensor([*prompt, *response], dtype=torch.long)
        mask[i, start:stop] = 1
    return ids, mask


def _gathered(logits_STV: Tensor, ids_ST: Tensor, mask_ST: Tensor, entropy: bool) -> ResponseLogProbs:
    logp_STV = torch.log_softmax(logits_STV, dim=-1)
    logp_ST = logp_STV.gather(-1, ids_ST.unsqueeze(-1)).squeeze(-1) * mask_ST
    tokens_S = mask_ST.sum(-1)
    if not entropy:
        return ResponseLogProbs(logp_ST.sum(-1), tokens_S, None)
    with torch.no_grad():
        entropy_ST = -(logp_STV.exp() * logp_STV).sum(-1) * mask_ST
    return ResponseLogProbs(logp_ST.sum(-1), tokens_S, entropy_ST.sum(-1) / tokens_S.clamp(min=1))


plain = Plain()
