"""scan_ports.Examiner: mail is read in processes of its own (`posthouse.examiner`), and only values come back.

What the examiner says is not believed further than it can be checked: places lie within what there is, a new content
is in wire form and of no absurd size.
"""

import sys
from collections.abc import Sequence

from posthouse.clients.content_pieces import content_octets
from posthouse.clients.examined import ExaminedContent, MadeOctets
from posthouse.clients.examiner_octets import content_sent, files_sent
from posthouse.clients.examiner_pool import MAILS, ExaminerPool
from posthouse.clients.made_room import MadeRoom
from posthouse.clients.rewriting import write_content
from posthouse.core.examination import CannotEdit, Edit, Examination, ExaminationLimits, Place
from posthouse.core.limits import Limits
from posthouse.core.mail import Content
from posthouse.examiner import answers
from posthouse.examiner.answers import Bounds
from posthouse.examiner.frames import DOCUMENT_OCTETS, Frame, OutOfForm
from posthouse.examiner.questions import Question, question_document
from posthouse.ports import ContentSink
from posthouse.scan_ports import ExaminationFailed, Examined, NewContent, Octets

COMMAND = (sys.executable, "-P", "-m", "posthouse.examiner")
_GROWTH = 4
"""An edited mail has at most so many times the octets of the mail and the files: a text that becomes quoted-printable
grows threefold."""
_GROWTH_OCTETS = 16 * 1024 * 1024
"""And so many more, of notices."""


class IsolatedExaminer:
    """Of one event loop; processes start at the first mail."""

    def __init__(self, limits: Limits, command: Sequence[str] = COMMAND, mails: int = MAILS) -> None:
        self.pool = ExaminerPool(limits, command, mails)
        self._room = MadeRoom(limits.examination_octets)
        self._wait_seconds: float = limits.examination_seconds

    async def examine(self, content: Content, limits: ExaminationLimits) -> Examined:
        size = content_octets(content)
        await self._room.wait(self._wait_seconds)

        def read(document: object, made: MadeOctets) -> tuple[Examination, MadeOctets]:
            match document:
                case {"examined": examined}:
                    return answers.read_examination(examined, Bounds(size, made.size, limits)), made
                case _:
                    raise OutOfForm("another question")

        with content_sent(content) as sent:
            question = Frame(question_document(Question(limits, sent.portion)), sent.band, sent.descriptors)
            examination, made = await self.pool.ask(question, size, read)
        self._room.hold(made)

        async def edit(edits: Sequence[Edit], files: Sequence[Octets], sink: ContentSink) -> NewContent:
            return await self._edit(content, limits, edits, files, sink)

        return ExaminedContent(content, examination, made, edit)

    async def close(self) -> None:
        await self.pool.close()

    async def _edit(
        self,
        content: Content,
        limits: ExaminationLimits,
        edits: Sequence[Edit],
        files: Sequence[Octets],
        sink: ContentSink,
    ) -> NewContent:
        size = content_octets(content)
        sizes = tuple(file.size for file in files)
        most = _GROWTH * (size + sum(sizes)) + _GROWTH_OCTETS

        def read(document: object, made: MadeOctets) -> tuple[tuple[Place, ...], MadeOctets] | str:
            match document:
                case {"cannot": why}:
                    return answers.text(why, answers.SENTENCE_LENGTH)
                case {"edited": edited}:
                    places = answers.read_pieces(edited, Bounds(size, made.size, limits))
                    if sum(place.size for place in places) > most:
                        raise OutOfForm("a content that is far too large")
                    return places, made
                case _:
                    raise OutOfForm("another question")

        with await files_sent(files) as beside, content_sent(content) as sent:
            document = question_document(Question(limits, sent.portion, tuple(edits), beside.portion, sizes))
            if len(document) > DOCUMENT_OCTETS:
                raise CannotEdit("there is too much to be put into the mail")
            question = Frame(document, sent.band + beside.band, sent.descriptors + beside.descriptors)
            result = await self.pool.ask(question, size + sum(sizes), read)
        if isinstance(result, str):
            raise CannotEdit(result)
        places, made = result
        try:
            return await write_content(content, made, places, sink, limits.header_octets)
        except OutOfForm as error:
            raise ExaminationFailed(f"the examiner answered {error}") from error
        finally:
            made.close()
