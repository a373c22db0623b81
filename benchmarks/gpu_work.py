"""What one trained window of benchmarks/gpu.py costs in floating-point operations, and what known GPUs can do in a second.

Model operations as PaLM counts them (Chowdhery et al., arXiv:2204.02311, appendix B): 6 for each weight that a token is
multiplied with, forward and backward, and 12 · layers · heads · head size for each pair of a query and a key that it sees.
What activation checkpointing computes again does not count, nor does what log-probs leave out: the head where no response
follows, the last layer's feed-forward part there, and all keys that a token does not see (PaLM counts those).
"""

from dataclasses import dataclass

PEAKS = {
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L40S": 362e12,
}
"""Dense bfloat16 operations per second that the maker states, by the name that torch has for the device."""


@dataclass(frozen=True)
class Shape:
    """A Llama, and the lengths in tokens that it is measured at."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    vocabulary: int
    prompt: int
    response: int
    rows: int
    """Responses that are drawn at a time."""
    batch: int
    """Prompts of a window."""
    micro_batch_tokens: int

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def layer_weights(self) -> int:
        """Of all layers' matrices."""
        attention = 2 * self.hidden * (self.heads + self.key_heads) * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        return self.hidden * self.vocabulary

    def trained_tokens(self, responses: int) -> int:
        """Tokens of a window: each prompt once, and its responses."""
        return self.batch * (self.prompt + responses * self.response)

    def operations(self, responses: int) -> float:
        """Of one window, forward and backward; every prompt has so many responses behind it."""
        p, t = self.prompt, self.response
        read = responses * t  # tokens at the head
        pairs = p * (p + 1) // 2 + responses * (t * p + t * (t + 1) // 2)
        left_out = 3 * self.hidden * self.intermediate * p
        products = self.layer_weights * (p + read) - left_out + self.head_weights * read
        return float(self.batch * (6 * products + 12 * self.layers * self.heads * self.head_size * pairs))


SHAPES = {
    "large": Shape(
        2048, 16, 32, 8, 8192, 32_000, prompt=512, response=256, rows=256, batch=32, micro_batch_tokens=8192
    ),
    "tiny": Shape(128, 2, 4, 2, 256, 512, prompt=32, response=16, rows=16, batch=4, micro_batch_tokens=256),
}
"""`large` has 1.07 B weights in its layers and 65 M each in embeddings and head."""
