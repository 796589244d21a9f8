"""`posthouse profile add|edit|order|remove`: changes of server profiles, through REST.

A profile is tested before it is saved. If the test fails its ladder is shown, and how to save it all the same.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from posthouse.cli import profile_flags as flags
from posthouse.cli.errors import Exit, Stop
from posthouse.cli.ladder import show_ladder
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, show_json, waiting
from posthouse.cli.profile_documents import mark_text, profile_of
from posthouse.cli.remote import Remote, segment

PROFILES = "/api/v1/server-profiles"

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `posthouse profile`."""
    for name, command in (("add", add), ("edit", edit), ("order", order), ("remove", remove)):
        app.command(name)(command)


def add(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="May be left out with --file.")] = "",
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="Service type.")] = "smtp",
    servers: flags.Servers = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Take it from this inventory or profile (TOML or JSON)."),
    ] = None,
    preference: flags.Preference = None,
    tls: flags.Tls = None,
    tls_verify: flags.TlsVerify = None,
    tls_name: flags.TlsName = None,
    tls_ca: flags.TlsCa = None,
    tls_pin: flags.TlsPin = None,
    tls_min: flags.TlsMin = None,
    username: flags.Username = None,
    password_env: flags.PasswordEnv = None,
    password_file: flags.PasswordFile = None,
    password_prompt: flags.PasswordPrompt = False,
    api_key_env: flags.ApiKeyEnv = None,
    api_key_file: flags.ApiKeyFile = None,
    api_key_prompt: flags.ApiKeyPrompt = False,
    client_certificate: flags.ClientCertificate = None,
    allow_plaintext_auth: flags.PlaintextAuth = None,
    pool: flags.Pool = None,
    pool_connections: flags.Connections = None,
    pool_expiry: flags.Expiry = None,
    pool_max_age: flags.MaxAge = None,
    pool_max_messages: flags.MaxMessages = None,
    public_url: flags.PublicUrl = None,
    details_pattern: flags.DetailsPattern = None,
    batch_pattern: flags.BatchPattern = None,
    force: flags.Force = False,
    reason: flags.Reason = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Add a server profile, from flags or a file, once its test has passed; it is in force within a second."""
    if file is None and not name:
        raise Stop(Exit.USAGE, "Which server profile?", remedy="Give NAME, or --file FILE.")
    parameters = flags.forcing(force, reason)
    document = profile_of(file, name) if file is not None else {"name": name, "type": type_}
    document = flags.laid_over(
        document,
        {
            "servers": servers,
            "preference": preference,
            "tls": tls,
            "tls_verify": tls_verify,
            "tls_name": tls_name,
            "tls_ca": tls_ca,
            "tls_pin": tls_pin,
            "tls_min": tls_min,
            "username": username,
            "password": flags.secret_of("password", password_env, password_file, password_prompt),
            "api_key": flags.secret_of("API key", api_key_env, api_key_file, api_key_prompt),
            "client_certificate": client_certificate,
            "allow_plaintext_auth": allow_plaintext_auth,
            "public_url": public_url,
            "details_pattern": details_pattern,
            "batch_pattern": batch_pattern,
        },
        {
            "enabled": pool,
            "connections": pool_connections,
            "expiry_seconds": pool_expiry,
            "max_age_seconds": pool_max_age,
            "max_messages": pool_max_messages,
        },
    )
    name = str(document.get("name", name))
    with Remote(server, data_dir) as remote:
        saved = tested(name, as_json, lambda: remote.post(PROFILES, document, parameters))
    _done(saved, as_json, f"Server profile {saved.get('name')} is added: {mark_text(saved.get('tested'))}.")


def edit(
    name: NameArgument,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Rename it; rules follow.")] = None,
    servers: flags.Servers = None,
    preference: flags.Preference = None,
    tls: flags.Tls = None,
    tls_verify: flags.TlsVerify = None,
    tls_name: flags.TlsName = None,
    tls_ca: flags.TlsCa = None,
    tls_pin: flags.TlsPin = None,
    tls_min: flags.TlsMin = None,
    username: flags.Username = None,
    password_env: flags.PasswordEnv = None,
    password_file: flags.PasswordFile = None,
    password_prompt: flags.PasswordPrompt = False,
    api_key_env: flags.ApiKeyEnv = None,
    api_key_file: flags.ApiKeyFile = None,
    api_key_prompt: flags.ApiKeyPrompt = False,
    client_certificate: flags.ClientCertificate = None,
    allow_plaintext_auth: flags.PlaintextAuth = None,
    pool: flags.Pool = None,
    pool_connections: flags.Connections = None,
    pool_expiry: flags.Expiry = None,
    pool_max_age: flags.MaxAge = None,
    pool_max_messages: flags.MaxMessages = None,
    public_url: flags.PublicUrl = None,
    details_pattern: flags.DetailsPattern = None,
    batch_pattern: flags.BatchPattern = None,
    force: flags.Force = False,
    reason: flags.Reason = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Change what is given of a server profile, once its test has passed; the rest stays, secrets too."""
    parameters = flags.forcing(force, reason)
    values: dict[str, object] = {
        "name": new_name,
        "servers": servers,
        "preference": preference,
        "tls": tls,
        "tls_verify": tls_verify,
        "tls_name": tls_name,
        "tls_ca": tls_ca,
        "tls_pin": tls_pin,
        "tls_min": tls_min,
        "username": username,
        "password": flags.secret_of("password", password_env, password_file, password_prompt),
        "api_key": flags.secret_of("API key", api_key_env, api_key_file, api_key_prompt),
        "client_certificate": client_certificate,
        "allow_plaintext_auth": allow_plaintext_auth,
        "public_url": public_url,
        "details_pattern": details_pattern,
        "batch_pattern": batch_pattern,
    }
    kept = {
        "enabled": pool,
        "connections": pool_connections,
        "expiry_seconds": pool_expiry,
        "max_age_seconds": pool_max_age,
        "max_messages": pool_max_messages,
    }
    with Remote(server, data_dir) as remote:
        read, tag = remote.tagged(f"{PROFILES}/{segment(name)}")
        saved = put(remote, name, flags.laid_over(read, values, kept), tag, as_json, parameters)
    if saved == read:
        _done(saved, as_json, f"Server profile {saved.get('name')} is as it was already.")
        return
    _done(saved, as_json, f"Server profile {saved.get('name')} is changed: {mark_text(saved.get('tested'))}.")


