"""`posthouse profile` and `posthouse uri`: server profiles, and whether a server specification is right."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, moment, pairs, show_json, table
from posthouse.cli.remote import Remote, segment

if TYPE_CHECKING:
    from posthouse.core.service_type import ServiceType

app = typer.Typer(help="Server profiles.", no_args_is_help=True)
uri_app = typer.Typer(help="Server specifications (URI).", no_args_is_help=True)


@uri_app.callback()
def _uri() -> None:
    """Server specifications (URI)."""


@app.command("list")
def list_(
    as_json: JsonOption = False, server: ServerOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """All server profiles."""
    with Remote(server, data_dir) as remote:
        answer = remote.get("/api/v1/server-profiles")
    if as_json:
        show_json(answer)
        return
    table(
        ("Name", "Type", "Preference", "Encryption", "Servers"),
        (
            (
                profile.get("name"),
                profile.get("type"),
                profile.get("preference"),
                profile.get("tls"),
                ", ".join(str(one) for one in cast(list[object], profile.get("servers", []))),
            )
            for profile in cast(list[dict[str, object]], answer["items"])
        ),
        "There are no server profiles.",
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """One server profile, and what the workers know of its servers now; advice on it goes to stderr."""
    with Remote(server, data_dir) as remote:
        profile = remote.get(f"/api/v1/server-profiles/{segment(name)}")
        state = remote.get(f"/api/v1/server-profiles/{segment(name)}/state")
        advice = cast(list[dict[str, object]], remote.get(f"/api/v1/server-profiles/{segment(name)}/advice")["items"])
    if as_json:
        show_json({**profile, "state": state["servers"], "advice": advice})
        return
    servers = cast(list[object], profile.pop("servers", []))
    pool = profile.pop("pool", None)
    pairs(profile)
    if isinstance(pool, dict):
        pairs({f"pool.{key}": value for key, value in pool.items()})
    for number, one in enumerate(servers, 1):
        line(f"server {number}: {one}")
    line("")
    table(
        ("Server", "Circuit", "Reason", "Next probe", "In use", "Kept idle", "Relayed", "Served last", "Last fault"),
        (
            (
                one.get("server"),
                one.get("circuit") or "not known yet",
                one.get("reason"),
                moment(one.get("next_probe")),
                f"{one.get('in_use')} of {one.get('limit')}",
                one.get("idle"),
                one.get("relayed"),
                moment(one.get("served_at")),
                f"{moment(one.get('last_fault_at'))} {one.get('last_fault')}".strip(),
            )
            for one in cast(list[dict[str, object]], state["servers"])
        ),
        "It has no servers.",
    )
    for one in advice:
        grave = "GRAVE: " if one["grave"] else ""
        typer.echo(f"{one['field']}: {grave}{one['sentence']}", err=True)


@uri_app.command()
def check(
    specification: Annotated[str, typer.Argument(metavar="URI", help="Such as 10.0.0.1 or smtps://mail.example.")],
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="Service type; default: by the scheme.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Tell the canonical form of a server specification, or what is wrong with it, part by part."""
    from posthouse.core.faults import Fault
    from posthouse.core.uri import Specification, advise, mask, parse_specification

    service_type = _service_type(type_, specification)
    found = parse_specification(specification, service_type)
    if not isinstance(found, Specification):
        faults = [Fault(problem.part, mask(specification), problem.rule, problem.remedy) for problem in found]
        raise Stop(Exit.FAULT, f"This is no specification of a {service_type} server.", faults)
    advice = advise(found, service_type)
    if as_json:
        show_json(
            {
                "specification": str(found),
                "type": service_type.value,
                "scheme": found.scheme,
                "host": found.host,
                "port": found.port,
                "path": found.path,
                "advice": advice,
            }
        )
        return
    line(str(found))
    if advice:
        typer.echo(advice, err=True)


def _service_type(given: str, specification: str) -> "ServiceType":
    from posthouse.core.service_type import ROWS, ServiceType, scheme_of

    if given:
        if given not in list(ServiceType):
            raise Stop(Exit.USAGE, f"{given!r} is no service type.", remedy=f"Types: {', '.join(ServiceType)}.")
        return ServiceType(given)
    scheme = specification.partition("://")[0].lower() if "://" in specification else "smtp"
    return next((candidate for candidate in ROWS if scheme_of(candidate, scheme)), ServiceType.SMTP)
