"""Scores of a reward model with shared prefixes: what the texts of a comparison have in common is read once.

The judge `reward_model` asks `can_pack` once, when it has loaded a decoder with a score at the last token; encoders and
models whose attention is of another kind keep the plain path.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from xpo_ray.last_layer import leave_out_unread
from xpo_ray.logprobs.packing import Packing
from xpo_ray.logprobs.seam import PromptGroup
from xpo_ray.logprobs.shared import hidden_states, shared, sliding_window, use_packed_attention, whole
from xpo_ray.probing import LAST_PLACES

Ids = tuple[int, ...]
PROBE: tuple[tuple[Ids, ...], ...] = (((3, 1, 4, 1, 5, 9), (3, 1, 4, 2, 6)), ((3, 5, 8), (3, 5, 9, 7)))
TOLERANCE = 1e-3
"""Difference that rounding may make between the two paths, as a share of a score above 1; in 16 bits as many last places as
`probing` allows."""


def can_pack(model: nn.Module, plain: Callable[[Sequence[Ids]], Sequence[float]]) -> bool:
    """Whether packed scores are those of the plain path, tried on a few tokens; then the model is ready to be packed."""
    inner = whole(model)
    if not getattr(inner, "_supports_attention_backend", False) or not isinstance(
        getattr(inner, "score", None), nn.Linear
    ):
        return False
    before, expected = inner.config._attn_implementation, [plain(texts) for texts in PROBE]
    leave_out_unread(inner)
    use_packed_attention(model)
    try:
        got = scores(model, [grouped(texts) for texts in PROBE])
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError):
        got = []
    pairs = zip((v for one in expected for v in one), (v for one in got for v in one), strict=False)
    tolerance = max(TOLERANCE, LAST_PLACES * torch.finfo(next(model.parameters()).dtype).eps)
    agrees = bool(got) and all(abs(a - b) <= tolerance * max(1.0, abs(a)) for a, b in pairs)
    if not agrees:
        inner.set_attn_implementation(before)
    return agrees


def grouped(texts: Sequence[Ids]) -> PromptGroup:
    """The longest common beginning of the texts, and what each has behind it: a token at least."""
    length = min(map(len, texts)) - 1
    common = next((i for i in range(length) if len({t[i] for t in texts}) > 1), length)
    return PromptGroup(texts[0][:common], tuple(t[common:] for t in texts))


def packs(model: nn.Module, group: PromptGroup) -> bool:
    """Whether the shared path serves a group: there is something to share, and no window cuts it."""
    window = sliding_window(model)
    return len(group.prompt_ids) > 0 and (window is None or group.tokens <= window)


def batches(groups: Sequence[PromptGroup], most_tokens: int) -> list[list[int]]:
    """Indices of groups in batches of at most that many tokens (or of one group), longest first."""
    out: list[list[int]] = []
    room = 0
    for i in sorted(range(len(groups)), key=lambda i: (-groups[i].tokens, i)):
        tokens = shared.tokens([groups[i]])
        if not out or tokens > room:
            out.append([])
            room = most_tokens
        out[-1].append(i)
        room -= tokens
    return out


@torch.inference_mode()
def scores(model: nn.Module, groups: Sequence[PromptGroup]) -> list[list[float]]:
    """The score of each text of each group, read at its last token."""
    packing = Packing.of(groups, next(model.parameters()).device)
    last_UH = hidden_states(model, packing, packing.ends_U)
    score_U = whole(model).score(last_UH)[:, 0].float().tolist()
    flat = iter([score_U[u] for u in packing.unique_S])
    return [[next(flat) for _ in group.responses] for group in groups]
