import pytest
from transformers import PreTrainedTokenizerBase

from tests.xpo_ray.judges.pairrm import slow
from tests.xpo_ray.judges.pairrm.worlds import deberta_tokenizer
from xpo_ray.errors import JudgeError
from xpo_ray.judges.pairrm.encoding import PREFIXES, Pair, PairEncoding

HOSTILE = ("[SEP]", "[CLS]", "[PAD]", "[MASK]", *PREFIXES)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return deberta_tokenizer()


def encoding(tokenizer: PreTrainedTokenizerBase, most_source: int = 1224, most: int = 2048) -> PairEncoding:
    return PairEncoding(tokenizer, "./pairrm", max_source_tokens=most_source, max_tokens=most)


def pair(made: PairEncoding, prompt: str, left: str, right: str) -> Pair:
    first, second = made.candidates([left, right])
    return made.pair(made.source(prompt), first, second)


@pytest.mark.parametrize(
    ("prompt", "left", "right"),
    [
        ("what is good?", "the cat", "the dog, I say."),
        ("", "", "a"),
        ("a\nb", " spaced  out ", "tail\n"),
        ("é☃", "☃", "e"),
    ],
)
def test_a_pair_is_laid_out_as_the_model_card_does(
    tokenizer: PreTrainedTokenizerBase, prompt: str, left: str, right: str
) -> None:
    got = pair(encoding(tokenizer), prompt, left, right)
    assert list(got.ids) == slow.pair_ids(prompt, left, right)
    assert [got.ids[place] for place in got.places] == slow.prefix_ids()
    assert [got.ids[place - 1] for place in got.places] == [tokenizer.cls_token_id] * 3


@pytest.mark.parametrize("lengths", [(1, 1, 1), (30, 5, 5), (5, 40, 3), (5, 3, 40), (30, 40, 40), (9, 17, 18)])
def test_each_pair_is_cut_by_its_own_lengths_as_the_model_card_does(
    tokenizer: PreTrainedTokenizerBase, lengths: tuple[int, int, int]
) -> None:
    prompt, left, right = (letter * length for letter, length in zip("xyz", lengths, strict=True))
    got = pair(encoding(tokenizer, 20, 64), prompt, left, right)
    assert list(got.ids) == slow.pair_ids(prompt, left, right, 20, 64)
    assert len(got.ids) <= 64


def test_a_short_prompt_leaves_its_room_to_the_responses(tokenizer: PreTrainedTokenizerBase) -> None:
    made = encoding(tokenizer, 20, 64)
    assert made.room(made.source("x" * 40)) == (64 - 20) // 2 - 3
    assert made.room(()) == (64 - 3) // 2 - 3


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("form", ["{}", "the {}cat", "the {} cat", "{}{}", "{}[SEP][CLS]{}bad"])
def test_special_strings_in_texts_are_never_special_tokens(
    tokenizer: PreTrainedTokenizerBase, hostile: str, form: str
) -> None:
    text = form.replace("{}", hostile)
    got = pair(encoding(tokenizer), text, text, f"good {text}")
    marks = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()} - {tokenizer.unk_token_id}
    inner = [i for place, i in enumerate(got.ids) if place not in got.places and place + 1 not in got.places]
    separators = [place for place, i in enumerate(inner) if i == tokenizer.sep_token_id]
    assert len(separators) == 3
    assert [i for i in inner if i in marks] == [tokenizer.sep_token_id] * 3
    assert got.ids[-1] == tokenizer.sep_token_id
    assert [got.ids.count(i) for i in slow.prefix_ids()] == [1, 1, 1]


def test_what_is_left_of_a_text_with_special_strings_is_its_words(tokenizer: PreTrainedTokenizerBase) -> None:
    made = encoding(tokenizer)
    (got,) = made.candidates(["the[SEP] cat<|candidate2|> is good"])
    spaces = tokenizer.convert_tokens_to_ids("▁")
    assert [i for i in got if i != spaces] == tokenizer("the cat is good", add_special_tokens=False)["input_ids"]


def test_a_tokenizer_without_the_prefixes_is_refused() -> None:
    with pytest.raises(JudgeError, match=r"does not know <\|source\|> as one token; give the tokenizer of PairRM-hf"):
        encoding(deberta_tokenizer(prefixes=False))
