import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xpo_ray.errors import JudgeError
from xpo_ray.judges.plugins import TRACEBACK_CHARACTERS, load, locate, what_was_raised

Write = Callable[..., Path]
SCORE = "def score(prompt, responses): return [0.0]"


@pytest.fixture(autouse=True)
def _imports_are_undone() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_the_folder_of_the_spec_comes_before_the_working_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write(SCORE, "work/my_rewards.py")
    monkeypatch.chdir(here.parent)
    assert locate("my_rewards:score", tmp_path) == here
    beside = write(SCORE)
    assert locate("my_rewards:score", tmp_path) == beside


def test_installed_modules_come_last(write: Write, tmp_path: Path) -> None:
    import colorsys

    assert locate("colorsys:rgb_to_hls", tmp_path) == Path(colorsys.__file__)
    assert locate("xpo_ray.judges.plugins:load", tmp_path).name == "plugins.py"
    assert locate("colorsys:rgb_to_hls", tmp_path).parent != tmp_path
    assert locate("colorsys:score", write(SCORE, "colorsys.py").parent) == tmp_path / "colorsys.py"


def test_a_dotted_name_is_found_without_running_the_package(write: Write, tmp_path: Path) -> None:
    write("raise RuntimeError('ran')", "company/__init__.py")
    write(SCORE, "company/judges/rewards.py")
    assert locate("company.judges.rewards:score", tmp_path) == tmp_path / "company/judges/rewards.py"
    assert "company" not in sys.modules


def test_a_missing_module_is_named_with_the_places_and_the_nearest_name(write: Write, tmp_path: Path) -> None:
    write(SCORE, "my_reward.py")
    with pytest.raises(JudgeError, match=r"my_rewards:score.*no module my_rewards") as caught:
        locate("my_rewards:score", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "did you mean my_reward?" in str(caught.value)
    with pytest.raises(JudgeError, match="no module xpo_ray"):
        locate("xpo_ray.nothing:score", tmp_path)
    with pytest.raises(JudgeError, match="no module __main__"):
        locate("__main__:score", tmp_path)


def test_a_missing_attribute_is_named_with_the_file_and_the_nearest_name(write: Write, tmp_path: Path) -> None:
    file = write("def scores(prompt, responses): return [0.0]")
    with pytest.raises(JudgeError) as caught:
        load("my_rewards:score", tmp_path)
    assert str(caught.value) == f"judge.function my_rewards:score: {file} has no score; did you mean scores?"


def test_what_is_no_function_of_prompt_and_responses_is_refused(write: Write, tmp_path: Path) -> None:
    write("score = 3")
    with pytest.raises(JudgeError, match="is a int, no function"):
        load("my_rewards:score", tmp_path)
    write("def score(text): return 0.0", "one.py")
    with pytest.raises(JudgeError, match=r"takes \(text\); it is called with two arguments"):
        load("one:score", tmp_path)


def test_a_module_that_fails_names_its_file_and_the_error(write: Write, tmp_path: Path) -> None:
    file = write("import nothing_like_this")
    with pytest.raises(JudgeError, match="ModuleNotFoundError: No module named 'nothing_like_this'") as caught:
        load("my_rewards:score", tmp_path)
    assert f"importing {file} failed" in str(caught.value)
    write("def score(:", "wrong.py")
    with pytest.raises(JudgeError, match="SyntaxError"):
        load("wrong:score", tmp_path)
    write("import sys; sys.exit(3)", "leaves.py")
    with pytest.raises(JudgeError, match="SystemExit: 3"):
        load("leaves:score", tmp_path)


def test_a_file_with_the_name_of_a_loaded_module_is_refused(write: Write, tmp_path: Path) -> None:
    write(SCORE, "json.py")
    with pytest.raises(JudgeError, match="has the name of a module that Python has loaded already"):
        load("json:score", tmp_path)


def test_modules_beside_the_users_module_can_be_imported(write: Write, tmp_path: Path) -> None:
    write("BONUS = 2.0", "my_words.py")
    file = write("from my_words import BONUS\ndef score(prompt, responses): return [BONUS for _ in responses]")
    found, function = load("my_rewards:score", tmp_path)
    assert found == file
    assert function([], ["a", "b"]) == [2.0, 2.0]


def test_a_reason_begins_with_the_last_line_and_keeps_the_end_of_a_long_traceback() -> None:
    def dig(depth: int) -> None:
        if depth == 0:
            raise ValueError("boom")
        dig_by_another_name(depth - 1) if depth % 2 else dig(depth - 1)

    def dig_by_another_name(depth: int) -> None:
        dig(depth)

    try:
        dig(60)
    except ValueError as error:
        reason = what_was_raised(error)
    first, rest = reason.split("\n", 1)
    assert first == "ValueError: boom"
    assert rest.startswith("...")
    assert rest.endswith("ValueError: boom")
    assert len(reason) < TRACEBACK_CHARACTERS + 50
