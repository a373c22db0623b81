"""A row's draw never depends on its neighbours, whichever side of a border of the config they are on."""

import pytest
import torch

from tests.xpo_ray.logprobs.models import bordered
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["longrope", "dynamic", "sliding"])
def test_draws_are_those_of_generate_beside_neighbours_of_other_lengths(kind: str) -> None:
    prompts = [list(range(3, 3 + n)) for n in (2, 6, 9, 11, 12, 13, 20, 6)]
    greedy = Sampling(temperature=0.0, top_p=1.0, top_k=None, max_new_tokens=8)
    drawn = TransformersEngine(bordered(kind), ()).draw(prompts, range(len(prompts)), greedy)
    for prompt, one in zip(prompts, drawn, strict=True):
        ids = torch.tensor([prompt])
        own = bordered(kind).generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            use_cache=kind != "longrope",  # with its cache, transformers 5.19 forgets the prompt at the border
        )
        assert list(one.ids) == own[0, len(prompt) :].tolist(), len(prompt)


def test_sampled_draws_do_not_depend_on_neighbours_across_the_border() -> None:
    model = bordered("longrope")
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=None, max_new_tokens=9, min_new_tokens=4)
    prompts = [list(range(3, 3 + n)) for n in (2, 8, 8, 14)]
    together = TransformersEngine(model, [1, 2, 5]).draw(prompts, [5, 6, 7, 8], sampling)
    alone = [TransformersEngine(model, [1, 2, 5]).draw([p], [5 + i], sampling)[0] for i, p in enumerate(prompts)]
    assert together == alone
