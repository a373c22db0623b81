"""What an LLM judge has taken: tokens, and their price."""

from dataclasses import dataclass

from xpo_ray.judges.remote.completions import Completion
from xpo_ray.spec.remote_judge import LlmJudge


@dataclass
class Meter:
    """Adds up answers, those that could not be used among them; they are paid for too."""

    spec: LlmJudge
    _input: int = 0
    _output: int = 0
    _silent: int = 0

    def add(self, completion: Completion) -> None:
        if completion.input_tokens is None or completion.output_tokens is None:
            self._silent += 1
            return
        self._input += completion.input_tokens
        self._output += completion.output_tokens

    def take(self) -> dict[str, float]:
        """Since the last time: tokens, answers that did not tell theirs, and with both prices the cost in their currency."""
        taken = {"judge_input_tokens": float(self._input), "judge_output_tokens": float(self._output)}
        taken["judge_unmetered_answers"] = float(self._silent)
        price_in, price_out = self.spec.price_per_million_input, self.spec.price_per_million_output
        if price_in is not None and price_out is not None:
            taken["judge_cost"] = (self._input * price_in + self._output * price_out) / 1e6
        self._input = self._output = self._silent = 0
        return taken
