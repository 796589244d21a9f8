"""TEST of MetaDefender Core and Vault through a real node: by REST and command line, with keys that nobody sees."""

from pathlib import Path
from typing import Any

import pytest

from support import mock_core, mock_vault
from support.command_line import CommandLine, command_line
from support.http_servers import http_server
from support.mock_core import MockCore
from support.mock_vault import MockVault
from support.processes import inventory_for, serving

PROFILES = """
[[server_profiles]]
name = "core"
type = "metadefender-core"
servers = ["{core}"]
api_key = "{core_key}"

[[server_profiles]]
name = "vault"
type = "metadefender-vault"
servers = ["{vault}"]
api_key = "{vault_key}"
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


def test_profiles_of_both_types_are_tested_with_their_stored_keys(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        http_server(MockCore(version="5.19.0").answer) as core,
        http_server(MockVault(expired=True).answer) as vault,
        serving(
            tmp_path / "node",
            inventory_for(1)
            + PROFILES.format(
                core=core.specification, vault=vault.specification, core_key=mock_core.KEY, vault_key=mock_vault.KEY
            ),
        ) as node,
    ):
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        good = cli("profile", "test", "core")
        assert good.code == 0, good
        assert "5.19.0" in good.out
        expired = cli("profile", "test", "vault")
        assert expired.code == 1
        assert "Make a new API key in Vault" in " ".join(expired.out.split())
        entered = {
            "name": "new",
            "type": "metadefender-core",
            "servers": [core.specification],
            "api_key": "canary-key",
        }
        status, result = node.api("POST", "server-profile-tests", entered)
        servers: Any = result["servers"]
        assert status == 200
        assert servers[0]["stages"][-1]["name"] == "key"
        assert core.requests[-1].fields["apikey"] == "canary-key"
        shown = good.out + expired.out + str(result) + node.log.read_text("utf-8") + str(node.get("audit"))
        for secret in (mock_core.KEY, mock_vault.KEY, "canary-key"):
            assert secret not in shown
