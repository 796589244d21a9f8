"""Mails to begin with: own ones, well-formed, of every kind that is read; those of the corpus where it is there.

MARKER is hidden in some of them, never as it stands: the signature of the clamd beside them.
"""

import base64
import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage

from support.corpus import corpus

MARKER = b"posthouse#fuzz#marker#5d1f0c"
SECRET = b"\x7fHIDDEN\r\n" + MARKER + b"\r\n\x00\xff and something behind it, so that there are a few lines of it\r\n"
LARGEST = 65_536


def seeds() -> list[bytes]:
    """Own ones first."""
    return [*own(), *of_corpus()]


def of_corpus() -> Iterator[bytes]:
    """What is not larger than what is made of it."""
    folder = corpus()
    if folder is None:
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".json", ".md") and path.name != "LICENSE-of-source.txt":
            octets = path.read_bytes()
            if octets and len(octets) <= LARGEST:
                yield octets if b"\r" in octets else octets.replace(b"\n", b"\r\n")


def own() -> list[bytes]:
    """With what is hidden in base64, quoted-printable, uuencode, archives, and mails in mails."""
    hidden = {
        "a.bin": SECRET,
        "a.zip": zipped(zipfile.ZIP_STORED),
        "b.zip": zipped(zipfile.ZIP_DEFLATED),
        "a.gz": gzip.compress(SECRET, mtime=0),
        "a.tar": tarred(),
    }
    mails = [attached({name: octets}) for name, octets in hidden.items()]
    mails += [attached(hidden), nested(), encoded_by_hand(), uuencoded(), digest(), alternative(), named()]
    mails += [b"Subject: x\r\n\r\nHello\r\n", b"\r\n", alone()]
    return mails


def zipped(method: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("hidden.exe"), SECRET, method)
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("hidden.exe")
        member.size = len(SECRET)
        archive.addfile(member, io.BytesIO(SECRET))
    return made.getvalue()


def octets(message: EmailMessage) -> bytes:
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def attached(files: dict[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"] = "läuft"
    message["From"] = "a@sender.example"
    message.set_content("Grüße\n")
    for name, content in files.items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return octets(message)


def nested() -> bytes:
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("inner\n")
    inner.add_attachment(SECRET, maintype="image", subtype="png", filename="läuft.png")
    middle = EmailMessage()
    middle.set_content("middle\n")
    middle.add_attachment(inner)
    outer = EmailMessage()
    outer.set_content("outer\n")
    outer.add_attachment(middle)
    outer.add_attachment("a text\n", filename="a.txt")
    return octets(outer)


def encoded_by_hand() -> bytes:
    quoted = b"".join(b"=%02X" % octet for octet in MARKER)
    return (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary="b 1"\r\n\r\npreamble\r\n--b 1\r\n'
        b"Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(MARKER.decode().encode("utf-16")).replace(b"\n", b"\r\n")
        + b"--b 1\r\nContent-Type: application/x-a; name*0*=utf-8''%61; name*1=b.exe\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted[:60] + b"=\r\n" + quoted[60:] + b"\r\n"
        b"--b 1--\r\nepilogue\r\n"
    )


def uuencoded() -> bytes:
    from binascii import b2a_uu

    lines = b"".join(b2a_uu(SECRET[at : at + 45]).replace(b"\n", b"\r\n") for at in range(0, len(SECRET), 45))
    text = b"begin 644 a.exe\r\n" + lines + b"`\r\nend\r\n"
    part = b"--u\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" + text
    return b"Content-Type: multipart/mixed; boundary=u\r\n\r\n--u\r\n\r\n" + text + part + b"--u--\r\n"


def digest() -> bytes:
    mail = b"Subject: one\r\nContent-Transfer-Encoding: base64\r\nContent-Type: text/html\r\n\r\n"
    body = base64.encodebytes(b"<b>" + SECRET).replace(b"\n", b"\r\n")
    return (
        b"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\n" + mail + body + b"--d\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; a\r\n\r\n--d--\r\n"
    )


def alternative() -> bytes:
    message = EmailMessage()
    message.set_content("text\n")
    message.add_alternative("<p>täxt <img src='cid:a@b'></p>\n", subtype="html", cte="quoted-printable")
    message.get_payload()[1].add_related(SECRET, "image", "gif", cid="<a@b>", filename="a.gif")  # type: ignore[index, union-attr]
    return octets(message)


def named() -> bytes:
    return (
        b'Content-Type: multipart/mixed; boundary="n"\r\n\r\n--n\r\nContent-Disposition: attachment;\r\n'
        b" filename*0*=utf-8''%e2%82%ac; filename*1=\"uro.e\"; filename*2=xe\r\n\r\nMZ\r\n--n\r\n"
        b'Content-Type: application/zip; name="=?utf-8?q?l=C3=A4uft=2Ezip?="\r\n\r\nPK\r\n--n\r\n'
        b'Content-Disposition: attachment; filename="a\\"b.exe"\r\nContent-Type: text/plain; name=other.txt\r\n\r\n\r\n'
        b"--n--\r\n"
    )


def alone() -> bytes:
    digits = base64.encodebytes(SECRET).replace(b"\n", b"\r\n")
    return b"Content-Type: application/x-a; name=a.exe\r\nContent-Transfer-Encoding: base64\r\n\r\n" + digits