def order(
    name: NameArgument,
    servers: Annotated[list[str], typer.Argument(metavar="SERVER...", help="All its servers, first one first.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Put the servers of a profile in another order."""
    with Remote(server, data_dir) as remote:
        saved = remote.post(f"{PROFILES}/{segment(name)}/order", {"servers": servers})
    ordered = " > ".join(str(one) for one in cast(list[object], saved["servers"]))
    _done(saved, as_json, f"Server profile {saved.get('name')}: {ordered}.")


def remove(
    name: NameArgument,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Remove a server profile that no rule and no setting names."""
    with Remote(server, data_dir) as remote:
        remote.call("DELETE", f"{PROFILES}/{segment(name)}")
    _done({"removed": name}, as_json, f"Server profile {name} is removed.")


def put(
    remote: Remote,
    name: str,
    document: Mapping[str, object],
    tag: str,
    as_json: bool,
    parameters: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Saves a whole profile in the place of the one that was read with this ETag."""
    path = f"{PROFILES}/{segment(name)}"
    return tested(name, as_json, lambda: remote.call("PUT", path, parameters, document, tag))


def tested(name: str, as_json: bool, save: Callable[[], dict[str, object]]) -> dict[str, object]:
    """What `save` answers; a test that has failed is shown whole, with the way out."""
    try:
        with waiting(f"Testing {name} ..."):
            return save()
    except Stop as stop:
        test = stop.more.get("test")
        if as_json or not isinstance(test, Mapping):
            raise
        show_ladder(name, test)
        remedy = "Mend it, or save it untested with --force --reason TEXT."
        raise Stop(stop.code, "The test failed: nothing is saved.", remedy=remedy) from stop


def _done(document: Mapping[str, object], as_json: bool, said: str) -> None:
    if as_json:
        show_json(document)
    else:
        line(said)
