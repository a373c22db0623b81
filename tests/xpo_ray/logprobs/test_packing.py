"""Where tokens lie in a packing, by hand."""

import torch

from xpo_ray.logprobs.packing import Packing
from xpo_ray.logprobs.seam import PromptGroup

CPU = torch.device("cpu")


def test_prompts_come_first_and_each_distinct_response_once_with_positions_that_restart() -> None:
    groups = [PromptGroup([1, 2, 3], ([4, 5], [6], [4, 5])), PromptGroup([7], ([4, 5],))]
    packing = Packing.of(groups, CPU)
    assert packing.ids_N.tolist() == [1, 2, 3, 7, 4, 5, 6, 4, 5]
    assert packing.positions_N.tolist() == [0, 1, 2, 0, 3, 4, 3, 1, 2]
    assert packing.prompt_of == (0, 0, 1)
    assert packing.unique_S == (0, 1, 0, 2)
    assert packing.longest == 5


def test_a_response_is_predicted_by_the_last_token_of_its_prompt_and_then_by_itself() -> None:
    packing = Packing.of([PromptGroup([1, 2, 3], ([4, 5], [6])), PromptGroup([7], ([8, 9, 10],))], CPU)
    assert packing.predictors_M.tolist() == [2, 4, 2, 3, 7, 8]
    assert packing.targets_M.tolist() == [4, 5, 6, 8, 9, 10]
    assert packing.sequence_M.tolist() == [0, 0, 1, 2, 2, 2]
    assert packing.ends_U.tolist() == [5, 6, 9]


def test_blocks_of_even_lengths_are_views_and_others_have_an_index() -> None:
    even = Packing.of([PromptGroup([1, 2], ([3], [4])), PromptGroup([5, 6], ([7], [8]))], CPU).blocks
    assert even.inverse_N is None
    assert even.responses_each == 2
    assert even.sees.tolist() == [[[[True, True, True]]]]
    uneven = Packing.of([PromptGroup([1, 2], ([3], [4, 9])), PromptGroup([5], ([7],))], CPU).blocks
    assert uneven.shape == (2, 2, 3, 2)
    assert uneven.prompt_index is not None
    assert uneven.response_index is not None
    assert uneven.prompt_index.tolist() == [0, 1, 2, 2]
    assert uneven.response_index.tolist() == [3, 3, 4, 5, 6, 6]
    assert uneven.inverse_N is not None
    assert uneven.inverse_N.tolist() == [0, 1, 2, 4, 6, 7, 8]
    assert uneven.responses_each is None
    assert uneven.sees[2, 0].tolist() == [[True, False, True, False], [True, False, True, True]]
