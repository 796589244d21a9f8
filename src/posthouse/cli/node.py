"""`posthouse serve`, `demo`, `health` and `version`: a node as a whole."""

from typing import Annotated

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, pairs, show_json
from posthouse.cli.remote import Remote


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command()(serve)
    app.command()(demo)
    app.command()(health)
    app.command()(version)


def serve(
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="posthouse.toml: settings of this node.")
    ] = None,
    inventory: Annotated[
        str | None, typer.Option("--inventory", metavar="FILE", help="Server profiles and rules to put in force.")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the node's data; ./posthouse-data.")
    ] = None,
    smtp: Annotated[
        str | None, typer.Option("--smtp", metavar="HOST:PORT", help="SMTP listener; 127.0.0.1:2525.")
    ] = None,
    console: Annotated[
        str | None, typer.Option("--console", metavar="HOST:PORT", help="Console and REST; 127.0.0.1:8025.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=256, metavar="N", help="Worker processes.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove profiles and rules that the inventory file does not name.")
    ] = False,
) -> None:
    """Run a node: receive, match, relay. `ready` on stdout once it does."""
    from posthouse.app.serve import serve as serve_node

    given = {
        "data_dir": data_dir,
        "smtp": smtp,
        "console": console,
        "workers": None if workers is None else str(workers),
    }
    flags = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(serve_node(config, inventory, flags, prune))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder when the demo ends.")] = False,
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", metavar="DIR", help="Use this folder instead of a temporary one.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the story is told.")] = False,
) -> None:
    """See mail pass and fail over: a node with its own next hops, on loopback only."""
    from posthouse.lab import demo as lab_demo

    raise typer.Exit(lab_demo.run(keep, data_dir, once))


def health(
    as_json: JsonOption = False, server: ServerOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Exit 0 if the node is ready, 3 if not; for supervisors and containers."""
    with Remote(server, data_dir, login=False) as remote:
        answer = remote.get("/readyz")
        address = remote.server
    if answer.get("ready") is not True:
        raise Stop(Exit.UNREACHABLE, f"{address} is not ready.")
    if as_json:
        show_json({**answer, "server": address})
        return
    line(f"{address} is ready, {answer.get('workers')} workers.")


def version(as_json: JsonOption = False) -> None:
    """The version of this program."""
    from platform import python_version

    from posthouse import __version__

    if as_json:
        show_json({"version": __version__, "python": python_version()})
        return
    pairs({"posthouse": __version__, "python": python_version()})
