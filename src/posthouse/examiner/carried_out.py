"""What an examiner does with a mail: `core` does it all."""

from collections.abc import Sequence

from posthouse.core.examination import Edit, Edited, ExaminationLimits
from posthouse.core.examination_of import examine as examine
from posthouse.core.mime.coded import Made, OctetSource
from posthouse.core.mime.surgery import edit
from posthouse.core.mime.tree import tree
from posthouse.core.mime.wire import unstuffed


def carry_out_edits(
    wire: bytes, edits: Sequence[Edit], files: Sequence[OctetSource], limits: ExaminationLimits, made: Made
) -> Edited:
    """Raises CannotEdit."""
    plain = unstuffed(wire)
    return edit(plain, tree(plain.octets, limits), edits, files, made)
