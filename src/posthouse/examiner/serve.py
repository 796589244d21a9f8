"""The child's life: confined, it answers one question after the other until its parent is gone."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from posthouse.core.examination import CannotEdit, Edit, Edited, Examination, ExaminationLimits, Place
from posthouse.examiner import answers, frames
from posthouse.examiner.confinement import confine
from posthouse.examiner.frames import Frame, FrameReader
from posthouse.examiner.made import Made
from posthouse.examiner.questions import Portion, Question, question_of

Write = Callable[[bytes], int]
"""Takes octets that were made and tells where they begin (`Place.start` with `made`)."""
Examine = Callable[[bytes, ExaminationLimits, Write], Examination]
"""Of a content in wire form, final dot included."""
EditContent = Callable[[bytes, Sequence[Edit], Sequence[bytes], ExaminationLimits, Write], Edited]
"""Of the same; the bytes are the files that numbers in edits mean."""
_PIECE_OCTETS = 4 * 1024 * 1024


def serve(end: socket.socket, octets: int, examine: Examine, edit: EditContent) -> None:
    """Returns when the parent is gone. `octets`: see `confine`."""
    confine(octets)
    end.setblocking(True)
    _send(end, Frame(frames.written({"ready": True})))
    with suppress(ConnectionError):
        while (asked := _asked(end)) is not None:
            _answer(end, asked, examine, edit)


def _asked(end: socket.socket) -> Frame | None:
    reader = FrameReader()
    while True:
        octets, descriptors = frames.receive(end)
        if not octets:
            return None
        if (frame := reader.feed(octets, descriptors)) is not None:
            return frame


def _answer(end: socket.socket, asked: Frame, examine: Examine, edit: EditContent) -> None:
    with closing(Made()) as made:
        try:
            try:
                question = question_of(asked)
                content, files = _octets_of(question, asked)
            finally:
                for descriptor in asked.descriptors:
                    os.close(descriptor)
            document = _carried_out(question, content, files, made, examine, edit)
            portion, band, descriptors = made.portion()
            document["made"] = [portion.in_band, portion.size]
            frame = Frame(frames.written(document), band, descriptors)
        except CannotEdit as error:
            frame = _without(cannot=answers.clean(str(error), answers.SENTENCE_LENGTH))
        except MemoryError:
            frame = _without(failed="it needed more memory than it may have")
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            frame = _without(failed=answers.clean(why, answers.SENTENCE_LENGTH))
        _send(end, frame)


def _carried_out(
    question: Question,
    content: bytes,
    files: Sequence[bytes],
    made: Made,
    examine: Examine,
    edit: EditContent,
) -> dict[str, object]:
    if question.edits is None:
        return {"examined": answers.examination_document(examine(content, question.limits, made.write))}
    edited = edit(content, question.edits, files, question.limits, made.write)
    return {"edited": [answers.place_document(_placed(piece, made)) for piece in edited.pieces]}


def _placed(piece: Place | bytes, made: Made) -> Place:
    if isinstance(piece, Place):
        return piece
    start = made.write(piece)
    return Place(True, start, start + len(piece))


def _octets_of(question: Question, asked: Frame) -> tuple[bytes, list[bytes]]:
    """The content, and each file."""
    band = memoryview(asked.band)
    descriptors = iter(asked.descriptors)
    contents = []
    for portion in (question.content, question.files):
        if portion.in_band:
            contents.append(bytes(band[: portion.size]))
            band = band[portion.size :]
        else:
            contents.append(_read(next(descriptors), portion))
    files = []
    offset = 0
    for size in question.file_sizes:
        files.append(contents[1][offset : offset + size])
        offset += size
    return contents[0], files


def _read(descriptor: int, portion: Portion) -> bytes:
    """All of it but the cuts."""
    read = bytearray()
    position = 0
    for start, end in (*portion.cuts, (portion.size, portion.size)):
        while position < start:
            piece = os.pread(descriptor, min(_PIECE_OCTETS, start - position), position)
            if not piece:
                raise EOFError("the content is shorter than it was")
            read += piece
            position += len(piece)
        position = end
    return bytes(read)


def _without(**document: str) -> Frame:
    return Frame(frames.written(document))


def _send(end: socket.socket, frame: Frame) -> None:
    if left := frames.send_some(end, frame):
        end.sendall(left)
