"""The way to a server, as read off a profile."""

import errno

import pytest

from posthouse.client_tls import TlsSettingsError
from posthouse.clients.way import way_to
from posthouse.core.profile import ServerProfile, parse_profile
from posthouse.digital_id.store import DigitalIdUnusable


def profile(**given: object) -> ServerProfile:
    parsed, faults = parse_profile({"name": "x", "type": "smtp", "servers": ["smtps://h"], **given}, "")
    assert parsed is not None, faults
    return parsed


def test_a_digital_id_that_cannot_be_made_is_a_fault_of_this_node_that_names_the_file() -> None:
    def digital_id() -> tuple[str, str]:
        raise PermissionError(errno.EACCES, "Permission denied", "/data/digital-id.key.new")

    with pytest.raises(TlsSettingsError) as caught:
        way_to(profile(client_certificate=True), "smtps://h:465", digital_id)
    told = "digital ID: /data/digital-id.key.new cannot be made or read: Permission denied; let the user "
    assert str(caught.value).startswith(told)
    assert "put certificate and key there" in str(caught.value)
    assert way_to(profile(), "smtps://h:465", digital_id).policy is not None, "who shows none needs none"


def test_a_digital_id_that_cannot_be_read_is_a_fault_of_this_node() -> None:
    def digital_id() -> tuple[str, str]:
        raise DigitalIdUnusable("the digital ID /data/digital-id/current is no link any more")

    with pytest.raises(TlsSettingsError, match="is no link any more"):
        way_to(profile(client_certificate=True), "smtps://h:465", digital_id)
