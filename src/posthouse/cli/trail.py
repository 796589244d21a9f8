"""The trail of a mail as people read it: a tree of what happened, each step with its time since receipt."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from posthouse.cli.output import STYLES, console, moment, octets, plain, span

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

BAR_CELLS = 24
"""Width of the waterfall beside an attempt."""

Record = Mapping[str, object]


def mapping(value: object) -> Record:
    """`value` if it is an object, else an empty one: an older node may leave something out."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: object) -> list[Record]:
    """The objects in a list."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def receiving(mail: Record) -> str:
    """First phase of the status: how it came to us."""
    return "generated" if mail.get("own") else "accepted"


def delivery(mail: Record) -> str:
    """Second phase: where its recipients stand."""
    recipients = mappings(mail.get("recipients"))
    count = mail.get("recipient_count", len(recipients))
    states = Counter("queued" if r.get("state") == "active" else str(r.get("state")) for r in recipients)
    if len(states) <= 1 or count != len(recipients):
        status = str(mail.get("status") or next(iter(states), ""))
        return "queued" if status == "active" else status
    return ", ".join(f"{number} {state}" for state, number in states.items())


def way(attempt: Record) -> str:
    """How an attempt's mail went: between which addresses, TLS, certificate, login, and over which connection."""
    facts = mapping(attempt.get("way"))
    if not facts:
        return "no connection"
    number = int(_number(attempt.get("mail_number")))
    clear = facts.get("tls") == "none"
    parts = [
        f"{facts.get('local')} to {facts.get('remote')}",
        "clear text" if clear else f"{facts.get('tls')}, certificate {facts.get('certificate')}",
        f"logged in as {facts['login']}" if facts.get("login") else "no login",
        f"mail {number} on a kept connection" if number > 1 else "connection opened for it",
    ]
    return ", ".join(parts)


def marks(attempt: Record) -> list[str]:
    """What is to be noticed of an attempt, such as `downgraded`."""
    return [str(mark) for mark in _sequence(attempt.get("marks"))]


def show(mail: Record) -> None:
    """Prints the tree."""
    from rich.tree import Tree

    root = Tree(_text(("mail ", ""), (mail.get("id"), "bold"), ("  ", ""), (mail.get("subject"), "italic")))
    _session(root, mail)
    begin = _number(mail.get("received_at"))
    attempts = mappings(mail.get("attempts"))
    end = max((_number(a.get("started_at")) + _number(a.get("seconds")) for a in attempts), default=begin)
    addresses = {r.get("seq"): str(r.get("address")) for r in mappings(mail.get("recipients"))}
    steps: list[tuple[float, int, Record]] = [
        (_number(entry.get("at")), 0 if entry.get("kind") in ("received", "generated", "matched") else 2, entry)
        for entry in mappings(mail.get("trail"))
    ]
    steps += [(_number(attempt.get("started_at")), 1, attempt) for attempt in attempts]
    for at, _, step in sorted(steps, key=lambda one: one[:2]):
        if "kind" in step:
            _entry(root, step, at - begin, addresses)
        else:
            _attempt(root, step, at - begin, end - begin, addresses)
    _ends(root, mail)
    console().print(root)


def _session(root: "Tree", mail: Record) -> None:
    session = mapping(mail.get("session"))
    via = f", through {session['peer_address']}" if session.get("peer_address") else ""
    trusted = ", trusted" if session.get("trusted") else ""
    branch = root.add(
        _text(
            ("session ", "bold"),
            (f"{session.get('client_address', '?')} ({session.get('helo', '')}){via}{trusted}", ""),
            (f"  {session.get('protocol', '')} {session.get('tls') or 'without TLS'}", ""),
            (f" at {session.get('listener', '')}", "dim"),
        )
    )
    branch.add(_text(("from ", "dim"), (f"<{mail.get('reverse_path') or ''}>", "")))
    for recipient in mappings(mail.get("recipients")):
        branch.add(_text(("to   ", "dim"), (f"<{recipient.get('address')}>", "")))
    branch.add(_text((f"{octets(mail.get('size'))}, received {moment(mail.get('received_at'))}", "dim")))


