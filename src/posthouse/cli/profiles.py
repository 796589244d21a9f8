"""`posthouse profile` and `posthouse uri`: server profiles, and whether a server specification is right."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.ladder import show_growing, show_ladder
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, pairs, show_json, table, waiting
from posthouse.cli.profile_documents import mark_text, profile_of
from posthouse.cli.profile_state import show_servers
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
        answer = remote.whole("/api/v1/server-profiles")
    if as_json:
        show_json(answer)
        return
    table(
        ("Name", "Type", "Preference", "Encryption", "Servers", "Test"),
        (
            (
                profile.get("name"),
                profile.get("type"),
                profile.get("preference"),
                profile.get("tls"),
                ", ".join(str(one) for one in cast(list[object], profile.get("servers", []))),
                mark_text(profile.get("tested")),
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
        used = {"rules": state["rules"], "own_mail": state["own_mail"]}
        show_json({**profile, "state": state["servers"], **used, "advice": advice})
        return
    servers = cast(list[object], profile.pop("servers", []))
    pool = profile.pop("pool", None)
    profile["tested"] = mark_text(profile.get("tested"))
    pairs(profile)
    if isinstance(pool, dict):
        pairs({f"pool.{key}": value for key, value in pool.items()})
    if rules := cast(list[object], state["rules"]):
        line(f"used by rules: {', '.join(map(str, rules))}")
    if state["own_mail"]:
        line("used by own_mail of this node")
    live = profile["type"] != "metadefender-vault"
    show_servers(servers, cast(list[dict[str, object]], state["servers"]) if live else [])
    for one in advice:
        grave = "GRAVE: " if one["grave"] else ""
        typer.echo(f"{one['field']}: {grave}{one['sentence']}", err=True)


@app.command("test")
def try_out(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of a saved server profile, or of one in FILE.")] = "",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Test a profile of this inventory (TOML or JSON).")
    ] = None,
    recipient: Annotated[
        str, typer.Option("--rcpt", metavar="ADDRESS", help="Ask each server for this address; no mail is sent.")
    ] = "",
    sender: Annotated[str, typer.Option("--from", metavar="ADDRESS", help="Sender to ask with; needs --rcpt.")] = "",
    pin: Annotated[
        bool, typer.Option("--pin", help="Trust the certificates seen, and only those, once you have compared them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before pinning.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Open a session at every server of a profile as delivery does, and tell where it fails and what to do.

    No mail is sent. Exit 0 if every server can be used, 1 if not; with --pin 0 once the pins are saved.
    """
    asked: dict[str, object] = {"rcpt_to": recipient or None, "mail_from": sender or None}
    asked = {key: value for key, value in asked.items() if value is not None}
    if not name and file is None:
        raise Stop(Exit.USAGE, "Which server profile?", remedy="Give NAME, or --file FILE.")
    if pin and file is not None:
        raise Stop(Exit.USAGE, "Certificates are pinned in saved profiles only.", remedy="Leave out --file.")
    with Remote(server, data_dir) as remote:
        if file is None:
            path, body = f"/api/v1/server-profiles/{segment(name)}/test", asked
        else:
            path, body = _unsaved(remote, file, name)
            name, body = str(body.get("name", "")), {**body, **asked}
        if as_json or not sys.stdout.isatty():
            with waiting(f"Testing {name} ..."):
                result = remote.post(path, body)
        else:
            result = dict(show_growing(remote.lines(path, body)))
        if not as_json:
            show_ladder(name, result)
        elif not pin:
            show_json(result)
        if pin:
            from posthouse.cli.pinning import pin as pin_seen

            pin_seen(remote, name, result, yes=yes, as_json=as_json)
            return
    if not result["ok"]:
        raise typer.Exit(Exit.FAULT)


def _unsaved(remote: Remote, file: Path, name: str) -> tuple[str, dict[str, object]]:
    """Path and body for a profile of a file. One that is saved already is tested as applying the file would leave it:
    what the file does not give is the default, and a stored secret stays."""
    from posthouse.core.fields import name_key
    from posthouse.core.kept_secret import has_use
    from posthouse.core.profile import KEPT, PROFILE_FIELDS, SECRET_FIELDS

    given = profile_of(file, name)
    for saved in cast(list[dict[str, object]], remote.whole("/api/v1/server-profiles")["items"]):
        if name_key(str(saved["name"])) == name_key(str(given.get("name"))):
            kept = {field for field in SECRET_FIELDS if saved.get(field) == KEPT and has_use(given, field)}
            whole = {spec.name: None for spec in PROFILE_FIELDS if spec.name not in kept}
            return f"/api/v1/server-profiles/{segment(str(saved['name']))}/test", {**whole, **given}
    return "/api/v1/server-profile-tests", given


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
