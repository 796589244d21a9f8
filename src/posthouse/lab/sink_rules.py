"""How a sink misbehaves: rules that a person can type.

A rule is `STAGE=ACTION`, `STAGE:PATTERN=ACTION` or `STAGE:PATTERN:TIMES=ACTION`:

| Part | Meaning |
| --- | --- |
| STAGE | greeting, EHLO, HELO, MAIL, RCPT, DATA, content, dot, RSET or QUIT |
| PATTERN | shell pattern for the forward-path (RCPT: that one; DATA, content, dot: any accepted one), else `*` |
| TIMES | how often the rule holds, then never again; absent: always |
| ACTION | a reply such as `451 4.3.0 busy` (421 also closes), `drop` (reset), `close` (silently), `hang` (for ever) |

Without any rule a forward-path can ask by itself: `rcpt-550@...`, `data-451@...`, `dot-452@...`, `dot-drop@...`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

STAGES = ("greeting", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "content", "dot", "RSET", "QUIT")
SILENT = ("drop", "close", "hang")
_REPLY = re.compile(r"[2-5]\d\d( .*)?\Z")
_ASKED = re.compile(r"(rcpt|data|content|dot)-([2-5]\d\d|drop|close|hang)@")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `times` 0 means always."""

    stage: str
    action: str
    pattern: str = "*"
    times: int = 0


def parse_rule(text: str) -> Rule:
    """Raises ValueError with one sentence."""
    where, equals, action = text.partition("=")
    stage, _, rest = where.partition(":")
    pattern, _, times = rest.partition(":")
    names = {name.lower(): name for name in STAGES}
    if not equals or stage.lower() not in names:
        raise ValueError(f"{text!r}: a rule is STAGE=ACTION, and STAGE one of {', '.join(STAGES)}.")
    if action not in SILENT and not _REPLY.match(action):
        raise ValueError(f"{text!r}: the action is a reply such as '451 4.3.0 busy', drop, close or hang.")
    if times and not times.isdigit():
        raise ValueError(f"{text!r}: TIMES is a number.")
    return Rule(names[stage.lower()], action, pattern or "*", int(times or 0))


class RuleBook:
    """Looks up what to do; counts how often each rule held."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._used: Counter[int] = Counter()

    def action(self, stage: str, paths: Sequence[str] = ("",)) -> str | None:
        """The action for `stage`, given the forward-paths that it concerns; None: behave."""
        for number, rule in enumerate(self._rules):
            if rule.stage != stage or (rule.times and self._used[number] >= rule.times):
                continue
            if any(fnmatchcase(path, rule.pattern) for path in paths):
                self._used[number] += 1
                return rule.action
        for path in paths:
            if (asked := _ASKED.match(path)) and asked.group(1).lower() == stage.lower():
                action = asked.group(2)
                return action if action in SILENT else f"{action} {action[0]}.0.0 as the forward-path asks"
        return None
