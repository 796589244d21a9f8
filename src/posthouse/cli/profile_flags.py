"""Flags of `profile add` and `profile edit`, and the properties that they give. No secret stands in any of them."""

from collections.abc import Mapping
from typing import Annotated

import typer

from posthouse.cli.errors import Exit, Stop

Document = Mapping[str, object]
Text = str | None


def _text(flag: str, metavar: str, about: str) -> object:
    return typer.Option(flag, metavar=metavar, help=f"{about}; '' for the default.")


Servers = Annotated[
    list[str] | None,
    typer.Option("--servers", metavar="URI", help="Such as 10.0.0.1 or smtps://mail.example; may be repeated."),
]
Preference = Annotated[Text, _text("--preference", "WORD", "failover, round-robin or random-start")]
Tls = Annotated[Text, _text("--tls", "WORD", "none, starttls-optional or starttls-required")]
TlsVerify = Annotated[Text, _text("--tls-verify", "WORD", "verify, pinned or none")]
TlsName = Annotated[Text, _text("--tls-name", "NAME", "Name in the certificate")]
TlsCa = Annotated[Text, _text("--tls-ca", "FILE", "Trusted certificates (PEM), on the nodes")]
TlsPin = Annotated[Text, _text("--tls-pin", "SHA256", "Of the certificate, for pinned; several with spaces between")]
TlsMin = Annotated[Text, _text("--tls-min", "VERSION", "1.2 or 1.3")]
Username = Annotated[Text, _text("--username", "NAME", "Login at the server")]
PasswordEnv = Annotated[Text, typer.Option("--password-env", metavar="VARIABLE", help="The nodes' variable with it.")]
PasswordFile = Annotated[Text, typer.Option("--password-file", metavar="FILE", help="The nodes' file with it.")]
PasswordPrompt = Annotated[bool, typer.Option("--password-prompt", help="Ask for it here, and store it encrypted.")]
ApiKeyEnv = Annotated[Text, typer.Option("--api-key-env", metavar="VARIABLE", help="The nodes' variable with it.")]
ApiKeyFile = Annotated[Text, typer.Option("--api-key-file", metavar="FILE", help="The nodes' file with it.")]
ApiKeyPrompt = Annotated[bool, typer.Option("--api-key-prompt", help="Ask for it here, and store it encrypted.")]
ClientCertificate = Annotated[
    bool | None, typer.Option("--client-certificate/--no-client-certificate", help="Show the digital ID.")
]
PlaintextAuth = Annotated[
    bool | None,
    typer.Option("--allow-plaintext-auth/--no-allow-plaintext-auth", help="Send the password without TLS."),
]
Pool = Annotated[bool | None, typer.Option("--pool/--no-pool", help="Keep idle SMTP connections.")]
Connections = Annotated[int | None, typer.Option("--pool-connections", metavar="N", help="Most kept idle.")]
Expiry = Annotated[int | None, typer.Option("--pool-expiry", metavar="SECONDS", help="Idle before one is closed.")]
MaxAge = Annotated[int | None, typer.Option("--pool-max-age", metavar="SECONDS", help="Age past which none is kept.")]
MaxMessages = Annotated[
    int | None, typer.Option("--pool-max-messages", metavar="N", help="Mails, then closed; 0: any.")
]
PublicUrl = Annotated[Text, _text("--public-url", "URL", "Base of the links to scan details")]
DetailsPattern = Annotated[
    Text, _text("--details-pattern", "PATTERN", "Such links, with {base}, {data_id} and {batch_id}")
]
BatchPattern = Annotated[Text, _text("--batch-pattern", "PATTERN", "The same for all files of a mail")]
Force = Annotated[bool, typer.Option("--force", help="Save it untested; needs --reason. Values are still validated.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is saved untested.")]


def secret_of(name: str, env: Text, file: Text, prompt: bool) -> object:
    """What is given of a secret: a reference, a text that is asked for, or None for nothing."""
    if sum((env is not None, file is not None, prompt)) > 1:
        raise Stop(Exit.USAGE, f"The {name} is given twice.", remedy="Give one of -env, -file and -prompt.")
    if env is not None:
        return {"env": env}
    if file is not None:
        return {"file": file}
    return str(typer.prompt(name.capitalize(), hide_input=True, err=True)) if prompt else None


def laid_over(document: Document, values: Document, pool: Document) -> dict[str, object]:
    """`document` with what the flags give: None is not given, an empty text takes the default."""
    changed = {
        **document,
        **{name: None if value == "" else value for name, value in values.items() if value is not None},
    }
    if values.get("username") == "" and values.get("password") is None:
        changed["password"] = None
    given = {name: value for name, value in pool.items() if value is not None}
    if given:
        before = document.get("pool")
        changed["pool"] = {**(before if isinstance(before, Mapping) else {}), **given}
    return changed


def forcing(force: bool, reason: str) -> dict[str, object]:
    """Parameters of the request. Stop if a profile is to be saved untested without a reason."""
    if reason and not force:
        raise Stop(Exit.USAGE, "A reason goes with --force.", remedy="Add --force to save it untested.")
    if force and not reason:
        raise Stop(Exit.USAGE, "Why is it saved untested?", remedy="Give --reason TEXT; others will read it.")
    return {"force": True, "reason": reason} if force else {}
