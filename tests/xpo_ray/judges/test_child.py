import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xpo_ray.errors import JudgeError
from xpo_ray.judges import Comparison, Response
from xpo_ray.judges.calls import Call, Reply, Setup
from xpo_ray.judges.child import Child, Lost

Write = Callable[..., Path]
Start = Callable[..., Child]
CALL = Call(1, (Comparison((), (Response("a"), Response("bb"))),))


@pytest.fixture
def start(write: Write, tmp_path: Path) -> Iterator[Start]:
    started: list[Child] = []

    def start_with(source: str, start_timeout_s: float = 60.0) -> Child:
        write(source)
        started.append(Child(Setup("my_rewards:score", str(tmp_path), False, 60.0, None), start_timeout_s))
        return started[-1]

    yield start_with
    for child in started:
        child.end()


def test_a_child_says_which_file_it_imported_and_answers(start: Start, tmp_path: Path) -> None:
    child = start("def score(prompt, responses): return [len(text) for text in responses]")
    assert child.file == str(tmp_path / "my_rewards.py")
    assert not child.concurrent
    child.send(CALL)
    replies = child.replies(60.0)
    assert isinstance(replies, list)
    assert [reply.answers[0].scores for reply in replies] == [(1.0, 2.0)]


def test_a_silent_child_is_lost_and_ended(start: Start) -> None:
    child = start("import time\ndef score(prompt, responses): time.sleep(1000)")
    child.send(CALL)
    assert child.replies(0.2) == Lost("gave no answer within 0.2 s and was ended")
    assert not child.alive


def test_a_child_that_reads_nothing_blocks_nobody(start: Start) -> None:
    child = start("def score(prompt, responses): return [1.0]")
    os.kill(child._process.pid, signal.SIGSTOP)
    child.send(Call(1, (Comparison((), (Response("x" * 3_000_000),)),)))
    assert child.replies(0.2) == Lost("gave no answer within 0.2 s and was ended")


@pytest.mark.parametrize(
    ("last_words", "how"),
    [("os._exit(3)", "ended with exit code 3"), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL")],
)
def test_a_child_that_dies_says_how(start: Start, last_words: str, how: str) -> None:
    child = start(f"import os\ndef score(prompt, responses): {last_words}")
    child.send(CALL)
    assert child.replies(60.0) == Lost(how)


def test_a_dead_child_that_is_sent_more_than_a_pipe_holds_is_lost(start: Start) -> None:
    child = start("def score(prompt, responses): return [1.0]")
    os.kill(child._process.pid, signal.SIGKILL)
    child.send(Call(1, (Comparison((), (Response("x" * 3_000_000),)),)))
    assert child.replies(60.0) == Lost("was killed by SIGKILL")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import os; os._exit(4)", "could not be imported: the process ended with exit code 4"),
        ("import time; time.sleep(1000)", "could not be imported: the process gave no answer within 1 s"),
        ("1 / 0", "importing .*my_rewards.py failed: ZeroDivisionError"),
    ],
)
def test_a_child_that_cannot_import_raises_and_is_gone(start: Start, source: str, fault: str) -> None:
    with pytest.raises(JudgeError, match=fault):
        start(source, 1.0)


def test_large_texts_pass_both_ways_while_calls_wait(start: Start) -> None:
    child = start(
        """
        async def score(prompt, responses):
            print(len(responses[0]))
            raise ValueError(responses[0][:3000])
        """
    )
    assert child.concurrent
    for number in range(8):
        child.send(Call(number, (Comparison((), (Response(str(number) * 500_000),)),)))
    got: list[Reply] = []
    while len(got) < 8:
        replies = child.replies(60.0)
        assert isinstance(replies, list)
        got += replies
    assert {reply.number for reply in got} == set(range(8))
    assert all(str(reply.number) * 1000 in str(reply.answers[0].reason) for reply in got)


def test_a_child_may_be_ended_twice(start: Start) -> None:
    child = start("def score(prompt, responses): return [1.0]")
    child.end()
    child.end()
    assert not child.alive
