"""Packed attention against single sequences: on blocks, by FlexAttention's mask, and as sequences of varying lengths."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from xpo_ray.logprobs.attention import on_blocks, packed_attention
from xpo_ray.logprobs.gpu_attention import on_segments
from xpo_ray.logprobs.packing import Packing, Segments
from xpo_ray.logprobs.seam import PromptGroup

CPU = torch.device("cpu")
UNEVEN = [PromptGroup([1, 2, 3], ([4, 5], [6])), PromptGroup([7], ([8, 9, 10, 11],)), PromptGroup([5, 5], ([1],))]
EVEN = [PromptGroup([1, 2], ([4, 5, 6], [6, 7, 8])), PromptGroup([7, 8], ([8, 9, 10], [1, 2, 3]))]


def inputs(tokens: int, heads: int = 4, key_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, h, tokens, 8, generator=generator) for h in (heads, key_heads, key_heads))


def slow(packing: Packing, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each sequence by itself, causal; where a prompt has several responses its tokens come out the same each time."""
    out = torch.full((q.shape[2], q.shape[1], q.shape[3]), float("nan"))
    prompt_begins = [sum(packing.prompt_lengths[:b]) for b in range(len(packing.prompts))]
    for u, b in enumerate(packing.prompt_of):
        begin = packing.prompt_tokens + sum(packing.response_lengths[:u])
        own = [prompt_begins[b] + i for i in range(packing.prompt_lengths[b])]
        own += [begin + i for i in range(packing.response_lengths[u])]
        made = scaled_dot_product_attention(
            q[:, :, own],
            k[:, :, own].repeat_interleave(2, 1),
            v[:, :, own].repeat_interleave(2, 1),
            is_causal=True,
            scale=0.3,
        )
        out[own] = made[0].transpose(0, 1)
    return out.unsqueeze(0)


@pytest.mark.parametrize("groups", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_blocks_give_what_each_sequence_gives_alone(groups: list[PromptGroup]) -> None:
    packing = Packing.of(groups, CPU)
    q, k, v = inputs(len(packing.ids_N))
    out = on_blocks(q, k, v, packing.blocks, 0.3)
    torch.testing.assert_close(out, slow(packing, q, k, v), atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # flex_attention warns that it was not compiled
@pytest.mark.parametrize("groups", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_the_mask_of_flex_attention_lets_see_what_the_blocks_let_see(groups: list[PromptGroup]) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    packing = Packing.of(groups, CPU)
    q, k, v = inputs(len(packing.ids_N))
    out = flex_attention(q, k, v, block_mask=packing.block_mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(out.transpose(1, 2), slow(packing, q, k, v), atol=1e-6, rtol=1e-5)


def one_by_one(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    """What torch documents of its varlen attention, whose kernel is there for GPUs alone: sequence by sequence, and the last
    query sees all keys."""
    out = torch.empty_like(q)
    spans = [begins.tolist() for begins in (segments.query_begins, segments.key_begins)]
    for (i, j), (m, n) in zip(*map(pairwise, spans), strict=True):
        assert j - i <= segments.most_queries
        assert n - m <= segments.most_keys
        sees = torch.ones(j - i, n - m, dtype=torch.bool).tril(n - m - (j - i))
        states = (x.transpose(0, 1).unsqueeze(0) for x in (q[i:j], k[m:n], v[m:n]))
        made = scaled_dot_product_attention(*states, attn_mask=sees, scale=scaling, enable_gqa=True)
        out[i:j] = made[0].transpose(0, 1)
    return out


@pytest.mark.parametrize("groups", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_segments_give_what_each_sequence_gives_alone(groups: list[PromptGroup]) -> None:
    packing = Packing.of(groups, CPU)
    q, k, v = inputs(len(packing.ids_N))
    out = on_segments(q, k, v, packing, 0.3, one_by_one)
    torch.testing.assert_close(out, slow(packing, q, k, v), atol=1e-6, rtol=1e-5)


def test_segments_of_a_prompt_with_two_responses_written_out() -> None:
    segments = Packing.of([PromptGroup([1, 2, 3], ([4, 5], [6]))], CPU).segments
    assert segments.keys_K.tolist() == [0, 1, 2, *(0, 1, 2, 3, 4), *(0, 1, 2, 5)]
    assert segments.query_begins.tolist() == [0, 3, 5, 6]
    assert segments.key_begins.tolist() == [0, 3, 8, 12]
    assert (segments.most_queries, segments.most_keys) == (3, 5)


def test_torchs_varlen_attention_is_called_as_its_version_wants_it() -> None:
    """Shapes and types alone, as torch declares them for its kernel: forward and backward, with groups of heads."""
    meta = torch.device("meta")
    q, k, v = (torch.empty(1, h, 6, 32, device=meta, dtype=torch.bfloat16, requires_grad=True) for h in (4, 2, 2))
    packing = Packing.of([PromptGroup([1, 2, 3], ([4, 5], [6]))], meta)
    out = on_segments(q, k, v, packing, 0.3)
    assert (out.shape, out.dtype) == ((1, 6, 4, 32), torch.bfloat16)
    gradients = torch.autograd.grad(out, [q, k, v], torch.empty_like(out))
    assert [g.shape for g in gradients] == [q.shape, k.shape, v.shape]


def test_under_autocast_the_kernel_gets_its_type_whatever_the_type_of_its_inputs() -> None:
    packing = Packing.of(UNEVEN, CPU)
    q, k, v = inputs(len(packing.ids_N))
    seen: list[torch.dtype] = []

    def noting(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scaling: float | None) -> Tensor:
        seen.extend(x.dtype for x in (q, k, v))
        return one_by_one(q, k, v, segments, scaling)

    with torch.autocast("cpu", torch.bfloat16):  # rotary embeddings leave queries and keys in float32
        out = on_segments(q, k, v.bfloat16(), packing, 0.3, noting)
    assert seen == [torch.bfloat16] * 3
    torch.testing.assert_close(out.float(), slow(packing, q, k, v), atol=0.05, rtol=0.0)


def test_attention_with_sinks_is_refused_instead_of_being_wrong() -> None:
    packing = Packing.of(EVEN, CPU)
    q, k, v = inputs(len(packing.ids_N))
    with pytest.raises(NotImplementedError, match="s_aux"):
        packed_attention(torch.nn.Module(), q, k, v, None, packing=packing, s_aux=torch.zeros(4))
