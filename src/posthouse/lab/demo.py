"""`posthouse demo`: a node with its own next hops on loopback; a failover as it happens.

Nothing leaves this machine: the listeners, the console and every next hop are on 127.0.0.1, and the only rule
relays mail to `*@demo.example` to the demo's own sinks.
"""

import asyncio
import contextlib
import email.policy
import json
import os
import shutil
import signal
import smtplib
import sys
import tempfile
from email.message import EmailMessage
from pathlib import Path

import httpx2
from rich.console import Console
from rich.table import Table

from posthouse.lab.scanner import EICAR, DemoScanner
from posthouse.lab.sink import Sink, SinkOptions

_INVENTORY = """\
[[server_profiles]]
name = "demo next hops"
type = "smtp"
servers = ["smtp://127.0.0.1:{first}", "smtp://127.0.0.1:{second}", "smtp://127.0.0.1:{third}"]
preference = "failover"

[[server_profiles]]
name = "demo scanner"
type = "clamav"
servers = ["clamd://127.0.0.1:{scanner}"]

[[rules]]
name = "demo inbound"
direction = "inbound"
match = {{ clients = ["127.0.0.0/8"], recipients = ["*@demo.example"] }}
scan = {{ profiles = ["demo scanner"] }}
relay = {{ profile = "demo next hops" }}
"""
_CONFIG = """\
hostname = "posthouse.demo.example"
own_mail = { profile = "demo next hops", from = "postmaster@demo.example", postmaster = "admin@demo.example" }
"""


def run(keep: bool = False, data_dir: str | None = None, once: bool = False) -> int:
    """Until Ctrl-C, or until the story is told when `once`. Returns the exit code."""
    folder = Path(data_dir) if data_dir else Path(tempfile.mkdtemp(prefix="posthouse-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return asyncio.run(_Demo(folder, once).run())
    except KeyboardInterrupt:
        return 0
    finally:
        if not keep and data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    def __init__(self, folder: Path, once: bool) -> None:
        self._folder, self._once = folder, once
        self._console = Console()
        self._node: dict[str, object] = {}

    async def run(self) -> int:
        """SIGTERM ends the demo as Ctrl-C does, so that its folder and processes go in either case."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os.kill, os.getpid(), signal.SIGINT)
        say = self._console.print
        sinks = [Sink(SinkOptions()) for _ in range(3)]
        for sink in sinks:
            await sink.start()
        scanner = DemoScanner()
        await scanner.start()
        (self._folder / "posthouse.toml").write_text(_CONFIG, encoding="utf-8")
        first, second, third = (sink.port for sink in sinks)
        (self._folder / "inventory.toml").write_text(
            _INVENTORY.format(first=first, second=second, third=third, scanner=scanner.port), encoding="utf-8"
        )
        process = await self._start_node()
        try:
            say("[bold]posthouse demo[/bold]: all on loopback; mail to *@demo.example goes to three next hops.")
            say(f"SMTP {self._smtp()}   REST {self._node['console']}/api/v1   data {self._folder}")
            say("\n1. A mail goes through: the profile's preference is failover, so the first server takes it.")
            await self._show(await self._send("It works", "hello@demo.example"))
            say(f"\n2. The first next hop dies (port {first} refuses); the second takes the next mail.")
            await sinks[0].stop()
            await self._show(await self._send("Failover", "hello@demo.example"))
            say("\n3. A recipient that no rule names is refused before its mail is taken.")
            say(f"   {await self._refused('stranger@elsewhere.example')}", markup=False)
            say("\n4. A mail with the EICAR test file is found by the demo's scanner, and quarantined.")
            detail = await self._detail(await self._send("Not harmless", "hello@demo.example", EICAR))
            recipients = detail["recipients"]
            assert isinstance(recipients, list)
            say(f"   {detail['status']}: {recipients[0]['detail']}", markup=False)
            if not self._once:
                say("\nSend your own, then Ctrl-C to end:")
                say(f"  swaks --server {self._smtp()} --from me@example.org --to you@demo.example", markup=False)
                say(f"  {sys.executable} -m posthouse mail list --data-dir {self._folder}/data", markup=False)
                await process.wait()
            return 0
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()
            for sink in sinks[1:]:
                await sink.stop()
            await scanner.stop()

    async def _start_node(self) -> asyncio.subprocess.Process:
        folder = self._folder
        with (folder / "posthouse.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "posthouse", "serve"),
                *("--config", str(folder / "posthouse.toml"), "--inventory", str(folder / "inventory.toml")),
                *("--data-dir", str(folder / "data"), "--smtp", "127.0.0.1:0", "--console", "127.0.0.1:0"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        assert process.stdout is not None
        if (await process.stdout.readline()).strip() != b"ready":
            sys.stderr.write((folder / "posthouse.log").read_text(encoding="utf-8", errors="replace"))
            raise SystemExit("posthouse demo: the node did not start")
        self._node = json.loads((folder / "data" / "node.json").read_text(encoding="ascii"))
        return process

    def _smtp(self) -> str:
        addresses = self._node["smtp"]
        assert isinstance(addresses, list)
        return str(addresses[0])

    async def _send(self, subject: str, to: str, attached: bytes = b"") -> str:
        """Sends one mail; returns its id, as the 250 told it."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "newcomer@example.org", to, subject
        message.set_content("Sent by posthouse demo.\n")
        if attached:
            message.add_attachment(attached, "application", "octet-stream", filename="eicar.com")

        def send() -> str:
            host, port = self._smtp().rsplit(":", 1)
            with smtplib.SMTP(host, int(port), timeout=10) as client:
                client.ehlo("demo.example")
                client.mail("newcomer@example.org")
                refused(client.docmd("RCPT", f"TO:<{to}>"))
                _, reply = client.data(message.as_bytes(policy=email.policy.SMTP))
                return reply.decode().split()[-1]

        def refused(answer: tuple[int, bytes]) -> None:
            if answer[0] >= 400:
                raise smtplib.SMTPResponseException(*answer)

        return await asyncio.to_thread(send)

    async def _refused(self, to: str) -> str:
        try:
            await self._send("Refused", to)
        except smtplib.SMTPResponseException as error:
            text = error.smtp_error
            return f"{error.smtp_code} {text.decode() if isinstance(text, bytes) else text}"
        return "it was taken?"

    async def _show(self, mail_id: str) -> None:
        """The trail of one mail as a table, once it has ended."""
        detail = await self._detail(mail_id)
        table = Table(title=f"mail {mail_id}", title_justify="left")
        for column in ("server", "outcome", "seconds", "reply"):
            table.add_column(column)
        attempts = detail["attempts"]
        assert isinstance(attempts, list)
        for attempt in attempts:
            table.add_row(attempt["server"], attempt["outcome"], f"{attempt['seconds']:.3f}", attempt["summary"])
        self._console.print(table)

    async def _detail(self, mail_id: str) -> dict[str, object]:
        key = (self._folder / "data" / "console.key").read_text(encoding="ascii").strip()
        async with httpx2.AsyncClient(
            base_url=str(self._node["console"]), headers={"Authorization": f"Bearer {key}"}, trust_env=False
        ) as client:
            detail: dict[str, object] = {"attempts": []}
            for _ in range(100):
                with contextlib.suppress(httpx2.HTTPError):
                    answer = await client.get(f"/api/v1/mails/{mail_id}")
                    if answer.status_code == 200:
                        detail = answer.json()
                        if detail.get("status") not in ("queued", "active"):
                            return detail
                await asyncio.sleep(0.1)
            return detail
