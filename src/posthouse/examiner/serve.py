"""The child's life: confined, it answers one question after the other until its parent is gone."""

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress

from posthouse.core.examination import CannotEdit, Edit, Edited, Examination, ExaminationLimits, Place
from posthouse.core.mime.coded import OctetSource
from posthouse.examiner import answers, frames
from posthouse.examiner.confinement import confine
from posthouse.examiner.frames import Frame, FrameReader
from posthouse.examiner.given import Given
from posthouse.examiner.made import Made
from posthouse.examiner.questions import Question, question_of

Write = Callable[[bytes], int]
"""Takes octets that were made and tells where they begin (`Place.start` with `made`)."""
Take = Callable[[Iterable[bytes]], Place]
"""Likewise, piece by piece."""
Examine = Callable[[bytes, ExaminationLimits, Write], Examination]
"""Of a content in wire form, final dot included."""
EditContent = Callable[[bytes, Sequence[Edit], Sequence[OctetSource], ExaminationLimits, Take], Edited]
"""Of the same; the sources are the files that numbers in edits mean."""


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
            question = question_of(asked)
            document = _carried_out(question, Given(question, asked), made, examine, edit)
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
        finally:
            for descriptor in asked.descriptors:
                os.close(descriptor)
        _send(end, frame)


def _carried_out(
    question: Question,
    given: Given,
    made: Made,
    examine: Examine,
    edit: EditContent,
) -> dict[str, object]:
    if question.edits is None:
        return {"examined": answers.examination_document(examine(given.content(), question.limits, made.write))}
    edited = edit(given.content(), question.edits, given.files(), question.limits, made.take)
    return {"edited": [answers.place_document(_placed(piece, made)) for piece in edited.pieces]}


def _placed(piece: Place | bytes, made: Made) -> Place:
    if isinstance(piece, Place):
        return piece
    start = made.write(piece)
    return Place(True, start, start + len(piece))


def _without(**document: str) -> Frame:
    return Frame(frames.written(document))


def _send(end: socket.socket, frame: Frame) -> None:
    if left := frames.send_some(end, frame):
        end.sendall(left)
