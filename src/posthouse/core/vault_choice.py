"""Which attachments of a mail a rule has a vault keep: the setting `attachments` of its table `vault`.

Inline images and the text of a mail always stay where they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.examination import PartFacts
from posthouse.core.faults import Fault
from posthouse.core.fields import near, parse_size, shown, size_text
from posthouse.core.scan import Verdict

_LARGER = "larger-than"
_RULE = "The value must be all, blocked, sanitized, or larger-than with a size."
_REMEDY = "Write all, blocked, sanitized, or a size such as larger-than 10MiB."
_STOPPED = frozenset({Verdict.BLOCKED, Verdict.POLICY, Verdict.ENCRYPTED, Verdict.AMBIGUOUS})
"""What a rule does not simply let through."""


class Which(StrEnum):
    """The first word of the setting."""

    ALL = "all"
    """Every attachment, blocked ones too."""
    BLOCKED = "blocked"
    """Those whose verdict is blocked, policy, encrypted or ambiguous."""
    SANITIZED = "sanitized"
    """The originals of those that were sanitized."""
    LARGER = _LARGER
    """Those of more than so many octets, unless they are blocked: a link to them would go to the recipients."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """The setting."""

    which: Which
    octets: int = 0
    """Of LARGER."""

    @property
    def originals(self) -> bool:
        """What was sanitized is uploaded as it came; else as it would be delivered."""
        return self.which in (Which.BLOCKED, Which.SANITIZED)

    def __str__(self) -> str:
        return f"{self.which} {size_text(self.octets)}" if self.which is Which.LARGER else self.which.value


def parse_attachments(text: str, path: str) -> Attachments | Fault:
    """Of `all`, `blocked`, `sanitized` or `larger-than 10MiB`; the size is that of the decoded octets."""
    word, _, rest = text.strip().partition(" ")
    if word == Which.LARGER:
        octets = parse_size(rest.strip())
        return Attachments(Which.LARGER, octets) if octets is not None else Fault(path, shown(text), _RULE, _REMEDY)
    if not rest and word in list(Which):
        return Attachments(Which(word))
    meant = "" if rest else near(word, [each for each in Which if each is not Which.LARGER])
    return Fault(path, shown(text), _RULE, f"Did you mean {meant}?" if meant else _REMEDY)


def chosen(setting: Attachments, parts: Sequence[PartFacts], verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    """Paths of the attachments to upload, in the order of the mail; of parts inside each other the outermost.

    `verdicts`: by path of the part; one that is not there was found clean, or not scanned.
    """
    paths: list[str] = []
    taken: set[str] = set()
    for part in parts:
        if _inside(part.path, taken):
            continue
        verdict = verdicts.get(part.path, Verdict.CLEAN)
        if part.attachment and not part.inline and part.sha256 and _wanted(setting, part.size, verdict):
            taken.add(part.path)
            paths.append(part.path)
    return tuple(paths)


def _wanted(setting: Attachments, size: int, verdict: Verdict) -> bool:
    match setting.which:
        case Which.ALL:
            return True
        case Which.BLOCKED:
            return verdict in _STOPPED
        case Which.SANITIZED:
            return verdict is Verdict.SANITIZED
        case Which.LARGER:
            return size > setting.octets and verdict not in _STOPPED


def _inside(path: str, taken: set[str]) -> bool:
    """A part that holds it is taken already. At most as many steps as a part tree is deep."""
    while "." in path:
        path = path.rpartition(".")[0]
        if path in taken:
            return True
    return False
