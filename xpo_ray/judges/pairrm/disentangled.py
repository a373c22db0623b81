"""DeBERTa's forward pass for frozen weights, and only as far as three of its hidden states need it.

It computes what DebertaV2Model does (He et al. 2021, DeBERTa, eq. 4), but for float rounding, with less work:
- the projections of the relative positions are those of the weights alone, and are made once instead of in every pass;
- of those positions only the ones that occur between so many tokens are multiplied;
- softmax and both products of the attention are one fused operation, to which the positions' part is a bias;
- the last layer is computed at the places that are asked for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DebertaV2Config

from xpo_ray.judges.pairrm.deberta import DebertaV2Model

PROBE = ((1, 3, 1, 4, 1, 2), (1, 4, 3, 2, 0, 0))


class Positions(NamedTuple):
    """Projected relative positions of one layer, [heads, positions, head size], divided by the scale of the attention."""

    keys_KPD: Tensor
    queries_KPD: Tensor


class Layout(NamedTuple):
    """For each query and key the row of its relative position [1 or B, 1, Q, T], among the positions first … last − 1, and
    which keys are padding."""

    rows: Tensor
    first: int
    last: int
    padding_BT: Tensor | None


class PrefixStates:
    """Hidden states [B, N, H] of the last layer at N places of each row. The model is in `eval` and its weights stay."""

    def __init__(self, model: DebertaV2Model) -> None:
        self._model = model
        self._positions: list[Positions] = []
        self.why_plain = (
            self._fault() if known(model.config) else "its attention is not of the kind of deberta-v3-large's"
        )
        """Why DebertaV2Model's own pass is taken, not that of this module; None where it is not."""
        if self.why_plain is not None:
            self._positions = []

    def __call__(self, ids_BT: Tensor, lengths_B: Tensor, places_BN: Tensor) -> Tensor:
        compute = self._fast if self._positions else self._plain
        mask_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
        return compute(ids_BT, mask_BT, places_BN)

    def _fault(self) -> str | None:
        """What is wrong with this module's pass, tried on a few tokens: a version of transformers may have other modules."""
        device = self._model.embeddings.word_embeddings.weight.device
        ids_BT, places_BN = torch.tensor(PROBE, device=device), torch.tensor([[0, 3], [1, 2]], device=device)
        mask_BT = torch.tensor([[True] * 6, [True] * 4 + [False] * 2], device=device)
        expected = self._plain(ids_BT, mask_BT, places_BN).float()
        try:
            self._positions = [_projected(layer.attention.self, self._model) for layer in self._model.encoder.layer]
            got = self._fast(ids_BT, mask_BT, places_BN).float()
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            return f"it cannot read this DebertaV2Model: {type(error).__name__}: {error}"
        off = float((got - expected).abs().max() / expected.abs().max())
        most = 1e-3 if self._model.dtype == torch.float32 else 0.1
        return None if off <= most else f"its hidden states are off by {off:.2g} of the largest, more than {most:g}"

    def _plain(self, ids_BT: Tensor, mask_BT: Tensor, places_BN: Tensor) -> Tensor:
        state_BTH: Tensor = self._model(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state
        return state_BTH[_rows(ids_BT), places_BN]

    def _fast(self, ids_BT: Tensor, mask_BT: Tensor, places_BN: Tensor) -> Tensor:
        state_BTH = self._model.embeddings(input_ids=ids_BT, mask=mask_BT)
        layout = self._layout(state_BTH, None if bool(mask_BT.all()) else ~mask_BT)
        *layers, last = zip(self._model.encoder.layer, self._positions, strict=True)
        for layer, positions in layers:
            state_BTH = _layer(layer, positions, state_BTH, state_BTH, layout)
        asked = layout._replace(rows=layout.rows[0, 0][places_BN][:, None])
        return _layer(*last, state_BTH, state_BTH[_rows(ids_BT), places_BN], asked)

    def _layout(self, state_BTH: Tensor, padding_BT: Tensor | None) -> Layout:
        """The rows of the relative embeddings that DeBERTa takes for each query and key, counted from the least of them."""
        span = self._model.encoder.layer[0].attention.self.pos_ebd_size
        relative_1TT = self._model.encoder.get_rel_pos(state_BTH)
        index_TT = torch.clamp(relative_1TT[0] + span, 0, 2 * span - 1)
        first, last = int(index_TT.min()), int(index_TT.max()) + 1
        return Layout((index_TT - first)[None, None], first, last, padding_BT)


def _rows(ids_BT: Tensor) -> Tensor:
    return torch.arange(len(ids_BT), device=ids_BT.device)[:, None]


def known(config: DebertaV2Config) -> bool:
    """Whether a model is of the kind of deberta-v3-large; others take DebertaV2Model's own pass."""
    kinds = set(config.pos_att_type or ())
    return config.relative_attention and kinds == {"c2p", "p2c"} and not getattr(config, "conv_kernel_size", 0)


@torch.inference_mode()
def _projected(attention: Any, model: DebertaV2Model) -> Positions:
    embeddings = model.encoder.get_rel_embedding()[: 2 * attention.pos_ebd_size]
    shared = attention.share_att_key
    keys = (attention.key_proj if shared else attention.pos_key_proj)(embeddings)
    queries = (attention.query_proj if shared else attention.pos_query_proj)(embeddings)
    scale = _scale(attention)
    return Positions(*(_heads(x[None], attention)[0].contiguous() / scale for x in (keys, queries)))


def _layer(
    layer: nn.Module,
    positions: Positions,
    state_BTH: Tensor,
    asked_BQH: Tensor,
    layout: Layout,
) -> Tensor:
    """One layer of the encoder at the asked states, which read all states."""
    parts: Any = layer
    context_BQH = _attend(parts.attention.self, positions, state_BTH, asked_BQH, layout)
    attended_BQH = parts.attention.output(context_BQH, asked_BQH)
    out: Tensor = parts.output(parts.intermediate(attended_BQH), attended_BQH)
    return out


def _attend(
    attention: Any,
    positions: Positions,
    state_BTH: Tensor,
    asked_BQH: Tensor,
    layout: Layout,
) -> Tensor:
    query_BKQD = _heads(attention.query_proj(asked_BQH), attention)
    key_BKTD, value_BKTD = (
        _heads(project(state_BTH), attention) for project in (attention.key_proj, attention.value_proj)
    )
    bias_BKQT = _bias(query_BKQD, key_BKTD, positions, layout)
    if layout.padding_BT is not None:
        bias_BKQT.masked_fill_(layout.padding_BT[:, None, None, :], -math.inf)
    out_BKQD = F.scaled_dot_product_attention(
        query_BKQD, key_BKTD, value_BKTD, attn_mask=bias_BKQT, scale=1 / _scale(attention)
    )
    return out_BKQD.transpose(1, 2).flatten(2)


def _bias(query_BKQD: Tensor, key_BKTD: Tensor, positions: Positions, layout: Layout) -> Tensor:
    """Content to position and position to content: q_i·P_key[i − j] + P_query[i − j]·k_j."""
    keys_KDP = positions.keys_KPD[:, layout.first : layout.last].transpose(-1, -2)
    queries_KPD = positions.queries_KPD[:, layout.first : layout.last]
    shape = (*query_BKQD.shape[:3], key_BKTD.shape[2])
    rows = layout.rows.expand(shape)
    to_position = torch.gather(query_BKQD @ keys_KDP, -1, rows)
    return to_position.add_(torch.gather(queries_KPD @ key_BKTD.transpose(-1, -2), -2, rows))


def _heads(x_BTH: Tensor, attention: Any) -> Tensor:
    return x_BTH.view(*x_BTH.shape[:-1], attention.num_attention_heads, -1).transpose(1, 2)


def _scale(attention: Any) -> float:
    """√(3d): content to content, content to position and position to content are summed."""
    return math.sqrt(3 * attention.attention_head_size)
