"""Failures on demand: what a recipient's name makes the sandbox do. One table; servers and pages read it.

The word is an e-mail's local part (`bounce@any.domain`, `bounce+anything@`) or the name of a hook (`/hook/bounce`,
`/hook/bounce-anything`). Any other name is accepted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus

from sandbox.record import Verdict


class How(Enum):
    """The ways to treat an attempt; each server knows how to do each."""

    ANSWER = auto()
    """Say `smtp` or `http` and be done."""
    FIRST_TIME = auto()
    """Say it the first time that this delivery comes to this recipient; accept afterwards."""
    EVERY_THIRD = auto()
    """Say it to the third, sixth, ninth ... attempt of this channel since the start; accept the others."""
    SLOW = auto()
    HANG = auto()
    DROP = auto()
    RESET = auto()
    DROP_RESET = auto()
    """Take all of it, then cut the connection by a TCP RST."""


class Stage(Enum):
    """Where SMTP says it."""

    RCPT = auto()
    """At once: the message is never read, so its delivery id stays unknown."""
    DATA = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One row of the table."""

    word: str
    how: How = How.ANSWER
    smtp: str = "250 2.0.0 Ok: taken"
    """The SMTP reply line."""
    stage: Stage = Stage.DATA
    http: int = 200
    http_headers: Mapping[str, str] = field(default_factory=dict)
    html: bool = False
    """Answer with an HTML page instead of JSON."""
    verdict: Verdict = Verdict.REFUSED
    taken: bool = False
    en: str = ""
    """What it stands for, in one line, for the table on the page."""
    zh: str = ""


def _table(*rows: Behaviour) -> dict[str, Behaviour]:
    return {row.word: row for row in rows}


BEHAVIOURS: dict[str, Behaviour] = _table(
    Behaviour(
        word="bounce",
        smtp="550 5.1.1 No such user here",
        stage=Stage.RCPT,
        http=410,
        en="The address is dead.",
        zh="地址不存在。",
    ),
    Behaviour(
        word="greylist",
        how=How.FIRST_TIME,
        smtp="450 4.7.1 Greylisted, try again",
        http=429,
        http_headers={"Retry-After": "1"},
        verdict=Verdict.GREYLISTED,
        en="Refused the first time, accepted when tried again.",
        zh="第一次拒绝，重试时接受。",
    ),
    Behaviour(word="full", smtp="552 5.2.2 Mailbox full", http=507, en="The mailbox is full.", zh="邮箱已满。"),
    Behaviour(
        word="slow",
        how=How.SLOW,
        verdict=Verdict.ACCEPTED,
        taken=True,
        en="Accepted, but only after 3 seconds.",
        zh="3 秒后才接受。",
    ),
    Behaviour(
        word="hang",
        how=How.HANG,
        verdict=Verdict.HUNG,
        en="Never answers (closed after 120 s); nothing is taken.",
        zh="一直不回答（120 秒后断开），消息未收下。",
    ),
    Behaviour(
        word="drop",
        how=How.DROP,
        verdict=Verdict.DROPPED,
        taken=True,
        en="Takes the message, then closes without an answer: the unknown outcome.",
        zh="收下消息后不回答就断开：结果未知。",
    ),
    Behaviour(
        word="reset",
        how=How.RESET,
        stage=Stage.RCPT,
        verdict=Verdict.RESET,
        en="TCP reset before anything is taken.",
        zh="收下之前连接被重置（TCP RST）。",
    ),
    Behaviour(
        word="dropreset",
        how=How.DROP_RESET,
        verdict=Verdict.DROPPED,
        taken=True,
        en="Takes the message, then TCP reset without an answer: the unknown outcome.",
        zh="收下消息后不回答，连接被重置（TCP RST）：结果未知。",
    ),
    Behaviour(
        word="busy",
        smtp="421 4.3.2 Busy, closing the connection",
        stage=Stage.RCPT,
        http=503,
        http_headers={"Retry-After": "2"},
        en="Too busy now, come back later.",
        zh="服务繁忙，稍后再试。",
    ),
    Behaviour(
        word="auth",
        smtp="535 5.7.8 Authentication credentials invalid",
        stage=Stage.RCPT,
        http=401,
        en="Our credentials are refused.",
        zh="凭据被拒绝。",
    ),
    Behaviour(
        word="spam", smtp="554 5.7.1 Message refused as spam", http=403, en="Refused by policy.", zh="被判为垃圾信息。"
    ),
    Behaviour(
        word="garbage",
        smtp="<html>It works!</html>",
        html=True,
        verdict=Verdict.GARBLED,
        taken=True,
        en="Takes the message and answers with something unreadable.",
        zh="收下消息，但回答无法解析。",
    ),
    Behaviour(
        word="redirect",
        smtp="551 5.1.6 User not local, try <ok@sandbox.invalid>",
        stage=Stage.RCPT,
        http=302,
        http_headers={"Location": "/hook/ok"},
        verdict=Verdict.REDIRECTED,
        en="Points elsewhere; a redirect must not be followed.",
        zh="指向别处；不应跟随重定向。",
    ),
    Behaviour(
        word="flaky",
        how=How.EVERY_THIRD,
        smtp="451 4.3.0 Out of luck, try again",
        http=503,
        en="Every third attempt fails for the moment.",
        zh="每第三次尝试暂时失败。",
    ),
    Behaviour(
        word="receipt",
        verdict=Verdict.ACCEPTED,
        taken=True,
        en="receipt-delivered-500: taken, and reported delivered 500 ms later; also read, failed, dead, refused, early, "
        "twice, disorder, forged.",
        zh="receipt-delivered-500：收下，500 毫秒后回执已送达；另有 read、failed、dead、refused、early、twice、"
        "disorder、forged。",
    ),
    Behaviour(
        word="http500",
        smtp="451 4.3.0 Internal error",
        http=500,
        en="Any http200 … http599: the hook answers with that status.",
        zh="http200 到 http599 任意一个：钩子以该状态回答。",
    ),
)

