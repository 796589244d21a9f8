"""Who may do what: API keys, roles, and one table of rights.

A route is made by a router of `guarded(right)`, so that a route without a right cannot be written by mistake;
the right is looked at before the body is read.
"""

from collections.abc import Callable, Coroutine
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from posthouse.core.account import Role as Role
from posthouse.ports import Key
from posthouse.web.problems import Problem
from posthouse.web.schemas import problem
from posthouse.web.tools import WebTools

LONGEST_SECRET = 256
"""Characters; a longer Authorization is not looked up."""


class Right(StrEnum):
    """What a route asks for."""

    MAILS_READ = "read mails, their trails and failed emails"
    QUARANTINE_READ = "read what is in quarantine and why"
    BODIES_OPEN = "open the content of kept mail"
    """Its own, and no auditor has it."""
    QUARANTINE_RELEASE = "release mail from quarantine"
    QUARANTINE_STEER = "forward, rescan, pin and delete mail in quarantine"
    FAILED_STEER = "retry, reroute and delete failed emails"
    QUEUE_READ = "read the queue"
    QUEUE_STEER = "retry, hold, release, reroute and delete queued mail"
    CONFIG_READ = "read server profiles, rules and configuration, and explain rules"
    REPLAY = "read what a file would do with the mails of the history"
    """Of its own, for the answer shows both mails and rules."""
    CONFIG_CHANGE = "change server profiles and rules"
    PROFILE_TEST = "test server profiles"
    SERVERS_DRAIN = "drain servers"
    KEYS_READ = "list API keys"
    KEYS_CHANGE = "create and revoke API keys"
    AUDIT_READ = "read the audit log"
    USERS_READ = "list users"
    USERS_CHANGE = "add, change and remove users, and set their passwords"


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.ADMINISTRATOR: frozenset(Right),
    Role.OPERATOR: frozenset(
        {
            Right.MAILS_READ,
            Right.QUARANTINE_READ,
            Right.BODIES_OPEN,
            Right.QUARANTINE_RELEASE,
            Right.QUARANTINE_STEER,
            Right.FAILED_STEER,
            Right.QUEUE_READ,
            Right.QUEUE_STEER,
            Right.CONFIG_READ,
            Right.REPLAY,
            Right.PROFILE_TEST,
            Right.SERVERS_DRAIN,
        }
    ),
    Role.AUDITOR: frozenset(
        {
            Right.MAILS_READ,
            Right.QUARANTINE_READ,
            Right.QUEUE_READ,
            Right.CONFIG_READ,
            Right.REPLAY,
            Right.KEYS_READ,
            Right.AUDIT_READ,
            Right.USERS_READ,
        }
    ),
    Role.HELPDESK: frozenset({Right.MAILS_READ, Right.QUARANTINE_READ, Right.QUARANTINE_RELEASE}),
}


def may(role: str, right: Right) -> bool:
    """False for a role that this version does not know."""
    return role in RIGHTS and right in RIGHTS[Role(role)]


class GuardedRoute(APIRoute):
    """A route that asks for `right` before anything of the request is parsed."""

    right: Right

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            key = await _authenticated(request)
            if not may(key.role, self.right):
                raise Problem(HTTPStatus.FORBIDDEN, f"The role {key.role} may not {self.right}.")
            request.state.key = key
            answer = await inner(request)
            answer.headers.setdefault("Cache-Control", "no-store")
            return answer

        return handle


def guarded(right: Right) -> APIRouter:
    """A router whose routes ask for `right`; its OpenAPI names the scheme and the problems."""
    route_class = type("GuardedRoute", (GuardedRoute,), {"right": right})
    return APIRouter(
        route_class=route_class,
        dependencies=[Depends(HTTPBearer(auto_error=False, description="An API key: `ph_...`"))],
        responses={status: problem(HTTPStatus(status).phrase) for status in (400, 401, 403, 404, 413, 422)},
    )


async def _authenticated(request: Request) -> Key:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    secret = secret.strip()
    key = None
    if scheme.lower() == "bearer" and 0 < len(secret) <= LONGEST_SECRET and secret.isascii() and secret.isprintable():
        tools = cast(WebTools, request.app.state.tools)
        key = await run_in_threadpool(tools.accounts.authenticate, secret)
    if key is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "Send a valid API key as `Authorization: Bearer KEY`.",
            headers={"WWW-Authenticate": 'Bearer realm="posthouse"'},
        )
    return key


async def _key_of(request: Request) -> Key:
    return cast(Key, request.state.key)


CurrentKey = Annotated[Key, Depends(_key_of)]
"""Dependency: the key that the request came with."""


def actor(key: Key) -> str:
    """How audit and trail name who did it."""
    return f"key {key.name} ({key.id})"
