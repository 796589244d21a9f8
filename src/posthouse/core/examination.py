"""What is in a mail: the values that the isolated examiner gives to the flow.

The examiner reads the hostile octets (`core.mime`, `core.container`), the flow only these values. A mail is shown to
the scanner as a whole and part by part, under every plausible reading; so each item says where its octets are.
Source: design section 3; reliability of hostile content in `docs/scanning.md`.
"""

from dataclasses import dataclass
from enum import StrEnum

NAME_LENGTH = 255
"""Characters of a name that are kept; names are cut, not refused."""


@dataclass(frozen=True, slots=True)
class ExaminationLimits:
    """Bounds of one examination. What is beyond one makes the mail ambiguous: it was not shown whole."""

    parts: int = 1000
    """Of all multiparts and encapsulated messages together."""
    part_depth: int = 50
    header_octets: int = 1024 * 1024
    """Of one part."""
    readings: int = 5000
    """Items that are shown, the mail, its parts and their readings and all members of containers together."""
    made_octets: int = 512 * 1024 * 1024
    """Decoded and unpacked, all together."""
    container_depth: int = 8
    container_entries: int = 2000
    """Of all containers together."""
    container_ratio: int = 200
    """Octets unpacked by octets packed, for a container that unpacks to more than 1 MiB."""


class ItemKind(StrEnum):
    """What an item is."""

    MAIL = "mail"
    """The whole mail, without dot-stuffing."""
    PART = "part"
    """A part as most readers see it."""
    READING = "reading"
    """A part as some readers may see it."""
    MEMBER = "member"
    """A member of an archive or compressed file."""
    TEXT = "text"
    """A text re-coded to UTF-8."""


@dataclass(frozen=True, slots=True)
class Place:
    """Octets in the mail (wire form, as stored) or in what the examiner made; half-open."""

    made: bool
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that the scanner is shown."""

    kind: ItemKind
    path: str
    """Empty for the mail; `1.2` for a part; `1.2/a.zip/b.exe` is not a path of a file but for people."""
    part: str
    """Path of the part (`PartFacts.path`) that has these octets, empty if the mail as a whole has them: what is to be
    removed or replaced when this item is bad."""
    names: tuple[str, ...]
    """Every reading of its name; the first is the one that people are shown. Without control characters."""
    types: tuple[str, ...]
    """`application/zip`: as declared (every reading), then by content."""
    place: Place
    sha256: str
    """Of the octets, hexadecimal."""


@dataclass(frozen=True, slots=True)
class PartFacts:
    """A leaf or a container of the part tree as most readers see it."""

    path: str
    """`1.2`; of a mail that is no multipart, `1`."""
    type: str
    """As declared, lower case."""
    types: tuple[str, ...]
    """By content."""
    names: tuple[str, ...]
    size: int
    """Decoded; 0 for a multipart."""
    attachment: bool
    """People would see it as an attachment: neither body text nor an inline image that the HTML names."""
    inline: bool = False
    """Its Content-ID or Content-Location is named by an HTML part."""
    encrypted: str = ""
    """What kind of encryption it, or a member of it, has, as far as this can be seen: `zip`, `pdf`, `office`, `7z`,
    `rar`, `pgp`, `s/mime`."""
    sha256: str = ""
    """Of the decoded octets; empty for a multipart."""


@dataclass(frozen=True, slots=True)
class Examination:
    """All that the flow needs to know of a mail's content."""

    items: tuple[Item, ...]
    """The first is the mail. No two have the same octets, unless their parts differ or their names are too many for
    one."""
    parts: tuple[PartFacts, ...]
    """In the order of the mail."""
    ambiguous: tuple[str, ...] = ()
    """Why the mail is ambiguous, each in one sentence; empty if it is not."""
    header: tuple[tuple[str, str], ...] = ()
    """The header fields that notices and disclaimers name, decoded: From, To, Subject, Date, Message-ID."""


# --- Edits: what the flow asks to be changed in a mail; `core.mime.surgery` carries them out ---------------
# Paths are those of the examination, whatever other edits do. Removals and replacements come first, then added parts,
# notices and fields, each kind in its order: so no notice goes with a part that is removed.


@dataclass(frozen=True, slots=True)
class RemovePart:
    """The part goes. A multipart keeps its other parts; the last one is replaced by an empty text."""

    path: str


@dataclass(frozen=True, slots=True)
class ReplacePart:
    """Other octets in the place of a part."""

    path: str
    octets: int | bytes
    """The octets, or the number of the file given beside the edits."""
    type: str
    """`text/plain; charset=utf-8`, or empty: as it was."""
    name: str
    """Empty: as it was."""


@dataclass(frozen=True, slots=True)
class AddPart:
    """One more attachment at the end, in a multipart/mixed around what there is if need be."""

    octets: int | bytes
    type: str
    name: str


@dataclass(frozen=True, slots=True)
class AddField:
    """A header field at the top, encoded where needed, folded."""

    name: str
    value: str


class Position(StrEnum):
    """Where a notice stands in the text of a mail."""

    HEAD = "head"
    END = "end"


@dataclass(frozen=True, slots=True)
class AddNotice:
    """Text at head or end of the body, in the text and in the HTML alternative alike; where there is neither, a part
    of its own. The part keeps its charset if that has all characters, else it becomes UTF-8."""

    position: Position
    text: str
    """Lines end in LF."""
    html: str
    """A fragment, safe as it is."""


Edit = RemovePart | ReplacePart | AddPart | AddField | AddNotice


@dataclass(frozen=True, slots=True)
class Edited:
    """The new content, piece by piece: a place, or octets; wire form, without the final dot."""

    pieces: tuple[Place | bytes, ...]


class CannotEdit(Exception):
    """The mail cannot be changed so without a risk to what stays; the text is one sentence."""