def _entry(root: "Tree", entry: Record, since: float, addresses: Mapping[object, str]) -> None:
    """One entry of the trail; a kind that this version does not know is shown with its fields."""
    kind, detail = str(entry.get("kind")), mapping(entry.get("detail"))
    if kind == "matched":
        for recipient in mappings(detail.get("recipients")):
            _match(root, recipient, since)
        return
    who = _addresses(detail.get("recipients"), addresses)
    words = [f"for {who}"] if who else []
    for name, value in detail.items():
        if name == "recipients" or value in ("", None):
            continue
        told = moment(value) if name.endswith("_at") else _flat(value)
        words.append(told if name in ("why", "reply") else f"{name.replace('_', ' ')} {told}")
    root.add(_text((_since(since), "dim"), (kind, _style(kind)), ("  ", ""), (", ".join(words), "")))


def _match(root: "Tree", recipient: Record, since: float) -> None:
    rule = recipient.get("rule")
    said = f'rule "{rule}", server profile "{recipient.get("profile")}"' if rule else "own mail"
    branch = root.add(
        _text((_since(since), "dim"), ("matched", "bold"), (f"  <{recipient.get('address')}> by {said}", ""))
    )
    for reason in mappings(recipient.get("reasons")):
        why = str(reason.get("why"))
        told = {"matched": "matched", "disabled": "is disabled"}.get(why, f"{why} does not match")
        branch.add(_text((f"{reason.get('rule')}: ", ""), (told, "green" if why == "matched" else "dim")))


def _attempt(root: "Tree", attempt: Record, since: float, whole: float, addresses: Mapping[object, str]) -> None:
    outcome = str(attempt.get("outcome"))
    seconds = _number(attempt.get("seconds"))
    branch = root.add(
        _text(
            (_since(since), "dim"),
            ("attempt", "bold"),
            (f"  {attempt.get('server')} ", ""),
            (outcome, _style(outcome)),
            (f" in {span(seconds)} ", ""),
            (_bar(since, seconds, whole), "cyan"),
        )
    )
    order = attempt.get("order")
    if isinstance(order, list):
        branch.add(_text(("order: ", "dim"), (" > ".join(str(server) for server in order), "")))
    branch.add(_text(("way: ", "dim"), (way(attempt), "")))
    branch.add(_text(("result: ", "dim"), (attempt.get("summary"), "")))
    for mark in marks(attempt):
        branch.add(_text(("marked: ", "dim"), (mark, "yellow")))
    for reply in _sequence(attempt.get("replies")):
        if isinstance(reply, list) and len(reply) == 3:
            seq, result, text = reply
            branch.add(_text((f"<{addresses.get(seq, seq)}> ", ""), (result, _style(str(result))), (f": {text}", "")))
    transcript = _sequence(attempt.get("transcript"))
    if transcript:
        dialogue = branch.add(_text(("transcript, secrets masked", "dim")))
        for line in transcript:
            dialogue.add(_text((line, "")))


def _ends(root: "Tree", mail: Record) -> None:
    for recipient in mappings(mail.get("recipients")):
        state = "queued" if recipient.get("state") == "active" else str(recipient.get("state"))
        due = f", next attempt {moment(recipient.get('due_at'))}" if recipient.get("state") == "queued" else ""
        said = f": {recipient.get('detail')}" if recipient.get("detail") else ""
        root.add(
            _text(("now  ", "bold"), (f"<{recipient.get('address')}> ", ""), (state, _style(state)), (due + said, ""))
        )


def _bar(since: float, seconds: float, whole: float) -> str:
    """Where in the whole time this step lies."""
    if whole <= 0:
        return ""
    start = min(BAR_CELLS - 1, max(0, int(since / whole * BAR_CELLS)))
    length = min(BAR_CELLS - start, max(1, round(seconds / whole * BAR_CELLS)))
    return f"[{' ' * start}{'#' * length}{' ' * (BAR_CELLS - start - length)}]"


def _text(*parts: tuple[object, str]) -> "Text":
    """A line of texts with styles, all of them made printable."""
    from rich.text import Text

    return Text.assemble(*((plain(value), style) for value, style in parts))


def _style(word: str) -> str:
    return STYLES.get(word, "bold" if word.isalpha() else "yellow")


def _since(seconds: float) -> str:
    return f"+{max(0.0, seconds):.3f} s  " if seconds < 60 else f"+{span(seconds)}  "


def _addresses(recipients: object, addresses: Mapping[object, str]) -> str:
    return ", ".join(f"<{addresses.get(seq, str(seq))}>" for seq in _sequence(recipients))


def _flat(value: object) -> str:
    if isinstance(value, list):
        return " ".join(_flat(entry) for entry in value)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_flat(entry)}" for name, entry in value.items())
    return str(value)


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
