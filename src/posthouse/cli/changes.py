"""Differences as people read them: `rules[inbound].enabled: true -> false`."""

from collections.abc import Mapping

STYLE = {"added": "green", "removed": "red", "changed": "yellow", "moved": "cyan"}
SIGN = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}


def change_text(change: Mapping[str, object]) -> str:
    """One difference with its sign; of a whole profile, rule, key or user only which one."""
    kind, old, new = str(change.get("change")), change.get("old"), change.get("new")
    text = f"{SIGN.get(kind, '?')} {change.get('field')}"
    if kind == "moved":
        return f"{text}: {_list(old)} -> {_list(new)}"
    if _is_secret(old) and _is_secret(new):
        return f"{text}: replaced"
    if isinstance(old or new, dict):
        return text
    told = [_value(value) for value in (old, new) if value is not None]
    return f"{text}: {' -> '.join(told)}"


def _is_secret(value: object) -> bool:
    return value == {"set": True}


def _list(value: object) -> str:
    return ", ".join(str(entry) for entry in value) if isinstance(value, list) else str(value)


def _value(value: object) -> str:
    """As it is written in a file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{_list(value)}]"
    return str(value)
