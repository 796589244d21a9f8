"""What a worker scans with, joined: the examiner's processes, scanners, vault, and the flow over them."""

import random
from dataclasses import dataclass

from posthouse import telemetry
from posthouse.clients.clamav import ClamdScanner
from posthouse.clients.core_scanner import CoreScanner
from posthouse.clients.examiner import IsolatedExaminer
from posthouse.clients.http_clients import HttpClients
from posthouse.clients.vault_upload import VaultClient
from posthouse.clients.way import DigitalId
from posthouse.core.inventory import Inventory
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.judging import Judge, JudgeTools
from posthouse.mailflow.kept import KeptMail
from posthouse.mailflow.scanners import Scanners
from posthouse.mailflow.scanning import Scanning
from posthouse.ports import Tools, Unseal
from posthouse.scan_ports import Scanner
from posthouse.settings import NodeSettings


@dataclass(frozen=True, slots=True)
class ScanningParts:
    """Those of one worker."""

    scanning: Scanning
    kept: KeptMail
    scanners: Scanners
    _examiner: IsolatedExaminer
    _clients: HttpClients
    _vault: VaultClient

    def take_inventory(self, fresh: Inventory) -> None:
        """The inventory in force from now on; connections of edited profiles end."""
        self.scanning.inventory = self.kept.inventory = fresh
        self._clients.retire(fresh.profiles)
        self._vault.retire(fresh.profiles)
        self.scanners.keep_only(fresh.profiles.values())
        self.scanners.servers.drain(fresh.drains)

    def reload(self, fresh: NodeSettings) -> None:
        """Limits of the examiner's processes need a restart."""
        self.scanning.reload(fresh)
        self.kept.settings = fresh

    async def close(self) -> None:
        """After the scans under way."""
        await self.scanners.close()
        await self._clients.close()
        await self._vault.close()
        await self._examiner.close()


def scanning_parts(
    tools: Tools,
    settings: NodeSettings,
    inventory: Inventory,
    delivery: Delivery,
    digital_id: DigitalId,
    unseal: Unseal,
    log: telemetry.DeliveryLog,
) -> ScanningParts:
    """Nothing is started before the first mail needs it."""
    clients, vault = HttpClients(digital_id), VaultClient(digital_id, unseal)
    of_types: dict[ServiceType, Scanner] = {
        ServiceType.METADEFENDER_CORE: CoreScanner(clients, unseal, settings.data_dir),
        ServiceType.CLAMAV: ClamdScanner(float(settings.limits.connect_seconds)),
    }
    scanners = Scanners(of_types, tools.clock, random.random)
    examiner = IsolatedExaminer(settings.limits)
    judge = Judge(JudgeTools(examiner, scanners, vault, tools.clock, tools.spool.open_content), settings)
    scanning = Scanning(tools, judge, scanners, delivery, settings, inventory, log)
    kept = KeptMail(tools, judge, delivery, settings, inventory)
    parts = ScanningParts(scanning, kept, scanners, examiner, clients, vault)
    parts.take_inventory(inventory)
    return parts
