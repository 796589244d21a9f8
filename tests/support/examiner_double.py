"""An examiner whose functions do what the Subject of a mail says: well, or as one that a mail has taken over.

Run as a process of its own, with the bound of memory as its argument.
"""

import array
import hashlib
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Sequence

from posthouse.core.examination import (
    AddField,
    AddNotice,
    AddPart,
    CannotEdit,
    Edit,
    Edited,
    Examination,
    ExaminationLimits,
    Item,
    ItemKind,
    PartFacts,
    Place,
    RemovePart,
    ReplacePart,
)
from posthouse.core.mime.coded import OctetSource
from posthouse.examiner import frames
from posthouse.examiner.serve import Take, Write, serve

_END = socket.socket(fileno=0)


def examine(octets: bytes, limits: ExaminationLimits, write: Write) -> Examination:
    subject = _subject(octets)
    _misbehave(subject, octets)
    content = octets.removesuffix(b".\r\n")
    items = [_item(ItemKind.MAIL, content, Place(False, 0, len(content)))]
    for number, line in enumerate(octets.partition(b"\r\n\r\n")[0].split(b"\r\n")):
        if line.startswith(b"Part: "):
            name, size = line[6:].split()
            made = b"m" * int(size)
            start = write(made)
            place = Place(True, start, start + len(made))
            items.append(_item(ItemKind.PART, made, place, str(number), name.decode()))
    return _examination(subject, items)


def edit(
    octets: bytes, edits: Sequence[Edit], files: Sequence[OctetSource], limits: ExaminationLimits, take: Take
) -> Edited:
    """Fields go to the top, files and octets to the end, notices behind them."""
    _misbehave(_subject(octets), octets)
    head: list[Place | bytes] = []
    end: list[Place | bytes] = []
    for one in edits:
        match one:
            case AddField(name, value):
                head.append(f"{name}: {value}\r\n".encode())
            case AddPart(bytes(added)):
                end.append(added)
            case AddPart(int(number)):
                end.append(take(map(bytes, files[number].pieces())))
            case AddNotice(_, text):
                end.append(text.encode())
            case RemovePart(path) | ReplacePart(path):
                raise CannotEdit(f"there is no part {path}")
    if _subject(octets) == "edits-endlessly":
        end += [Place(False, 0, len(octets))] * 100_000
    return Edited((*head, Place(False, 0, len(octets) - 3), *end))


def _subject(octets: bytes) -> str:
    return octets[:1000].partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()


def _item(kind: ItemKind, octets: bytes, place: Place, path: str = "", *names: str) -> Item:
    return Item(kind, path, path, names, ("text/plain",), place, hashlib.sha256(octets).hexdigest())


def _examination(subject: str, items: list[Item]) -> Examination:
    mail = items[0]
    match subject:
        case "beyond-mail":
            items[0] = Item(mail.kind, "", "", (), (), Place(False, 0, mail.place.end + 4), mail.sha256)
        case "beyond-made":
            items.append(Item(ItemKind.PART, "1", "1", (), (), Place(True, 0, 1), mail.sha256))
        case "backwards":
            items[0] = Item(mail.kind, "", "", (), (), Place(False, 5, 2), mail.sha256)
        case "part-of-mail":
            items[0] = Item(mail.kind, "", "", (), (), Place(False, 0, 5), mail.sha256)
        case "no-mail":
            items = []
        case "bad-hash":
            items[0] = Item(mail.kind, "", "", (), (), mail.place, "0" * 63)
        case "many-items":
            items += [mail] * 20_000
        case "odd-names":
            names = ("a\r\nb\x00\ud800", "n" * 1000)
            items[0] = Item(mail.kind, "", "", names, (), mail.place, mail.sha256)
    facts = PartFacts("1", "text/plain", ("text/plain",), (), mail.place.size, False)
    return Examination(tuple(items), (facts,), (), (("Subject", subject),))


def _misbehave(subject: str, octets: bytes) -> None:
    match subject:
        case "loop":
            while True:
                pass
        case "swallow":
            hoard = []
            while True:
                hoard.append(bytes(bytearray(16 * 1024 * 1024)))
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "recurse":
            _misbehave(subject, octets)
        case "raise":
            raise ValueError("two\nlines \ud800")
        case "garbage":
            _say(b"\xff" * 100)
        case "garbage-json":
            _say(b"\x80{]", framed=True)
        case "deep-json":
            _say(b"[" * 1_000_000, framed=True)
        case "wrong-answer":
            _say(b'{"edited":[],"made":[true,0]}', framed=True)
        case "no-kind":
            _say(b"[]", framed=True)
        case "huge-frame":
            _say(frames.HEAD.pack(1 << 31, 0, 0))
        case "two-answers":
            _say(frames.HEAD.pack(2, 0, 0) + b"[]" + frames.HEAD.pack(2, 0, 0) + b"[]")
        case "hang-up":
            _END.close()
            _wait()
        case "unsealed" | "no-memory-file" | "short-file" | "three-files" | "untold-file":
            _send_files(subject)
        case "grow":
            _KEPT.append(bytearray(160 * 1024 * 1024))
        case "limits":
            names = ("AS", "FSIZE", "NOFILE", "NPROC", "CORE")
            told = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in names}
            raise ValueError(f"{told} {os.getcwd()} {len(os.environ)} {list(filter(_is_open, range(100)))}")
        case "read":
            raise ValueError(_read(octets.partition(b"Path: ")[2].partition(b"\r\n")[0].decode()))
        case "connect":
            socket.create_connection(("127.0.0.1", int(octets.partition(b"Port: ")[2].partition(b"\r\n")[0])))
        case "end-parent":
            os.kill(os.getppid(), 0)  # only whether it may
        case "fill-memory-file":
            descriptor = os.memfd_create("full")
            while os.write(descriptor, bytes(1 << 24)):
                pass


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return f"read {len(file.read(1))}"


_KEPT: list[bytearray] = []


def _say(octets: bytes, *, framed: bool = False) -> None:
    """Instead of an answer; then nothing more."""
    _END.sendall(frames.HEAD.pack(len(octets), 0, 0) + octets if framed else octets)
    _wait()


def _wait() -> None:
    signal.pause()


def _send_files(subject: str) -> None:
    descriptor = os.memfd_create("made", os.MFD_ALLOW_SEALING)
    os.write(descriptor, b"octets")
    descriptors = [descriptor]
    match subject:
        case "no-memory-file":
            descriptors = [_END.fileno()]
        case "short-file":
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        case "three-files":
            descriptors *= 3
    size = 7 if subject == "short-file" else 6
    told = b'{"made":[false,%d]}' % size if subject != "untold-file" else b'{"cannot":"no"}'
    head = struct.pack(">III", len(told), 0, len(descriptors))
    _END.sendmsg([head, told], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
    _wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["fail"]:
        sys.exit(3)
    serve(_END, int(sys.argv[-1]), examine, edit)
