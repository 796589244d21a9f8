"""Types of octets by what they begin with and hold, whatever a mail declares.

First our own signatures, which are sure; only where none fits, those of puremagic, whose data is broad but uneven: of
it we take signatures at the very beginning that are long enough and name one type only. Source: Kessler's file
signatures table by way of puremagic 1.30; the formats' own documents for ours.
"""

import re

import puremagic

from posthouse.core.media_type import is_type

_HEAD = 4096
_END = 66_000
"""Octets at the end in which the directory of a zip ends, its comment included."""
_AT_START: tuple[tuple[bytes, str], ...] = (
    (b"MZ", "application/x-dosexec"),
    (b"\x7fELF", "application/x-executable"),
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),
    (b"\x00asm", "application/wasm"),
    (b"dex\n", "application/x-dex"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\x1f\x9d", "application/x-compress"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"MSCF", "application/vnd.ms-cab-compressed"),
    (b"ISc(", "application/vnd.ms-cab-compressed"),
    (b"\x60\xea", "application/x-arj"),
    (b"{\\rt", "application/rtf"),
    (b"#!", "text/x-script"),
    (b"L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00F", "application/x-ms-shortcut"),
    (b"ITSF\x03\x00\x00\x00", "application/vnd.ms-htmlhelp"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "application/onenote"),
    (b"vhdxfile", "application/x-vhdx-disk"),
    (b"conectix", "application/x-vhd-disk"),
    (b"!BDN", "application/vnd.ms-outlook-pst"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"wOF2", "font/woff2"),
    (b"wOFF", "font/woff"),
)
_ELSEWHERE: tuple[tuple[int, bytes, str], ...] = (
    (7, b"**ACE**", "application/x-ace"),
    (2, b"-lh", "application/x-lzh"),
    (257, b"ustar", "application/x-tar"),
    (32769, b"CD001", "application/x-iso9660-image"),
    (32769, b"BEA01", "application/x-iso9660-image"),
    (32769, b"NSR0", "application/x-iso9660-image"),
    (4, b"ftyp", "video/mp4"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = (
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("__properties_version1.0", "application/vnd.ms-outlook"),
    ("EncryptedPackage", "application/encrypted"),
)
_MSI_CLASS = bytes.fromhex("84100c0000000000c000000000000046")
_MIMETYPE_MEMBER = re.compile(rb"mimetype(application/[\x21-\x7e]{1,80})PK")
_OFFICE_MEMBERS = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_MACRO_TYPES = {
    b"word/": "application/vnd.ms-word.document.macroenabled.12",
    b"xl/": "application/vnd.ms-excel.sheet.macroenabled.12",
    b"ppt/": "application/vnd.ms-powerpoint.presentation.macroenabled.12",
}
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--[^>]{0,500}-->\s*)?"
    rb"<(?:!doctype\s+html|html|head|body|script|iframe|table|meta|title|div|p|h1|(svg))[\s>/]",
    re.IGNORECASE,
)
_FIELD = re.compile(
    rb"(?:Received|From|To|Subject|Date|Message-ID|MIME-Version|Return-Path|Content-Type):[ \t]", re.IGNORECASE
)
_HEADER_LINE = re.compile(rb"[\x21-\x39\x3b-\x7e]{1,76}:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n")
_MAGIC_LEAST, _MAGIC_LEAST_TEXT = 4, 8
"""Octets of a signature of puremagic: of one that is all text, which ordinary texts begin with, more."""

_VAGUE = frozenset({"application/octet-stream", "text/plain", "text/html", "message/rfc822"})
"""Types that puremagic gives for much, or that we tell ourselves."""


