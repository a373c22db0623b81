from xpo_ray.judges import Comparison, Message, Response
from xpo_ray.judges.calls import (
    Answer,
    Call,
    Ready,
    Reply,
    Setup,
    call_of,
    ready_of,
    reply_of,
    setup_of,
    to_line,
)

TEXT = 'two\nlines, a "quote", a half \ud83d of a surrogate pair, \u2028 and a nul \x00'


def test_every_record_comes_back_from_its_line() -> None:
    comparison = Comparison((Message(role="user", content=TEXT),), (Response(TEXT), Response("", ended=False)))
    call = Call(7, (comparison, comparison))
    reply = Reply(7, (Answer((0.1, None, -3e300)), Answer(reason=TEXT)))
    setup = Setup("m:f", "/folder", True, 0.5, None)
    ready = Ready("/file.py", concurrent=True)
    assert call_of(to_line(call)) == call
    assert reply_of(to_line(reply)) == reply
    assert setup_of(to_line(setup)) == setup
    assert ready_of(to_line(ready)) == ready


def test_a_line_is_one_line_whatever_the_text_holds() -> None:
    line = to_line(Reply(1, (Answer(reason=TEXT),)))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
