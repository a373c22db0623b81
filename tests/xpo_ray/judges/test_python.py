import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from xpo_ray.errors import JudgeError
from xpo_ray.judges import Comparison, Judgement, Message, Response
from xpo_ray.judges.calls import Answer, Reply
from xpo_ray.judges.python import Docket, PythonFunction, check_python_judge, source_digest
from xpo_ray.spec import PythonJudge

Write = Callable[..., Path]
Judging = Callable[..., PythonFunction]
SPEC = PythonJudge(kind="python", function="my_rewards:score")
LENGTHS = "def score(prompt, responses): return [float(len(text)) for text in responses]\n"


def compare(*responses: str, prompt: str = "hello?") -> Comparison:
    return Comparison((Message(role="user", content=prompt),), tuple(Response(text) for text in responses))


def brief(judgements: list[Judgement]) -> list[tuple[tuple[float | None, ...] | None, int]]:
    return [(judgement.scores, judgement.tries) for judgement in judgements]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about within ten seconds")


def is_gone(pid: int) -> bool:
    """No such process, or a zombie, all its threads ended, that its parent has not collected yet."""
    try:
        zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return zombie and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


# Scores


def test_scores_come_in_the_order_of_prompts_and_zero_is_one_of_them(judging: Judging) -> None:
    judge = judging(LENGTHS)
    assert judge.judge([compare("a", ""), compare("bbb", "cc", "d")]) == [
        Judgement("python:my_rewards:score", scores=(1.0, 0.0)),
        Judgement("python:my_rewards:score", scores=(3.0, 2.0, 1.0)),
    ]
    assert judge.judge([]) == []


def test_numpy_scores_are_numbers_and_one_nan_is_a_missing_score(judging: Judging) -> None:
    judge = judging(
        """
        import numpy as np
        def score(prompt, responses):
            return np.array([np.nan if text == "?" else len(text) for text in responses], dtype=np.float32)
        """
    )
    ok, missing, none = judge.judge([compare("a", "bb"), compare("a", "?"), compare("?", "?")])
    assert ok.scores == (1.0, 2.0)
    assert missing.scores == (1.0, None)
    assert none.failed
    assert "every score is NaN or infinite" in str(none.reason)


def test_text_of_any_kind_and_size_comes_through(judging: Judging) -> None:
    judge = judging(
        "def score(prompt, responses): return [len(text) + len(prompt[0]['content']) for text in responses]"
    )
    odd = 'a\n"\u2028\x00\ud83d'
    assert judge.judge([compare(odd, "x" * 2_000_000, prompt=odd)])[0].scores == (12.0, 2_000_006.0)


def test_what_the_users_code_prints_goes_to_stderr(judging: Judging, capfd: pytest.CaptureFixture[str]) -> None:
    judge = judging(
        """
        import os, sys
        print("at import")
        def score(prompt, responses):
            print('{"number":1,"answers":[]}')
            os.write(1, b"straight to the descriptor\\n")
            sys.stdout.write("without an end of line")
            return [1.0]
        """
    )
    assert judge.judge([compare("a")])[0].scores == (1.0,)
    judge.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert all(said in err for said in ("at import", '"answers":[]', "straight to", "without an end of line"))


