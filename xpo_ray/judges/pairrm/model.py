"""PairRM's network: DeBERTa, and a head that reads the hidden states at the three prefixes.

Made and filled by `checkpoint`, called by the judge. The names of the modules are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import DebertaV2Config

from xpo_ray.judges.pairrm.deberta import DebertaV2Model
from xpo_ray.judges.pairrm.disentangled import PrefixStates


class PairRM(nn.Module):
    """logit = mean over tasks of h(source, left) − h(source, right), h = Linear, Tanh, Linear; above 0, left is better."""

    def __init__(self, config: DebertaV2Config, tasks: int) -> None:
        super().__init__()
        self.pretrained_model = DebertaV2Model(config)
        self.head_layer = nn.Sequential(
            nn.Dropout(),  # never at work here; it has its number in the names of the others
            nn.Linear(2 * config.hidden_size, config.hidden_size),
            nn.Tanh(),
            nn.Dropout(),
            nn.Linear(config.hidden_size, tasks),
        )
        self._states: PrefixStates | None = None

    @torch.inference_mode()
    def forward(self, ids_BT: Tensor, lengths_B: Tensor, places_B3: Tensor) -> Tensor:
        """Logits [B] in float32 of right-padded pairs. `places_B3`: where source, left and right have their prefixes."""
        if self._states is None:
            self._states = PrefixStates(self.pretrained_model)
        states_B3H = self._states(ids_BT, lengths_B, places_B3)
        source_BH, left_BH, right_BH = states_B3H.unbind(1)
        left_BN = self.head_layer(torch.cat([source_BH, left_BH], dim=-1))
        right_BN = self.head_layer(torch.cat([source_BH, right_BH], dim=-1))
        logits_B: Tensor = (left_BN - right_BN).mean(dim=-1).float()
        return logits_B

    @property
    def why_plain(self) -> str | None:
        """Why pairs are read by DebertaV2Model's own, slower pass; None where they are not, or nothing has been read."""
        return None if self._states is None else self._states.why_plain

    def forget(self) -> None:
        """Drop what was made from the weights."""
        self._states = None
