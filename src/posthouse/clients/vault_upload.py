"""Attachments go to a MetaDefender Vault: all of a mail and rule, or none. `scan_ports.Vault`.

What fails, or is cancelled, is dropped at the vault, as far as it can be reached; the next try has another group.
Standards: design 2.3, 2.9; REST API of Vault (October 2019), "File Upload".
"""

import asyncio
import re
from collections.abc import Mapping, Sequence

from posthouse.client_tls import TlsSettingsError
from posthouse.clients.http_clients import HttpClients
from posthouse.clients.vault import vault_key_field
from posthouse.clients.vault_transfer import Transfer
from posthouse.clients.way import DigitalId, no_key, secret_text
from posthouse.core.profile import ServerProfile
from posthouse.ports import SecretUnreadable, Unseal
from posthouse.scan_ports import ToUpload, Uploaded, UploadFailed

MOST_FILES = 256
"""In one transfer; the last answer tells of each, and is bounded."""
DROP_SECONDS = 5.0
"""For dropping a transfer that failed; nobody is to wait long for a vault that may be gone."""
_LEFT_BEHIND = "what the vault had got could not be dropped there"
_KEY = re.compile(r"[!-~]+")


class VaultClient:
    """Over connections that are kept; one upload is one transfer."""

    def __init__(self, digital_id: DigitalId, unseal: Unseal = no_key) -> None:
        self._clients = HttpClients(digital_id)
        self._unseal = unseal
        self._drops: set[asyncio.Task[bool]] = set()

    async def upload(
        self, profile: ServerProfile, group: str, files: Sequence[ToUpload], expires_days: int, seconds: float
    ) -> tuple[Uploaded, ...]:
        """scan_ports.Vault.upload. `expires_days`: 0 to 10,675,199, 0 for no expiry; `seconds`: for all of it, to
        which come DROP_SECONDS if it fails."""
        if not files:
            return ()
        if len(files) > MOST_FILES:
            raise UploadFailed(f"more than {MOST_FILES} attachments of one mail do not go to a vault", again=False)
        key = self._key(profile)
        (server,) = profile.server_texts
        end = asyncio.get_running_loop().time() + seconds
        try:
            async with self._clients.use(profile, server) as client:
                transfer = Transfer(client, key, group, end)
                try:
                    return await transfer.carry_out(files, expires_days)
                except UploadFailed as failed:
                    if transfer.begun and not await asyncio.shield(self._dropping(profile, server, transfer)):
                        raise UploadFailed(f"{failed}; {_LEFT_BEHIND}", again=failed.again) from failed
                    raise
                except BaseException:
                    # Cancelled: whoever did that is not kept waiting; `close` waits.
                    self._dropping(profile, server, transfer)
                    raise
        except TlsSettingsError as error:
            raise UploadFailed(str(error), again=False) from error

    def retire(self, profiles: Mapping[str, ServerProfile]) -> None:
        """The inventory changed: connections of edited and removed profiles are let go. Within the event loop."""
        self._clients.retire(profiles)

    async def close(self) -> None:
        """scan_ports.Vault.close: after what is being dropped, for DROP_SECONDS at most."""
        await asyncio.gather(*self._drops, return_exceptions=True)
        await self._clients.close()

    def _key(self, profile: ServerProfile) -> tuple[str, str]:
        """Header field with the API key. Raises UploadFailed."""
        if profile.api_key is None:
            raise UploadFailed("the server profile has no API key", again=False)
        try:
            key = secret_text(profile.api_key, self._unseal, "API key")
        except SecretUnreadable as error:
            raise UploadFailed(str(error), again=False) from error
        if not _KEY.fullmatch(key):
            raise UploadFailed("the API key's text has characters that no key has", again=False)
        return vault_key_field(key)

    def _dropping(self, profile: ServerProfile, server: str, transfer: Transfer) -> "asyncio.Task[bool]":
        task = asyncio.get_running_loop().create_task(self._drop(profile, server, transfer))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)
        return task

    async def _drop(self, profile: ServerProfile, server: str, transfer: Transfer) -> bool:
        end = asyncio.get_running_loop().time() + DROP_SECONDS
        try:
            async with self._clients.use(profile, server) as client:
                return await transfer.drop(client, end)
        except TlsSettingsError:
            return False
