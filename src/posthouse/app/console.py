"""The console process: REST API, TESTs of server profiles, and what looks after certificates and the audit log."""

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from posthouse import __version__, node, telemetry, tls
from posthouse.app.child import listen_to_supervisor, post, say_ready
from posthouse.client_tls import trust_besides
from posthouse.clients.clamd_test import ClamdTester
from posthouse.clients.examiner import IsolatedExaminer
from posthouse.clients.mail_reader import IsolatedReader
from posthouse.clients.metadefender import core_tester
from posthouse.clients.smtp_test import SmtpTester
from posthouse.clients.vault import vault_tester
from posthouse.core.owner import Start
from posthouse.core.service_type import ServiceType
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.stand_in import note_shown
from posthouse.mailflow.background_tests import BackgroundTests
from posthouse.mailflow.profile_test import ProfileTest
from posthouse.ports import ServerTester, SystemClock, Unseal
from posthouse.settings import NodeSettings
from posthouse.storage import open as storage
from posthouse.web.audit_end import AuditEnd
from posthouse.web.expiry import ExpiryWatch
from posthouse.web.server import create_app
from posthouse.web.server import serve as serve_web
from posthouse.web.tools import WebTools


def _own_listeners(data_dir: str) -> list[tuple[str, int]]:
    """`node.json` knows which ports the listeners got."""
    facts = json.loads((Path(data_dir) / "node.json").read_text("utf-8"))
    return [_host_and_port(address) for address in facts["smtp"]]


def _testers(
    settings: NodeSettings, unseal: Unseal, listeners: list[tuple[str, int]]
) -> Mapping[ServiceType, ServerTester]:
    """TEST of server profiles, in the console process."""

    def digital_id() -> tuple[str, str]:
        return tls.ensure_digital_id(settings.data_dir, settings.hostname)

    return {
        ServiceType.SMTP: SmtpTester(settings.hostname, settings.limits, digital_id, listeners, unseal),
        ServiceType.METADEFENDER_CORE: core_tester(digital_id, listeners, unseal),
        ServiceType.METADEFENDER_VAULT: vault_tester(digital_id, listeners, unseal),
        ServiceType.CLAMAV: ClamdTester(listeners),
    }


def _host_and_port(address: str) -> tuple[str, int]:
    """What `_address` has joined."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def run_console(boot: node.Boot) -> None:
    """The console process: REST API."""
    telemetry.configure("console")
    settings = boot.settings
    shared = storage.open_shared(settings.data_dir, settings.database)
    history = storage.open_history(settings.data_dir, settings.database)
    trust_besides(Authorities(settings.data_dir).path)
    context = None
    if settings.console_tls:
        context = tls.renewing_context(
            lambda: tls.ensure_digital_id(settings.data_dir, settings.hostname),
            settings.hostname,
            lambda certificate: note_shown(settings.data_dir, certificate),
        )
    listeners, unseal = _own_listeners(settings.data_dir), shared.keyring.unseal
    profile_test = ProfileTest(_testers(settings, unseal, listeners), settings.hostname)
    tools = WebTools(
        inventory=shared.inventory,
        accounts=shared.accounts,
        commands=shared.commands,
        history=history,
        clock=SystemClock(),
        settings=settings,
        start=Start.of(boot.owner),
        version=__version__,
        hosts=(settings.hostname,) if settings.console_tls else (),
        profile_test=profile_test,
        reader=IsolatedReader(IsolatedExaminer(settings.limits)),
    )
    app = create_app(tools)
    bound = socket.socket(fileno=boot.descriptors[0])

    def reload(fresh: NodeSettings) -> None:
        profile_test.reload(_testers(fresh, unseal, listeners), fresh.hostname)
        app.state.tools = replace(tools, settings=fresh)
        telemetry.logger("console").info("console has the new settings")

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        listen_to_supervisor(settings, lambda fresh: post(loop, reload, fresh), lambda: post(loop, stop.set))
        audit_end = AuditEnd(tools.inventory, lambda: app.state.tools.settings.audit_days)
        beside = [
            loop.create_task(ExpiryWatch(settings.data_dir).run(tools.clock)),
            loop.create_task(audit_end.run(tools.clock)),
        ]
        if settings.test_profiles:
            tests = BackgroundTests(tools.inventory, profile_test, tools.clock, f"node {tools.start.node}")
            beside.append(loop.create_task(tests.run()))
        try:
            await serve_web(app, bound, on_ready=say_ready, stop=stop, tls=context)
        finally:
            for task in beside:
                task.cancel()
            await tools.reader.close()

    asyncio.run(main())
