"""Shared against plain log-probs on each device, in float32 and bfloat16: values and gradients. On a GPU the shared path takes
FlashAttention (bfloat16) or FlexAttention (float32), the plain path SDPA; FlexAttention is tried on the CPU, too."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tests.xpo_ray.logprobs.models import make
from tests.xpo_ray.logprobs.test_shared import UNEVEN
from xpo_ray.devices import computing_dtype
from xpo_ray.logprobs import PromptGroup, choose, plain, precision, shared
from xpo_ray.logprobs.gpu_attention import takes_flex, takes_varlen
from xpo_ray.logprobs.packing import Packing

Dtype = Literal["float32", "bfloat16"]
VALUES: dict[Dtype, float] = {"float32": 1e-4, "bfloat16": 1e-2}
"""How far a summed log-prob may be off, as a share of it: bfloat16 has 8 bits, and each path rounds at other places."""
GRADIENTS: dict[Dtype, float] = {"float32": 1e-3, "bfloat16": 5e-2}
"""‖g − g'‖ / ‖g'‖ over all weights."""


def llama(heads: int = 4, key_heads: int = 2) -> LlamaForCausalLM:
    """Heads of 32 numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=199,
            hidden_size=32 * heads,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            max_position_embeddings=512,
            initializer_range=0.1,
        )
        return LlamaForCausalLM(config).eval()


def groups() -> list[PromptGroup]:
    """Uneven ones; a block of FlexAttention has 128 tokens, these are more."""
    generator = torch.Generator().manual_seed(1)

    def ids(n: int) -> list[int]:
        drawn: list[int] = torch.randint(3, 199, (n,), generator=generator).tolist()
        return drawn

    return [
        PromptGroup(ids(70), (ids(40), ids(33), ids(1))),
        PromptGroup(ids(1), (ids(60), ids(7))),
        PromptGroup(ids(129), (ids(20),)),
    ]


def computed(path: Any, model: Any, dtype: Dtype, given: Sequence[PromptGroup] | None = None) -> tuple[Tensor, Tensor]:
    """Log-probs [S], and all gradients of a loss that weighs every sequence differently, in one row."""
    model.zero_grad(set_to_none=True)
    with precision(dtype, model.device):
        logp_S = path(model, given or groups()).logp_S
    torch.autograd.backward((logp_S * torch.linspace(-1.0, 2.0, len(logp_S), device=logp_S.device)).sum())
    return logp_S.detach().cpu(), torch.cat([p.grad.flatten().cpu() for p in model.parameters()])


def compared(model: Any, dtype: Dtype, given: Sequence[PromptGroup] | None = None) -> None:
    (mine, slope), (theirs, other) = (computed(path, model, dtype, given) for path in (shared, plain))
    torch.testing.assert_close(mine, theirs, atol=0.0, rtol=VALUES[dtype])
    assert float((slope - other).norm() / other.norm()) < GRADIENTS[dtype]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 2)], ids=["each its keys", "groups", "no power of two"])
def test_shared_and_plain_agree_in_values_and_gradients(
    device: torch.device, dtype: Dtype, heads: tuple[int, int]
) -> None:
    model = llama(*heads).to(device)
    assert choose(model, dtype).reason is None
    compared(model, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["qwen2", "mistral", "gpt2"])
def test_heads_of_eight_numbers_and_other_architectures_agree(device: torch.device, kind: str, dtype: Dtype) -> None:
    model = make(kind, window=64).to(device)
    assert choose(model, dtype).reason is None
    compared(model, dtype, UNEVEN)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_log_probs_are_those_of_the_cpu_in_float32(device: torch.device, dtype: Dtype) -> None:
    expected = computed(plain, llama(), "float32")[0]
    model = llama().to(device)
    choose(model, dtype)
    torch.testing.assert_close(computed(shared, model, dtype)[0], expected, atol=0.0, rtol=2 * VALUES[dtype])


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_a_gpu_takes_its_own_kernels(device: torch.device) -> None:
    query = torch.zeros(1, 4, 8, 32, device=device)
    assert takes_flex(query)
    assert not takes_varlen(query)
    assert takes_varlen(query.bfloat16()) == (torch.cuda.get_device_capability() >= (8, 0))


def flexible(
    _: Any, query: Tensor, key: Tensor, value: Tensor, *_mask: Any, packing: Packing | None = None, **more: Any
) -> tuple[Tensor, None]:
    """FlexAttention without compilation, by a packing's mask."""
    assert packing is not None, "the plain path does not come here"
    query, key, value = (x.to(computing_dtype(x)) for x in (query, key, value))
    made = flex_attention(query, key, value, block_mask=packing.block_mask, scale=more["scaling"], enable_gqa=True)
    return made.transpose(1, 2), None


AttentionInterface.register("flexible", flexible)
AttentionMaskInterface.register("flexible", sdpa_mask)


@pytest.mark.filterwarnings("ignore::UserWarning")  # flex_attention warns that it was not compiled
def test_flex_attention_on_a_cpu_gives_the_plain_log_probs() -> None:
    """Forward passes alone: its kernel for CPUs has no backward pass."""
    model = llama()
    with torch.no_grad():
        expected = plain(model, groups()).logp_S
        model.set_attn_implementation("flexible")
        torch.testing.assert_close(shared(model, groups()).logp_S, expected, atol=0.0, rtol=VALUES["float32"])
