"""`posthouse config`: the inventory as a file: export, diff, apply."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from posthouse.cli.changes import STYLE, change_text
from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import cell, console, line, show_json
from posthouse.cli.remote import Remote
from posthouse.cli.trail import mappings

app = typer.Typer(help="The configuration that all nodes share, as a file.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="inventory.toml, or .json; - for standard input.")]
PruneOption = Annotated[bool, typer.Option("--prune", help="Remove what the file does not name.")]


@app.command()
def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file. One that is there keeps its comments and layout: only what differs is changed.",
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Write FILE anew, without what it has.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """The inventory in force, as inventory.toml: profiles by name, rules in their order."""
    from posthouse.cli.inventory_file import to_toml

    with Remote(server, data_dir) as remote:
        document = remote.get("/api/v1/config")
    if output is None:
        if as_json:
            show_json(document)
        else:
            sys.stdout.write(to_toml(document))
        return
    try:
        if as_json:
            text = to_json(document)
        elif anew or not output.exists():
            text = to_toml(document)
        else:
            text = _merged(output, document)
        _replace(output, text)
    except OSError as fault:
        raise Stop(Exit.FAULT, f"{output} cannot be written: {fault.strerror}.") from fault


def _merged(file: Path, document: dict[str, object]) -> str:
    from posthouse.cli.inventory_file import NotMergeable, faults_of, merge_into

    remedy = "Mend it, write to another file, or give --anew, which leaves nothing of it."
    try:
        text = file.read_bytes().decode("utf-8")
        if faults := faults_of(text):
            raise Stop(Exit.FAULT, f"{file} is no inventory that could be brought up to date.", faults, remedy)
        return merge_into(text, document)
    except UnicodeDecodeError as fault:
        raise Stop(Exit.FAULT, f"{file} is not UTF-8 text.", remedy=remedy) from fault
    except NotMergeable as fault:
        raise Stop(Exit.FAULT, f"{file} cannot be brought up to date: {fault}.", remedy=remedy) from fault


def _replace(file: Path, text: str) -> None:
    """Whole or not at all; mode, owner and place of a file that is there stay, also where it is a link."""
    if not file.is_file():
        file.write_bytes(text.encode())
        return
    target = file.resolve()
    facts, draft = target.stat(), target.with_name(f"{target.name}.new")
    try:
        draft.touch(0o600)
        draft.write_bytes(text.encode())
        with suppress(PermissionError):
            os.chown(draft, facts.st_uid, facts.st_gid)
        draft.chmod(facts.st_mode & 0o7777)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@app.command()
def diff(
    file: FileArgument,
    prune: PruneOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 if there are differences.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """What applying a file would change. Exit 0 whether it would change something or not, unless --exit-code."""
    document = read_document(file)
    with Remote(server, data_dir) as remote:
        answer = remote.post("/api/v1/config/diff", document, {"prune": prune})
    _show(answer, as_json)
    if exit_code and answer["changes"]:
        raise typer.Exit(Exit.FAULT)


@app.command()
def apply(
    file: FileArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate and compare only.")] = False,
    prune: PruneOption = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Put a file in force: what it names is overwritten, what it does not name stays."""
    document = read_document(file)
    with Remote(server, data_dir) as remote:
        answer = remote.post("/api/v1/config/apply", document, {"prune": prune, "dry_run": dry_run})
    _show(answer, as_json)
    if not as_json:
        line("Nothing was changed: dry run." if dry_run else f"In force: revision {answer['revision']}.")


def read_document(file: Path) -> dict[str, object]:
    """A TOML file, or JSON if it is named so or begins with a brace, as the document that REST takes."""
    import json

    from posthouse.core.inventory import load_toml

    try:
        octets = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = octets.decode("utf-8")
    except OSError as fault:
        raise Stop(Exit.FAULT, f"{file} cannot be read: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise Stop(Exit.FAULT, f"{file} is not UTF-8 text.") from fault
    if file.suffix == ".json" or text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as fault:
            raise Stop(Exit.FAULT, f"{file} is no JSON: {fault}.") from fault
        if not isinstance(document, dict):
            raise Stop(Exit.FAULT, f"{file} holds no JSON object.")
        return document
    document, toml_fault = load_toml(text)
    if toml_fault is not None:
        raise Stop(Exit.FAULT, f"{file} cannot be used.", [toml_fault])
    return jsonable(document)


def jsonable(document: dict[str, object]) -> dict[str, object]:
    """TOML has dates and not-a-number, which JSON has not: they go as text, and the node tells what is wrong."""

    def convert(value: object) -> object:
        if isinstance(value, dict):
            return {name: convert(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [convert(entry) for entry in value]
        if isinstance(value, bool | int | str) or (isinstance(value, float) and abs(value) < float("inf")):
            return value
        return str(value)

    return {name: convert(value) for name, value in document.items()}


def to_json(document: dict[str, object]) -> str:
    """As `--json` writes it to a file."""
    import json

    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _show(answer: dict[str, object], as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    changes = mappings(answer["changes"])
    if not changes:
        line("No differences.")
    for change in changes:
        console().print(cell(change_text(change), STYLE.get(str(change.get("change")), "")))
