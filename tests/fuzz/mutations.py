"""Changes that leave a mail a mail: fields, boundaries, encodings, names and line ends, where readers differ.

A mutation takes the octets and a source of chance, and gives octets; one that finds nothing to change gives them back.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[bytes, Random], bytes]

_FIELD = re.compile(rb"(?im)^[ \t]*(content-[a-z-]{1,30}|mime-version)[ \t]*:[^\n]*\n?(?:[ \t][^\n]*\n?)*")
_ANY_FIELD = re.compile(rb"(?m)^[!-9;-~]{1,40}[ \t]*:[^\n]*\n?(?:[ \t][^\n]*\n?)*")
_DELIMITER = re.compile(rb"(?m)^[ \t]*--[^\n]*\n?")
_BOUNDARY = re.compile(rb"(?i)boundary[ \t]*=[ \t]*(\"[^\"\n]*\"|[^\s;]*)")
_PARAMETER = re.compile(rb"(?i)(?:file)?name(\*[0-9*]{0,4})?[ \t]*=[ \t]*(\"[^\"\n]*\"|[^\s;]*)")
_ENCODING = re.compile(rb"(?im)^content-transfer-encoding[ \t]*:[ \t]*([^\r\n]*)")
_BODY = re.compile(rb"\r?\n\r?\n((?:(?!--)[^\n]+\n){1,80})")
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")

_ENCODINGS = (
    *(b"base64", b"BASE64", b"base64 ", b'"base64"', b"base64; x=y", b"(c) base64", b"base64 (c)", b"x-base64"),
    *(
        b"base64,",
        b"bas\r\n e64",
        b"quoted-printable",
        b"Quoted-Printable",
        b"quoted-printable;",
        b"quoted_printable",
    ),
    *(
        b"7bit",
        b"8bit",
        b"binary",
        b"7-bit",
        b"",
        b"none",
        b"x-uuencode",
        b"uuencode",
        b"uue",
        b"x-uue",
        b"x-yencode",
    ),
    *(b"base64 quoted-printable", b"base 64", b"\x00base64", b"base64\x00", b"=?utf-8?q?base64?=", b"mac-binhex40"),
)
_TYPES = (
    *(b"text/plain", b"text/html; charset=utf-16", b"TEXT/HTML", b"text", b"text/", b"/", b"", b"message/rfc822"),
    *(
        b"message/partial; id=a; number=1; total=2",
        b"message/external-body",
        b"message/delivery-status",
        b"message/news",
    ),
    *(
        b"application/octet-stream; name=a.exe",
        b"application/zip",
        b"multipart/mixed",
        b"multipart/digest; boundary=b",
    ),
    *(b"multipart/mixed; boundary=b", b'multipart/related; boundary="b"', b'multipart/mixed; boundary=""'),
    *(b"multipart/mixed; boundary=b; boundary=c", b"multipart/x-y; boundary*0=b", b"text/plain; boundary=b"),
    *(b"application/ms-tnef", b"text/rfc822-headers", b"message/global", b"text/plain; charset=utf-7", b"image/png"),
    *(
        b'text/plain; charset="utf-8',
        b"multipart/alternative;boundary=(c)b",
        b"multipart/mixed boundary=b",
        b"a/b c/d",
    ),
    *(b"message/rfc822; x=y", b"multipart/signed; boundary=b", b"text/x-uuencode", b"application/mac-binhex40"),
)
_DISPOSITIONS = (
    *(
        b"attachment",
        b"inline",
        b"attachment; filename=a.exe",
        b'attachment; filename="a.exe',
        b"",
        b"x; filename=a.js",
    ),
    *(b"attachment; filename*=utf-8''a%2Eexe", b"attachment; filename*0=a.e; filename*1=xe", b"filename=a.exe"),
    *(
        b"attachment; filename*1=xe; filename*0=a.e",
        b'attachment; filename="=?utf-8?b?YS5leGU=?="',
        b"attachment; name=a",
    ),
    *(b"attachment; filename=a.txt; filename=a.exe", b"attachment; filename=\"a.exe\"; filename*=utf-8''a.txt"),
    *(
        b"attachment; filename = a.exe",
        b"attachment filename=a.exe",
        b"attachment; filename=(c)a.exe",
        b'"attachment"',
    ),
    *(
        b"attachment; filename=a b.exe",
        b"attachment; filename='a.exe'",
        b'attachment; filename="a.exe\\"',
        b"a;;filename=b",
    ),
    *(
        b"attachment; filename*0*=utf-8''a%2; filename*1*=Eexe",
        b"attachment; FILENAME=a.exe",
        b"attachment;\tfilename=a",
    ),
    *(
        b"attachment; filename*=a.exe",
        b"attachment; filename*00=a; filename*01=.exe",
        b"attachment; filename=\xe4.exe",
    ),
)
_FIELDS = (
    (b"Content-Transfer-Encoding", _ENCODINGS),
    (b"Content-Type", _TYPES),
    (b"Content-Disposition", _DISPOSITIONS),
)
_NAMES = (
    *(b"%b :", b" %b:", b"%b\t:", b"%b", b"\t%b:", b"%b\x00:", b"x-%b:", b"%b::", b"%b: :", b"\x0b%b:", b"%b\r\n :"),
    *(b'"%b":', b"%b:\r\n", b"%b:\r\n\t", b"%b\xff:", b"(c)%b:"),
)
_FILE_NAMES = (
    *(b"a.exe", b'"a.exe"', b'"a.exe', b'a.exe"', b'"a\\.exe"', b"'a.exe'", b"a.exe ", b'"a.exe "', b'"a.txt.exe."'),
    *(b"=?utf-8?q?a=2Eexe?=", b'"=?utf-8?b?YS5leGU=?="', b'"=?utf-8?q?a=2E?= =?utf-8?q?exe?="', b"utf-8''a%2Eexe"),
    *(
        b"a%2Eexe",
        b'"a;b.exe"',
        b"a;b.exe",
        b'"a" b.exe',
        b"(c)a.exe",
        b"a.exe(c)",
        b'"C:\\\\a.exe"',
        b'"../a.exe"',
        b'""',
    ),
    *(
        b'"\xc3\xa4.exe"',
        b'"\xe4.exe"',
        b'"a\x00.exe"',
        b'"a\r\n .exe"',
        b'"\xe2\x80\xaeexe.a"',
        b'"a.\xef\xbd\x85xe"',
    ),
)
_STARS = (b"", b"*", b"*0", b"*0*", b"*1", b"*1*", b"*2", b"*00", b"*9", b"**", b" ")
_BREAKS = (
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\r\n\r\n",
    b"\x0b",
    b"\x0c",
    b"\x00",
    b"\x85",
    b"\x1c",
    b" \r\n",
    b"\t\r\n",
)
_TOKENS = (
    *(b"\r\n\r\n", b"\r\n", b"\n", b"\r", b"\t", b" ", b"\x00", b";", b":", b'"', b"=", b"--", b"(", b")", b"\\", b"\xff"),
    *(b"--b\r\n", b"--b--\r\n", b"\r\n--b\r\n\r\n", b"begin 644 a.exe\r\n#4$L#\r\nend\r\n", b"=?utf-8?b?YQ==?=", b"\r\n \r\n"),
    *(b"(This file must be converted with BinHex 4.0)\r\n:", b"=ybegin line=128 size=3 name=a.exe\r\nwww\r\n=yend\r\n"),
    *(b"MIME-Version: 1.0\r\n", b"From a@b\r\n", b">From a\r\n", b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"begin-base64 644 a.exe\r\nTVo=\r\n====\r\n", b"Content-Type: text/html\r\n\r\n", b"=\r\n", b"=3D", b"=4", b"boundary=b"),
)  # fmt: skip


def field_repeated(octets: bytes, chance: Random) -> bytes:
    """The same field once more, with another value perhaps, before or behind it."""
    found = _one(_FIELD, octets, chance)
    if not found:
        return octets
    text = found.group()
    again = _valued(found.group(1), chance) if chance.random() < 0.7 else text
    at = found.start() if chance.random() < 0.5 else found.end()
    return octets[:at] + again + octets[at:]


def field_dropped(octets: bytes, chance: Random) -> bytes:
    return _replaced(octets, _one(_FIELD, octets, chance), b"")


def field_valued(octets: bytes, chance: Random) -> bytes:
    found = _one(_FIELD, octets, chance)
    return _replaced(octets, found, _valued(found.group(1), chance)) if found else octets


def field_added(octets: bytes, chance: Random) -> bytes:
    """To any header: before a field that is there, or after a line that looks like a delimiter."""
    found = _one(_ANY_FIELD if chance.random() < 0.6 else _DELIMITER, octets, chance)
    if not found:
        return octets
    at = found.start() if found.re is _ANY_FIELD else found.end()
    name, _ = chance.choice(_FIELDS)
    return octets[:at] + _valued(name, chance) + octets[at:]


def field_name_mangled(octets: bytes, chance: Random) -> bytes:
    found = _one(_FIELD, octets, chance)
    if not found:
        return octets
    name = found.group(1)
    rest = found.group().partition(b":")[2]
    new = chance.choice(_NAMES) % (
        chance.choice((name, name.upper(), name.replace(b"-", b"_"), name[:-1], name + b"s"))
    )
    return _replaced(octets, found, new + rest)


def field_folded(octets: bytes, chance: Random) -> bytes:
    """Anywhere in it, with white space of any kind."""
    found = _one(_FIELD, octets, chance)
    if not found:
        return octets
    at = chance.randint(found.start(), max(found.start(), found.end() - 2))
    return octets[:at] + chance.choice((b"\r\n ", b"\r\n\t", b"\r\n \r\n ", b"\n ", b"\r ", b"\r\n")) + octets[at:]


def delimiter_changed(octets: bytes, chance: Random) -> bytes:
    found = _one(_DELIMITER, octets, chance)
    if not found:
        return octets
    text = found.group()
    line = text.rstrip(b"\r\n")
    end = text[len(line) :]
    ways = (
        *(
            b"",
            text + text,
            line + b"--" + end,
            line.removesuffix(b"--") + end,
            b" " + text,
            b"\t" + text,
            line + b" " + end,
        ),
        *(
            line + b"x" + end,
            line[:-1] + end,
            line.upper() + end,
            line.lower() + end,
            b"\r\n" + text,
            b"-" + text,
            text[1:],
        ),
        *(
            line + b"\x00" + end,
            line.replace(b"--", b"-- ", 1) + end,
            line + b"\t" + end,
            b"\x0b" + text,
            line,
            end + line,
        ),
        *(text + end, line + b";x" + end, line + b"\r" + end, b">" + text),
    )
    return _replaced(octets, found, chance.choice(ways))


def delimiter_moved(octets: bytes, chance: Random) -> bytes:
    """To the start of another line."""
    found = _one(_DELIMITER, octets, chance)
    place = _one(_LINE, octets, chance)
    if not found or not place:
        return octets
    return octets[: place.start()] + found.group() + octets[place.start() :]


def boundary_changed(octets: bytes, chance: Random) -> bytes:
    found = _one(_BOUNDARY, octets, chance)
    if not found:
        return octets
    given = found.group(1)
    bare = given.strip(b'"')
    half = len(bare) // 2
    ways = (
        *(b"boundary=" + bare, b'boundary="' + bare + b'"', b'boundary="' + bare, b"boundary=" + bare + b'"'),
        *(b"boundary =" + given, b"boundary= " + given, b"BOUNDARY=" + given, b"boundary=(c)" + given, b"boundary"),
        *(
            b"boundary*=us-ascii''" + bare,
            b"boundary*0=" + bare[:half] + b"; boundary*1=" + bare[half:],
            b"boundary=",
        ),
        *(b"boundary=" + given + b"; boundary=x", b"boundary=x; boundary=" + given, b'boundary="' + bare + b' "'),
        *(
            b'boundary="' + bare[:half] + b"\\" + bare[half:] + b'"',
            b"boundary=" + bare + b"(c)",
            b"boundary='" + bare + b"'",
        ),
        *(
            b'boundary="' + bare[:half] + b"\r\n " + bare[half:] + b'"',
            b"boundary=" + bare[:half],
            b"x-boundary=" + given,
        ),
        *(
            b'boundary="' + bare + b'--"',
            b"boundary=" + bare[:half] + b'"' + bare[half:] + b'"',
            b"boundary:" + given,
        ),
        *(b"boundary=" + bare + b"\x00x", b'boundary="=?us-ascii?q?' + bare + b'?="', b"boundary=" + bare + b",x"),
    )
    return _replaced(octets, found, chance.choice(ways))


def boundary_shared(octets: bytes, chance: Random) -> bytes:
    """Two multiparts with one boundary, or one that is the beginning of the other."""
    given = [found.group(1).strip(b'"') for found in _BOUNDARY.finditer(octets)]
    if len(given) < 2:
        return octets
    one, two = chance.sample(given, 2)
    new = chance.choice((two, two + b"x", two[:-1], two + b"--"))
    return octets.replace(one, new) if one else octets


def name_changed(octets: bytes, chance: Random) -> bytes:
    found = _one(_PARAMETER, octets, chance)
    if not found:
        return octets
    key = chance.choice((b"name", b"filename", b"NAME", b"FileName"))
    new = key + chance.choice(_STARS) + chance.choice((b"=", b" = ", b"= ")) + chance.choice(_FILE_NAMES)
    keep = chance.random()
    if keep < 0.3:
        new = found.group() + b"; " + new
    elif keep < 0.5:
        new = new + b";" + found.group()
    return _replaced(octets, found, new)


def encoding_changed(octets: bytes, chance: Random) -> bytes:
    found = _one(_ENCODING, octets, chance)
    if not found:
        return octets
    return octets[: found.start(1)] + chance.choice(_ENCODINGS) + octets[found.end(1) :]


def body_coded(octets: bytes, chance: Random) -> bytes:
    """A body in base64, quoted-printable or uuencode, whatever its header says."""
    found = _one(_BODY, octets, chance)
    if not found:
        return octets
    body = found.group(1)
    try:
        body = base64.b64decode(body) if chance.random() < 0.6 else body
    except binascii.Error:
        pass
    way = chance.randrange(4)
    if way == 0:
        length = chance.choice((4, 19, 45, 57, 76, 1000))
        new = b"\r\n".join(base64.b64encode(body[at : at + length]) for at in range(0, len(body), length))
    elif way == 1:
        new = b"=\r\n".join(b"=%02X" % octet for octet in body[:200])
    elif way == 2:
        new = binascii.b2a_qp(body, istext=chance.random() < 0.5)
    else:
        new = b"".join(binascii.b2a_uu(body[at : at + 45]) for at in range(0, len(body), 45)).replace(b"\n", b"\r\n")
    return octets[: found.start(1)] + new + b"\r\n" + octets[found.end(1) :]


def body_disturbed(octets: bytes, chance: Random) -> bytes:
    """Something in the middle of a body that decoders treat each in their own way."""
    found = _one(_BODY, octets, chance)
    if not found:
        return octets
    at = chance.randint(found.start(1), found.end(1))
    junk = chance.choice(
        (b"=", b"==", b"====", b"-", b"_", b"\xff", b"\x00", b"=\r\n", b"= \r\n", b"=3", b"=3d", b"=GG", b" ", b"\t\r\n",
         b"\r\n\r\n", b"!", b"A", b"AA", b"AAA=", b"\r\n--\r\n", b"=\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"(c)")
    )  # fmt: skip
    return octets[:at] + junk + octets[at:]


def line_ends_changed(octets: bytes, chance: Random) -> bytes:
    """One, many, or all."""
    new = chance.choice(_BREAKS)
    if chance.random() < 0.2:
        return octets.replace(b"\r\n", new)
    ends = [found.start() for found in re.finditer(rb"\r\n", octets)]
    if not ends:
        return octets.replace(b"\n", b"\r\n")
    for at in sorted(chance.sample(ends, min(len(ends), chance.choice((1, 1, 2, 5)))), reverse=True):
        octets = octets[:at] + new + octets[at + 2 :]
    return octets


def empty_line_changed(octets: bytes, chance: Random) -> bytes:
    """Between header and body: none, two, or one with white space in it."""
    found = _one(_EMPTY_LINE, octets, chance)
    new = chance.choice(
        (b"\r\n", b"\r\n \r\n", b"\r\n\t\r\n", b"\r\n\r\n\r\n", b"\r\n\x00\r\n", b"\n\n", b"\r\r", b"\r\n \r\n\r\n")
    )
    return _replaced(octets, found, new)


def wrapped(octets: bytes, chance: Random) -> bytes:
    """The mail in another one."""
    way = chance.randrange(4)
    if way == 0:
        return b"Content-Type: message/rfc822\r\n\r\n" + octets
    if way == 1:
        return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + octets + b"\r\n--b--\r\n"
    if way == 2:
        return b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" + octets + b"\r\n--b--\r\n"
    digits = base64.encodebytes(octets[:20_000]).replace(b"\n", b"\r\n")
    return b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + digits


def lines_shuffled(octets: bytes, chance: Random) -> bytes:
    """Some lines dropped, repeated or put elsewhere."""
    lines = octets.splitlines(keepends=True)
    if len(lines) < 2:
        return octets
    start = chance.randrange(len(lines))
    end = min(len(lines), start + chance.choice((1, 1, 2, 5, 10)))
    some = lines[start:end]
    way = chance.randrange(3)
    if way == 0:
        del lines[start:end]
    elif way == 1:
        lines[end:end] = some
    else:
        del lines[start:end]
        at = chance.randint(0, len(lines))
        lines[at:at] = some
    return b"".join(lines)


def cut(octets: bytes, chance: Random) -> bytes:
    return (
        octets[: chance.randint(0, len(octets))]
        if chance.random() < 0.5
        else octets[chance.randint(0, len(octets)) :]
    )


def token_put_in(octets: bytes, chance: Random) -> bytes:
    at = chance.randint(0, len(octets))
    return octets[:at] + chance.choice(_TOKENS) + octets[at:]


MUTATIONS: Sequence[Mutation] = (
    *(field_repeated, field_dropped, field_valued, field_added, field_name_mangled, field_folded),
    *(delimiter_changed, delimiter_moved, boundary_changed, boundary_shared, name_changed, encoding_changed),
    *(body_coded, body_disturbed, line_ends_changed, empty_line_changed, wrapped, lines_shuffled, cut, token_put_in),
)


def mutated(octets: bytes, chance: Random, most: int) -> bytes:
    """After one to four mutations, at most `most` octets."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        octets = chance.choice(MUTATIONS)(octets, chance)[:most]
    return octets


def _one(pattern: re.Pattern[bytes], octets: bytes, chance: Random) -> "re.Match[bytes] | None":
    found = list(pattern.finditer(octets))
    return chance.choice(found) if found else None


def _replaced(octets: bytes, found: "re.Match[bytes] | None", new: bytes) -> bytes:
    return octets[: found.start()] + new + octets[found.end() :] if found else octets


def _valued(name: bytes, chance: Random) -> bytes:
    values = {key.lower(): some for key, some in _FIELDS}.get(name.lower(), (b"1.0", b"", b"<a@b>", b"x"))
    return name + chance.choice((b": ", b": ", b":", b":\t", b":\r\n ")) + chance.choice(values) + b"\r\n"
