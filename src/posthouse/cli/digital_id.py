"""`posthouse digital-id`: the certificate and key of a running node, and the own CAs that it trusts."""

import base64
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, moment, pairs, show_json, table
from posthouse.cli.remote import Remote

app = typer.Typer(help="The node's digital ID (certificate and key), and its own CAs.", no_args_is_help=True)
authorities = typer.Typer(help="Own CAs, trusted besides those of the system.", no_args_is_help=True)
app.add_typer(authorities, name="ca")

PATH, AUTHORITIES = "/api/v1/digital-id", "/api/v1/certificate-authorities"
PASSPHRASE = "POSTHOUSE_PASSPHRASE"  # noqa: S105  # the name of a variable
LARGEST = 1024**2
ID_LEAST = 8

NameOption = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="Name or address for the certificate; may repeat.")
]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=3650, help="Validity of the certificate.")]
RsaOption = Annotated[bool, typer.Option("--rsa", help="A key of RSA 3072 instead of ECDSA P-256.")]


@app.command()
def show(
    as_json: JsonOption = False, server: ServerOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """The certificate in force, who uses it, and how long it holds; warnings go to stderr."""
    with Remote(server, data_dir) as remote:
        _show(remote.get(PATH), as_json)


@app.command()
def generate(
    names: NameOption = None,
    days: DaysOption = 825,
    rsa: RsaOption = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also one that a CA has issued.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Make a key and a self-signed certificate; in force at once."""
    body = {"names": names or [], "days": days, "key": _key_type(rsa), "replace": replace}
    with Remote(server, data_dir) as remote:
        _show(remote.post(f"{PATH}/generate", body), as_json)


@app.command()
def renew(
    days: DaysOption = 825,
    new_key: Annotated[bool, typer.Option("--new-key", help="With another key.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Renew a self-signed certificate; in force at once."""
    with Remote(server, data_dir) as remote:
        _show(remote.post(f"{PATH}/renew", {"days": days, "new_key": new_key}), as_json)


@app.command()
def request(
    names: NameOption = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Not with the key in force.")] = False,
    rsa: RsaOption = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also one that waits for its certificate; its key is forgotten.")
    ] = False,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write the request there.")] = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Make a certificate request (PEM) for a CA; import what the CA gives, without a key."""
    if rsa and not new_key:
        raise Stop(Exit.USAGE, "--rsa is for a new key.", remedy="Give --new-key, too.")
    with Remote(server, data_dir) as remote:
        body = {"names": names or [], "key": _key_type(rsa), "new_key": new_key, "replace": replace}
        answer = remote.post(f"{PATH}/request", body)
    if out is not None:
        try:
            Path(out).write_text(str(answer["request"]), "ascii")
        except OSError as error:
            remedy = "`posthouse digital-id show --json` has the request."
            raise Stop(Exit.FAULT, f"{out} cannot be written: {error.strerror}.", remedy=remedy) from error
    if as_json:
        show_json(answer)
    elif out is None:
        sys.stdout.write(str(answer["request"]))
    typer.echo(f"For {', '.join(cast(list[str], answer['names']))}, {answer['key']}.", err=True)


@app.command("import")
def import_(
    certificate: Annotated[str, typer.Argument(metavar="FILE", help="Certificate and chain (PEM), or PKCS#12.")],
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="Private key (PEM); default: one that the node has.")
    ] = None,
    passphrase_file: Annotated[
        str | None,
        typer.Option(
            "--passphrase-file", metavar="FILE", help=f"Its first line; else {PASSPHRASE}, else it is asked for."
        ),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Put a certificate and its key in force, at once."""
    octets = _read(certificate)
    secret = b"" if key is None else _read(key)
    body: dict[str, object]
    if b"-----BEGIN" in octets:
        body = {"certificate": _text(certificate, octets), "private_key": _text(key or "", secret)}
        encrypted = b"ENCRYPTED" in octets + secret
    else:
        if key is not None:
            raise Stop(Exit.USAGE, f"{certificate} is no PEM.", remedy="A PKCS#12 file is given without --key.")
        body = {"pkcs12": base64.b64encode(octets).decode("ascii")}
        encrypted = True
    passphrase = _passphrase(passphrase_file, ask=encrypted)
    if passphrase:
        body["passphrase"] = passphrase
    with Remote(server, data_dir) as remote:
        _show(remote.post(f"{PATH}/import", body), as_json)


@authorities.command("list")
def list_authorities(
    as_json: JsonOption = False, server: ServerOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """The own CAs of the node."""
    with Remote(server, data_dir) as remote:
        answer = remote.get(AUTHORITIES)
    if as_json:
        show_json(answer)
        return
    _table(cast(list[dict[str, object]], answer["items"]))


@authorities.command("add")
def add_authority(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One or more certificates of CAs (PEM).")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Trust CAs besides those of the system, for server profiles without tls_ca."""
    with Remote(server, data_dir) as remote:
        answer = remote.post(AUTHORITIES, {"certificate": _text(file, _read(file))})
    if as_json:
        show_json(answer)
        return
    _table(cast(list[dict[str, object]], answer["items"]))


@authorities.command("remove")
def remove_authority(
    authority: Annotated[str, typer.Argument(metavar="ID", help="SHA-256, or as much of it as is unique.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Trust a CA no longer."""
    wanted = authority.replace(":", "").strip().lower()
    with Remote(server, data_dir) as remote:
        known = [str(each["id"]) for each in cast(list[dict[str, object]], remote.get(AUTHORITIES)["items"])]
        found = [each for each in known if each.startswith(wanted)]
        if len(found) != 1 or len(wanted) < ID_LEAST:
            remedy = f"`posthouse digital-id ca list` shows them; give {ID_LEAST} digits at least."
            raise Stop(Exit.FAULT, f"{authority!r} names {len(found)} own CAs.", remedy=remedy)
        remote.call("DELETE", f"{AUTHORITIES}/{found[0]}")
    if as_json:
        show_json({"removed": found[0]})
        return
    line(f"{found[0]} is trusted no longer.")


def _show(answer: Mapping[str, object], as_json: bool) -> None:
    """The state as REST answers it."""
    if as_json:
        show_json(answer)
    elif answer["fault"]:
        line(f"The digital ID cannot be read: {answer['fault']}")
        line("Do as it says, or put another one in force: `posthouse digital-id import FILE` or `generate`.")
    elif (own := cast(Mapping[str, object] | None, answer["certificate"])) is None:
        line("There is no digital ID yet: it is made when something needs it, or by generate or import.")
    else:
        chain = cast(Sequence[Mapping[str, object]], answer["chain"])
        pairs(
            {
                "subject": own["subject"],
                "names": ", ".join(cast(list[str], own["names"])),
                "issuer": "itself (self-signed)" if own["self_signed"] else own["issuer"],
                "chain": " < ".join(str(each["subject"]) for each in chain) or "none",
                "serial": own["serial"],
                "sha256": f"{own['sha256']}  (as tls_pin)",
                "key": own["key"],
                "valid": f"{moment(own['not_before'])} to {moment(own['not_after'])}, {own['days_left']} days left",
                "used by": _used(cast(Mapping[str, object], answer["used_by"])),
            }
        )
    waiting = cast(Mapping[str, object] | None, answer["request"])
    if waiting is not None:
        typer.echo(
            f"A request for {', '.join(cast(list[str], waiting['names']))} waits for its certificate.", err=True
        )
    for warning in cast(list[str], answer["warnings"]):
        typer.echo(f"warning: {warning}", err=True)


def _used(by: Mapping[str, object]) -> str:
    listeners, profiles = cast(list[str], by["listeners"]), cast(list[str], by["server_profiles"])
    users = [f"listener {each}" for each in listeners] + [f"server profile {each}" for each in profiles]
    return ", ".join([*users, "the console"] if by["console"] else users) or "nothing"


def _table(items: Sequence[Mapping[str, object]]) -> None:
    table(
        ("Id", "Subject", "Until", "Days left", ""),
        (
            (each["id"], each["subject"], moment(each["not_after"]), each["days_left"], each["warning"])
            for each in items
        ),
        "There are no own CAs.",
    )


def _key_type(rsa: bool) -> str:
    return "rsa-3072" if rsa else "ecdsa-p256"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            octets = file.read(LARGEST + 1)
    except OSError as error:
        raise Stop(Exit.FAULT, f"{path} cannot be read: {error.strerror}.") from error
    if len(octets) > LARGEST:
        raise Stop(Exit.FAULT, f"{path} is too large for a certificate or key.")
    return octets


def _text(path: str, octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Stop(
            Exit.FAULT, f"{path} is no PEM.", remedy="Convert it with `openssl x509` or `openssl pkey`."
        ) from None


def _passphrase(file: str | None, *, ask: bool) -> str:
    """Of the file, the environment or the terminal; never of the command line, which others can see."""
    if file is not None:
        return _text(file, _read(file)).partition("\n")[0].rstrip("\r")
    given = os.environ.get(PASSPHRASE, "")
    if given or not ask or not sys.stdin.isatty():
        return given
    return str(typer.prompt("Passphrase (empty for none)", hide_input=True, default="", show_default=False, err=True))