def test_the_users_environment_is_as_it_was(judging: Judging, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import os\ndef score(prompt, responses): return [float(os.environ.get('PYTHONPATH') == responses[0])]"
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert judging(source).judge([compare("/somewhere")])[0].scores == (1.0,)


# Failed tries


def test_an_exception_is_tried_again_and_then_a_failed_judgement_with_the_last_line_first(judging: Judging) -> None:
    judge = judging(
        """
        def score(prompt, responses):
            if responses[0] == "bad":
                raise KeyError("no such rubric")
            return [1.0]
        """,
        retries=1,
    )
    good, bad = judge.judge([compare("good"), compare("bad")])
    assert (good.scores, good.tries) == ((1.0,), 1)
    assert (bad.failed, bad.tries) == (True, 2)
    reason = str(bad.reason)
    assert reason.splitlines()[0] == "the function raised KeyError: 'no such rubric'"
    assert 'raise KeyError("no such rubric")' in reason
    assert "worker.py" not in reason


def test_a_failure_that_passes_is_made_good_by_a_further_try(judging: Judging, tmp_path: Path) -> None:
    judge = judging(
        f"""
        from pathlib import Path
        tries = []
        def score(prompt, responses):
            tries.append(responses[0])
            if tries.count(responses[0]) < 3 and responses[0] == "late":
                raise ConnectionError("not yet")
            (Path({str(tmp_path)!r}) / "order").write_text(" ".join(tries))
            return [1.0]
        """
    )
    assert brief(judge.judge([compare("late"), compare("early")])) == [((1.0,), 3), ((1.0,), 1)]
    assert (tmp_path / "order").read_text() == "late early late late"  # others first, then the second try


@pytest.mark.parametrize("fault", ["[1.0, 2.0, 3.0]", "['good', 'bad']", "None", "sys.exit(1)", "[None, 1.0]"])
def test_what_is_no_score_fails_and_never_becomes_one(judging: Judging, fault: str) -> None:
    judgement = judging(f"import sys\ndef score(prompt, responses): return {fault}", retries=0).judge(
        [compare("a", "b")]
    )
    assert brief(judgement) == [(None, 1)]
    assert judgement[0].reason


def test_a_hang_is_ended_counts_as_a_try_and_leaves_the_others_alone(judging: Judging) -> None:
    judge = judging(
        """
        import time
        def score(prompt, responses):
            if responses[0] == "hang":
                time.sleep(1000)
            return [1.0]
        """,
        timeout_s=0.5,
        retries=1,
    )
    judgements = judge.judge([compare("a"), compare("hang"), compare("b")])
    assert brief(judgements) == [((1.0,), 1), (None, 2), ((1.0,), 1)]
    assert judgements[1].reason == "the process gave no answer within 0.5 s and was ended"


def test_processes_that_the_function_started_end_with_a_hang(judging: Judging, tmp_path: Path) -> None:
    judge = judging(
        f"""
        import subprocess
        from pathlib import Path
        def score(prompt, responses):
            sleeper = subprocess.Popen(["sleep", "1000"])
            Path({str(tmp_path)!r}, "pid").write_text(str(sleeper.pid))
            sleeper.wait()
        """,
        timeout_s=0.5,
        retries=0,
    )
    assert judge.judge([compare("a")])[0].failed
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_a_child_killed_in_a_call_is_replaced_and_the_call_is_tried_again(judging: Judging, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    judge = judging(
        f"""
        import os, time
        from pathlib import Path
        pid_file = Path({str(pid_file)!r})
        def score(prompt, responses):
            if responses[0] == "victim" and not pid_file.exists():
                pid_file.with_suffix(".new").write_text(str(os.getpid()))
                pid_file.with_suffix(".new").rename(pid_file)
                time.sleep(1000)
            return [1.0]
        """
    )

    def kill() -> None:
        wait_until(pid_file.exists)
        os.kill(int(pid_file.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert brief(judge.judge([compare("a"), compare("victim"), compare("b")])) == [
        ((1.0,), 1),
        ((1.0,), 2),
        ((1.0,), 1),
    ]
    killer.join()


def test_a_call_that_kills_its_process_every_time_fails_with_the_signal(judging: Judging) -> None:
    judge = judging("import os\ndef score(prompt, responses): os.kill(os.getpid(), 11)", retries=1)
    judgement = judge.judge([compare("a")])[0]
    assert (judgement.tries, judgement.reason) == (2, "the process was killed by SIGSEGV")


def test_a_child_that_died_between_calls_costs_no_try(judging: Judging) -> None:
    judge = judging("import os\ndef score(prompt, responses): return [os.getpid()]")
    pid = int(judge.judge([compare("a")])[0].scores[0])  # type: ignore[index, arg-type]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid))
    judgement = judge.judge([compare("a")])[0]
    assert judgement.tries == 1
    assert judgement.scores != (float(pid),)


def test_a_source_that_changed_is_not_mixed_into_the_run(judging: Judging, write: Write) -> None:
    judge = judging("import os\ndef score(prompt, responses): os._exit(1)")
    write("def score(prompt, responses): return [1.0]  # another judge")
    with pytest.raises(JudgeError, match=r"my_rewards.py changed while the run was going on"):
        judge.judge([compare("a")])


def test_a_reply_to_a_call_that_was_broken_off_is_not_taken_for_the_next(judging: Judging) -> None:
    judge = judging(
        """
        import time
        def score(prompt, responses):
            time.sleep(0.6 if responses[0] == "slow" else 0)
            return [float(len(responses[0]))]
        """
    )

    def break_off(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, break_off)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        judge.judge([compare("slow")])
    signal.signal(signal.SIGALRM, before)
    assert judge.judge([compare("aaaaaaa")])[0].scores == (7.0,)


# Async functions


def test_async_calls_are_in_flight_together_up_to_concurrency(judging: Judging) -> None:
    judge = judging(
        """
        import asyncio
        here = most = 0
        async def score(prompt, responses):
            global here, most
            here += 1
            most = max(most, here)
            await asyncio.sleep(0.05)
            here -= 1
            return [most]
        """,
        concurrency=3,
    )
    assert max(j.scores[0] for j in judge.judge([compare(str(i)) for i in range(7)])) == 3.0  # type: ignore[index, type-var]


def test_an_async_call_that_is_late_is_cancelled_in_its_process_even_if_it_refuses(judging: Judging) -> None:
    judge = judging(
        """
        import asyncio, os
        async def score(prompt, responses):
            while responses[0] == "late":
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass
            return [os.getpid()]
        """,
        timeout_s=0.5,
        retries=1,
    )
    before, late, after = judge.judge([compare("a"), compare("late"), compare("b")])
    assert (late.failed, late.tries) == (True, 2)
    assert "no answer within 0.5 s and was cancelled" in str(late.reason)
    assert before.scores == after.scores == judge.judge([compare("c")])[0].scores


def test_a_blocked_loop_is_charged_to_the_call_that_blocks_it_alone(judging: Judging) -> None:
    judge = judging(
        """
        import asyncio, time
        async def score(prompt, responses):
            await asyncio.sleep(0.01)
            if responses[0] == "block":
                time.sleep(1000)
            await asyncio.sleep(0.05)
            return [1.0]
        """,
        timeout_s=0.5,
        retries=0,
    )
    judgements = judge.judge([compare("a"), compare("block"), compare("b"), compare("c")])
    assert brief(judgements) == [((1.0,), 1), (None, 1), ((1.0,), 1), ((1.0,), 1)]


def test_an_async_function_that_cancels_itself_or_leaves_has_failed(judging: Judging) -> None:
    judge = judging(
        """
        import asyncio, sys
        async def score(prompt, responses):
            if responses[0] == "cancel":
                raise asyncio.CancelledError("by itself")
            sys.exit(2)
        """,
        retries=0,
    )
    cancelled, left = judge.judge([compare("cancel"), compare("leave")])
    assert "CancelledError: by itself" in str(cancelled.reason)
    assert "SystemExit: 2" in str(left.reason)


# Batched functions


def test_a_batched_call_has_all_prompts_and_a_poisoned_one_does_not_take_the_others_along(
    judging: Judging, tmp_path: Path
) -> None:
    judge = judging(
        f"""
        from pathlib import Path
        def score(prompts, responses):
            with Path({str(tmp_path)!r}, "sizes").open("a") as sizes:
                print(len(prompts), file=sizes)
            if any("poison" in texts for texts in responses):
                raise ValueError("cannot read this")
            return [[float(len(text)) for text in texts] for texts in responses]
        """,
        batched=True,
        retries=1,
    )
    comparisons = [compare("a", "bb"), compare("poison"), compare("ccc")]
    assert brief(judge.judge(comparisons)) == [((1.0, 2.0), 3), (None, 3), ((3.0,), 3)]
    assert (tmp_path / "sizes").read_text().split() == ["3", "3", "1", "1", "1"]
    assert brief(judge.judge([comparisons[0], comparisons[2]])) == [((1.0, 2.0), 1), ((3.0,), 1)]


def test_a_batched_answer_that_is_wrong_for_one_prompt_stands_for_the_others(judging: Judging) -> None:
    judge = judging(
        "def score(prompts, responses): return [[1.0] * len(texts) if len(texts) == 2 else [] for texts in responses]",
        batched=True,
        retries=0,
    )
    assert brief(judge.judge([compare("a", "b"), compare("c"), compare("d", "e")])) == [
        ((1.0, 1.0), 1),
        (None, 2),
        ((1.0, 1.0), 1),
    ]


def test_a_batched_call_that_hangs_on_one_prompt_still_gives_the_others(judging: Judging) -> None:
    judge = judging(
        """
        import time
        def score(prompts, responses):
            if ["hang"] in responses:
                time.sleep(1000)
            return [[1.0] for _ in responses]
        """,
        batched=True,
        timeout_s=0.5,
        retries=0,
    )
    assert brief(judge.judge([compare("a"), compare("hang"), compare("b")])) == [((1.0,), 2), (None, 2), ((1.0,), 2)]


# The end of the parent


@pytest.mark.parametrize(
    "hang", ["time.sleep(1000)", 're.match(r"(a+)+$", "a" * 60 + "b")'], ids=["waits", "holds the interpreter's lock"]
)
def test_the_child_ends_when_its_parent_is_killed(write: Write, tmp_path: Path, hang: str) -> None:
    write(
        f"""
        import os, re, time
        def score(prompt, responses):
            print(os.getpid(), flush=True)
            {hang}
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert parent.stderr is not None
    pid = int(parent.stderr.readline())
    assert not is_gone(pid)
    parent.kill()
    parent.wait()
    parent.stderr.close()
    wait_until(lambda: is_gone(pid))


PARENT = """
import sys
from pathlib import Path
from xpo_ray.judges import Comparison, Response, open_judge
from xpo_ray.spec import PythonJudge
judge = open_judge(PythonJudge(kind="python", function="my_rewards:score"), Path(sys.argv[1]))
judge.judge([Comparison((), (Response("a"),))])
"""


# Before a run starts


def test_a_check_imports_the_function_in_a_process_of_its_own(write: Write, tmp_path: Path) -> None:
    file = write(LENGTHS)
    assert check_python_judge(SPEC, tmp_path) == file
    assert "my_rewards" not in sys.modules


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def other(prompt, responses): ...", "my_rewards.py has no score"),
        ("raise OSError('no rubric file')", "importing .*my_rewards.py failed: OSError: no rubric file"),
        ("import os; os._exit(3)", "the process ended with exit code 3"),
    ],
)
def test_a_check_says_why_a_judge_cannot_be_imported(write: Write, tmp_path: Path, source: str, fault: str) -> None:
    write(source)
    with pytest.raises(JudgeError, match=rf"judge.function my_rewards:score: .*{fault}"):
        check_python_judge(SPEC, tmp_path)


def test_a_check_of_a_module_that_is_nowhere_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match=f"no module my_rewards in {tmp_path}"):
        check_python_judge(SPEC, tmp_path)


def test_the_digest_is_that_of_the_source_file_and_runs_none_of_it(write: Write, tmp_path: Path) -> None:
    file = write("raise RuntimeError('ran')")
    assert source_digest(SPEC, tmp_path) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_modules_that_only_the_parent_can_see_are_seen_by_the_child(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(LENGTHS, "elsewhere/my_rewards.py")
    monkeypatch.syspath_prepend(str(file.parent))
    assert check_python_judge(SPEC, tmp_path / "nothing-here") == file


# What is called next


def answer(number: int, *scores: float) -> Reply:
    return Reply(number, tuple(Answer((score,)) for score in scores))


def test_a_docket_keeps_as_many_calls_in_flight_as_it_is_wide() -> None:
    docket = Docket(deque([(0,), (1,), (2,)]), width=2)
    assert list(docket.to_send()) == [(1, (0,)), (2, (1,))]
    assert list(docket.to_send()) == []
    docket.answered(answer(2, 0.5))
    assert list(docket.to_send()) == [(3, (2,))]
    docket.answered(answer(3, 0.1))
    docket.answered(answer(1, 0.2))
    assert docket.done
    assert {index: one.scores for index, one in docket.answers.items()} == {0: (0.2,), 1: (0.5,), 2: (0.1,)}


def test_a_docket_calls_suspects_alone_before_it_goes_on() -> None:
    docket = Docket(deque([(0,), (1,), (2,)]), width=2)
    list(docket.to_send())
    docket.lost("died")
    assert not docket.answers
    assert list(docket.to_send()) == [(3, (0,))]
    docket.lost("died")
    assert docket.answers == {0: Answer(reason="the process died")}
    assert list(docket.to_send()) == [(4, (1,))]
    assert list(docket.to_send()) == []  # not the third, while a suspect is in flight
    docket.answered(answer(4, 1.0))
    assert list(docket.to_send()) == [(5, (2,))]
    assert not docket.done


def test_the_order_of_replies_does_not_matter_to_the_judgements(judging: Judging) -> None:
    judge = judging(
        """
        import asyncio, json
        async def score(prompt, responses):
            delay, value = json.loads(responses[0])
            await asyncio.sleep(delay)
            return [value]
        """
    )
    delays = [0.2, 0.0, 0.1]
    judgements = judge.judge([compare(json.dumps([delay, i])) for i, delay in enumerate(delays)])
    assert [judgement.scores for judgement in judgements] == [(0.0,), (1.0,), (2.0,)]
