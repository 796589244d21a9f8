"""A secret where it is referred to: what it is, or one sentence on why it cannot be had."""

import os
from pathlib import Path

import pytest

from posthouse.clients.way import secret_text
from posthouse.core.fields import Secret
from posthouse.ports import SecretUnreadable

CANARY = "canary-in-a-coal-mine"


def test_the_first_line_of_a_file_and_a_variable_are_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{CANARY}\r\nsecond\n")
    (tmp_path / "link").symlink_to(file)
    monkeypatch.setenv("TEST_SECRET", CANARY)
    secrets = (Secret("file", str(file)), Secret("file", str(tmp_path / "link")), Secret("env", "TEST_SECRET"))
    assert [secret_text(secret) for secret in secrets] == [CANARY] * 3


@pytest.mark.parametrize("what", ["password", "API key"])
def test_a_reference_that_leads_nowhere_says_of_what_it_is(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "octets").write_bytes(b"\xff\n")
    os.mkfifo(tmp_path / "pipe")
    why = {
        "none": "cannot be read: No such file or directory",
        "empty": "is empty",
        "octets": "cannot be read: it is not UTF-8 text",
        "pipe": "cannot be read: it is no regular file",
        "": "cannot be read: Is a directory",
    }
    said = {}
    for name in why:
        with pytest.raises(SecretUnreadable) as caught:
            secret_text(Secret("file", str(tmp_path / name)), what=what)
        said[name] = str(caught.value)
    assert said == {name: f"the {what}'s file {tmp_path / name} {told}" for name, told in why.items()}
    with pytest.raises(SecretUnreadable, match=f"the {what}'s variable TEST_NONE is not set"):
        secret_text(Secret("env", "TEST_NONE"), what=what)
