"""What the console process works with; `app.py` fills it in."""

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from posthouse.core.owner import Start
from posthouse.mailflow.profile_test import ProfileTest
from posthouse.ports import Accounts, Clock, Commands, History, InventoryStore
from posthouse.scan_ports import MailReader, NoReader
from posthouse.settings import NodeSettings


@dataclass(frozen=True, slots=True)
class WebTools:
    """The ports behind REST, and the settings of the node that serves it."""

    inventory: InventoryStore
    accounts: Accounts
    commands: Commands
    history: History
    clock: Clock
    settings: NodeSettings
    start: Start
    """Of the node that this process belongs to."""
    version: str
    hosts: tuple[str, ...] = ()
    """Names that a Host field may carry besides the loopback ones and the console's own address."""
    command_wait_seconds: float = 3.0
    """How long a queue action waits for the workers' reports."""
    profile_test: ProfileTest = field(default_factory=lambda: ProfileTest({}))
    """TEST of server profiles; without testers no service type can be tested."""
    reader: MailReader = field(default_factory=NoReader)
    """Reads kept mail for people."""


async def tools_of(request: Request) -> WebTools:
    """Dependency: the tools that `create_app` was given."""
    return cast(WebTools, request.app.state.tools)


Tools = Annotated[WebTools, Depends(tools_of)]
