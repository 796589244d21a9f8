"""`posthouse mail`: where is my mail, and what happened to it."""

from typing import Annotated

import typer

from posthouse.cli import trail
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, moment, octets, pairs, show_json, table
from posthouse.cli.remote import Remote, segment

app = typer.Typer(help="Mails: search them, and read what happened to each.", no_args_is_help=True)

MailIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id in `250 2.0.0 queued as ID`.")]


@app.command("list")
def list_(
    sender: Annotated[str, typer.Option("--from", metavar="TEXT", help="Part of the reverse-path.")] = "",
    to: Annotated[str, typer.Option("--to", metavar="TEXT", help="Part of a recipient's address.")] = "",
    subject: Annotated[str, typer.Option("--subject", metavar="TEXT", help="Part of the subject.")] = "",
    status: Annotated[
        str,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="queued, held, relayed, failed, deleted, quarantined, discarded or rejected.",
        ),
    ] = "",
    rule: Annotated[str, typer.Option("--rule", metavar="NAME", help="Security rule that matched.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="ISO 8601 or epoch seconds.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="ISO 8601 or epoch seconds.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Mails at most.")] = 50,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Search mails, newest first."""
    filters = {
        "from": sender,
        "to": to,
        "subject": subject,
        "status": status,
        "rule": rule,
        "since": since,
        "until": until,
    }
    with Remote(server, data_dir) as remote:
        mails = list(remote.pages("/api/v1/mails", filters, limit))
    if as_json:
        show_json({"items": mails, "next": None})
        return
    table(
        ("Id", "Received", "From", "To", "Subject", "Receiving", "Delivery"),
        (
            (
                mail.get("id"),
                moment(mail.get("received_at")),
                mail.get("reverse_path") or "<>",
                _to(mail),
                mail.get("subject"),
                trail.receiving(mail),
                trail.delivery(mail),
            )
            for mail in mails
        ),
        "No mail matches.",
    )


@app.command()
def show(
    mail_id: MailIdArgument,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """One mail: envelope, session, where each recipient stands, and the way of each attempt."""
    mail = _fetch(mail_id, server, data_dir)
    if as_json:
        show_json(mail)
        return
    session = trail.mapping(mail.get("session"))
    recipients = trail.mappings(mail.get("recipients"))
    pairs(
        {
            "Id": mail.get("id"),
            "Received": moment(mail.get("received_at")),
            "From": mail.get("reverse_path") or "<>",
            "Subject": mail.get("subject"),
            "Message-ID": mail.get("message_id"),
            "Size": octets(mail.get("size")),
            "Client": f"{session.get('client_address', '')} ({session.get('helo', '')})",
            "Protocol": " ".join(str(session[name]) for name in ("protocol", "tls") if session.get(name)),
            "Receiving": trail.receiving(mail),
            "Delivery": trail.delivery(mail),
        }
    )
    line("")
    table(
        ("Recipient", "State", "Rule", "Profile", "Next attempt", "Tries", "Last result"),
        (
            (
                r.get("address"),
                r.get("state"),
                r.get("rule"),
                r.get("profile"),
                moment(r.get("due_at")) if r.get("state") == "queued" else "",
                r.get("tries"),
                r.get("detail"),
            )
            for r in recipients
        ),
        "It has no recipients.",
    )
    waiting = {r.get("profile"): r.get("waits_for") for r in recipients if r.get("waits_for")}
    for profile, why in waiting.items():
        line(f"{profile} waits for {why}")
    line("")
    table(
        ("Attempt", "Server", "Outcome", "Way"),
        (
            (
                moment(a.get("started_at")),
                a.get("server"),
                ", ".join([str(a.get("outcome")), *trail.marks(a)]),
                trail.way(a),
            )
            for a in trail.mappings(mail.get("attempts"))
        ),
        "No server was addressed yet.",
    )


@app.command()
def trace(
    mail_id: MailIdArgument,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """The trail: session, rule and reasons, order of servers, each attempt with its replies."""
    mail = _fetch(mail_id, server, data_dir)
    if as_json:
        show_json(mail)
        return
    trail.show(mail)


def _fetch(mail_id: str, server: str | None, data_dir: str) -> dict[str, object]:
    with Remote(server, data_dir) as remote:
        return remote.get(f"/api/v1/mails/{segment(mail_id)}")


def _to(mail: dict[str, object]) -> str:
    recipients = trail.mappings(mail.get("recipients"))
    first = str(recipients[0].get("address")) if recipients else ""
    count = mail.get("recipient_count")
    more = (count if isinstance(count, int) else len(recipients)) - 1
    return f"{first} +{more}" if more > 0 else first