_STATUS_WORD = re.compile(r"http([2-5][0-9][0-9])", re.ASCII)
_TRANSIENT_STATUSES = frozenset({408, 425, 429})


def named(word: str) -> Behaviour | None:
    """The behaviour that a bare word asks for; None: accept."""
    word = word.lower()
    status = _STATUS_WORD.fullmatch(word)
    return _answer_with(int(status[1])) if status else BEHAVIOURS.get(word)


def of_mailbox(address: str) -> Behaviour | None:
    """The behaviour that an e-mail address asks for: `bounce@`, `bounce+x@`."""
    return named(address.rpartition("@")[0].partition("+")[0])


def of_hook(name: str) -> Behaviour | None:
    """The behaviour that a hook's name asks for: `bounce`, `bounce-x`."""
    return named(name.partition("-")[0])


def _answer_with(status: int) -> Behaviour:
    """`httpNNN`: the hook says that status; SMTP says what its class comes to."""
    row = replace(BEHAVIOURS["http500"], word=f"http{status}", http=status)
    if status < 300:
        return replace(row, smtp="250 2.0.0 Ok: taken", verdict=Verdict.ACCEPTED, taken=True)
    if status < 400:
        return replace(row, smtp="551 5.1.6 User not local", verdict=Verdict.REDIRECTED)
    if status < 500 and status not in _TRANSIENT_STATUSES:
        return replace(row, smtp=f"554 5.3.0 Refused like HTTP {status}")
    return row


def phrase(status: int) -> str:
    """The reason phrase of a status, also for those that nobody has named."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


class Memory:
    """What behaviours remember between attempts of one channel."""

    KEPT_FIRST_TIMES = 100_000

    def __init__(self) -> None:
        self._first_times: dict[tuple[str, str], None] = {}
        self._turns: Counter[str] = Counter()

    def applies(self, behaviour: Behaviour, *, message_id: str, recipient: str) -> bool:
        """Whether this attempt gets the behaviour or is accepted; counts the attempt."""
        if behaviour.how is How.EVERY_THIRD:
            self._turns[behaviour.word] += 1
            return self._turns[behaviour.word] % 3 == 0
        if behaviour.how is How.FIRST_TIME:
            key = (message_id, recipient.lower())
            if key in self._first_times:
                return False
            self._first_times[key] = None
            if len(self._first_times) > self.KEPT_FIRST_TIMES:
                del self._first_times[next(iter(self._first_times))]
        return True
