"""Options that many commands share."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document instead of text.")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="POSTHOUSE_SERVER",
        metavar="URL",
        help="Console of the running node; default: as the data dir says, else http://127.0.0.1:8025.",
    ),
]
DataDirOption = Annotated[
    str,
    typer.Option("--data-dir", envvar="POSTHOUSE_DATA_DIR", metavar="DIR", help="Folder of the node's data."),
]
DEFAULT_DATA_DIR = "./posthouse-data"
MailIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of mails.")]