def types_of(octets: bytes | memoryview) -> tuple[str, ...]:
    """Every type that the octets surely have, the one by the beginning first; empty if none is known."""
    head = bytes(octets[:_HEAD])
    if not head:
        return ()
    found: dict[str, None] = {}
    for signature, name in _BY_FIRST.get(head[0], ()):
        if head.startswith(signature):
            found[name] = None
    if head.startswith(b"BZh") and head[3:4].isdigit():
        found["application/x-bzip2"] = None
    for at, signature, name in _ELSEWHERE:
        if octets[at : at + len(signature)] == signature:
            found[name] = None
    if head.startswith(b"RIFF") and (riff := _RIFF.get(head[8:12])):
        found[riff] = None
    if head.startswith(_OLE):
        found.update(dict.fromkeys(_ole_types(bytes(octets))))
    if b"%PDF" in head[:1024]:
        found["application/pdf"] = None
    if _ends_like_zip(head, octets):
        found.update(dict.fromkeys(_zip_types(head, octets)))
    if octets[-512:-508] == b"koly":
        found["application/x-apple-diskimage"] = None
    if not found:
        found.update(dict.fromkeys(_text_types(head) or _magic_types(head)))
    return tuple(found)


def _by_first() -> dict[int, tuple[tuple[bytes, str], ...]]:
    rows: dict[int, tuple[tuple[bytes, str], ...]] = {}
    for row in _AT_START:
        rows[row[0][0]] = (*rows.get(row[0][0], ()), row)
    return rows


_BY_FIRST = _by_first()


def _ole_types(octets: bytes) -> list[str]:
    if _MSI_CLASS in octets:
        return ["application/x-msi"]
    streams = [name for stream, name in _OLE_STREAMS if stream.encode("utf-16-le") in octets]
    return streams or ["application/x-ole-storage"]


def _ends_like_zip(head: bytes, octets: bytes | memoryview) -> bool:
    """By its beginning, or by the directory at its end: what stands in front of a zip is as its maker likes."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK00PK")) or b"PK\x05\x06" in bytes(octets[-_END:])


def _zip_types(head: bytes, octets: bytes | memoryview) -> list[str]:
    """A document that is a zip has the type of the document only: a filter for archives does not mean it."""
    if not head.startswith(b"PK"):
        return ["application/zip"]
    if member := _MIMETYPE_MEMBER.search(head[:256]):
        return [member[1].decode("ascii").lower()]
    names = head + bytes(octets[-_END:])
    if b"[Content_Types].xml" in names:
        for folder, name in _OFFICE_MEMBERS:
            if folder in names:
                return [_MACRO_TYPES[folder]] if b"vbaProject.bin" in names else [name]
    if b"META-INF/MANIFEST.MF" in names:
        return ["application/java-archive", "application/zip"]
    return ["application/zip"]


def _text_types(head: bytes) -> list[str]:
    text = head[:2048]
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = text[2:].replace(b"\x00", b"")
    if tag := _HTML.match(text):
        return ["image/svg+xml" if tag[1] else "text/html"]
    if _FIELD.match(text) or text.startswith((b"X-", b"x-")):
        at = fields = 0
        while fields < 2 and (line := _HEADER_LINE.match(text, at)):
            fields += _FIELD.match(text, at) is not None
            at = line.end()
        if fields >= 2:
            return ["message/rfc822"]
    return []


def _magic_index() -> dict[bytes, list[tuple[bytes, str]]]:
    """Signatures of puremagic by their first four octets, the longest first."""
    types: dict[bytes, set[str]] = {}
    for row in puremagic.magic_header_array:
        least = _MAGIC_LEAST_TEXT if row.byte_match.isascii() and b"\x00" not in row.byte_match else _MAGIC_LEAST
        if row.offset == 0 and len(row.byte_match) >= least and is_type(row.mime_type):
            types.setdefault(row.byte_match, set()).add(row.mime_type.lower())
    index: dict[bytes, list[tuple[bytes, str]]] = {}
    for signature, names in sorted(types.items(), key=lambda item: -len(item[0])):
        if len(names) == 1 and not names & _VAGUE:
            index.setdefault(signature[:4], []).append((signature, names.pop()))
    return index


_MAGIC = _magic_index()


def _magic_types(head: bytes) -> list[str]:
    return next(([name] for signature, name in _MAGIC.get(head[:4], ()) if head.startswith(signature)), [])
