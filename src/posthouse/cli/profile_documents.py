"""Server profiles as commands read and show them: one of a file, and its mark in words."""

from pathlib import Path

from posthouse.cli.config import read_document
from posthouse.cli.errors import Exit, Stop
from posthouse.cli.output import moment


def mark_text(mark: object) -> str:
    """What is known of a profile's test, in words."""
    if not isinstance(mark, dict):
        return "not known"
    by, at, reason = mark.get("by"), moment(mark.get("at")), mark.get("reason")
    why = f": {reason}" if reason else ""
    match mark.get("state"):
        case "passed":
            return f"passed {at} by {by}"
        case "failed":
            servers = [
                f"{one.get('server')} at {one.get('stage')}: {one.get('fault')}" for one in mark.get("failed", [])
            ]
            return f"FAILED {at} by {by}: {'; '.join(servers) or reason}"
        case "untested" if mark.get("forced"):
            return f"UNTESTED: forced {at} by {by}{why}"
        case "untested":
            return f"untested since {at}: saved by {by}"
        case state:
            return f"{state} since {at} by {by}"


def profile_of(file: Path, name: str) -> dict[str, object]:
    """The one of that name, or the only one; the file may be an inventory or a profile alone."""
    from posthouse.core.fields import name_key

    document = read_document(file)
    listed = document.get("server_profiles", [document])
    profiles = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    names = [str(entry.get("name", "")) for entry in profiles]
    found = [entry for entry in profiles if not name or name_key(str(entry.get("name", ""))) == name_key(name)]
    if len(found) != 1:
        message = f"{file} has no server profile {name!r}." if name else f"{file} has {len(found)} server profiles."
        raise Stop(Exit.USAGE, message, remedy=f"Name one of: {', '.join(names)}." if names else "")
    return found[0]
