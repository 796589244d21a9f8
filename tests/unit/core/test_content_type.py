"""Types by content."""

import io
import tarfile
import zipfile

import pytest

from posthouse.core.content_type import types_of
from support.archives import tarred, zipped

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def office(folder: str, *more: str) -> bytes:
    return zipped(
        {"[Content_Types].xml": b"<Types/>", f"{folder}/document.xml": b"<x/>", **dict.fromkeys(more, b"x")}
    )


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"MZ\x90\0" + bytes(60), "application/x-dosexec"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "application/x-executable"),
        (zipped({"a": b"x"}), "application/zip"),
        (zipped({}), "application/zip"),
        (b"Rar!\x1a\x07\x01\0", "application/vnd.rar"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "application/x-7z-compressed"),
        (b"\x1f\x8b\x08\0", "application/gzip"),
        (b"BZh91AY&SY", "application/x-bzip2"),
        (b"\xfd7zXZ\0\0\4", "application/x-xz"),
        (tarred([("a", b"x")]), "application/x-tar"),
        (tarred([("a", b"x")], tarfile.GNU_FORMAT), "application/x-tar"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"junk\n" * 9 + b"%PDF-1.7\n", "application/pdf"),
        (OLE, "application/x-ole-storage"),
        (OLE + "WordDocument".encode("utf-16-le"), "application/msword"),
        (OLE + "Workbook".encode("utf-16-le"), "application/vnd.ms-excel"),
        (OLE + bytes.fromhex("84100c0000000000c000000000000046"), "application/x-msi"),
        (office("word"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (office("xl"), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (office("ppt"), "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        (office("word", "word/vbaProject.bin"), "application/vnd.ms-word.document.macroenabled.12"),
        (b"{\\rtf1\\ansi", "application/rtf"),
        (b"<!DOCTYPE html>\n<html>", "text/html"),
        (b"\xef\xbb\xbf \r\n<HTML>", "text/html"),
        ("<html><body>".encode("utf-16"), "text/html"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns='x'>", "image/svg+xml"),
        (b"#!/bin/sh\necho", "text/x-script"),
        (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60), "application/x-ms-shortcut"),
        (bytes(32769) + b"CD001" + bytes(2000), "application/x-iso9660-image"),
        (b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
        (b"Received: from a by b\r\n\tfor c\r\nSubject: x\r\n\r\nhello", "message/rfc822"),
        (b"X-Mailer: x\r\nFrom: a@b.example\r\nTo: c@d.example\r\n\r\n", "message/rfc822"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"wvpk" * 3, ""),
        (b"SQLite format 3\0", "application/x-sqlite3"),
        (b"", ""),
        (b"Hello,\n\nFrom: me to you with love.\n", ""),
        (b"Subject: only one line\r\n\r\n", ""),
        (b"*** a list of things ***\n", ""),
        (b"(see below) and so on {" * 99, ""),
    ],
)
def test_types(octets: bytes, name: str) -> None:
    assert types_of(octets)[:1] == ((name,) if name else ())
    assert types_of(memoryview(octets)) == types_of(octets)


def test_what_is_several_things_has_several_types() -> None:
    archive = zipped({"a": b"x"})
    assert types_of(b"MZ" + bytes(9000) + archive) == ("application/x-dosexec", "application/zip")
    assert types_of(b"%PDF-1.4\n" + bytes(90_000) + archive) == ("application/pdf", "application/zip")


def test_a_document_in_a_zip_is_named_by_its_first_member() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        archive.writestr("content.xml", "<x/>")
    assert types_of(made.getvalue()) == ("application/vnd.oasis.opendocument.text",)


def test_a_folder_of_that_name_makes_no_document() -> None:
    assert types_of(zipped({"word/a.exe": b"MZ"})) == ("application/zip",)
