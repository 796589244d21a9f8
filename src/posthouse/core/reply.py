"""What a reply or a fault of the next hop means: the failure table (design section 3), in one place.

| At | Reply or fault | Result |
| --- | --- | --- |
| any stage | 421 | server's fault |
| connect | refused, no answer, name not found | server's fault |
| greeting | anything but 2yz | server's fault |
| EHLO | anything but 2yz, to HELO too | server's fault |
| STARTTLS, handshake | not offered, refused or failed, where clear text is not allowed | server's fault |
| AUTH | not offered, or anything but 235 | server's fault |
| MAIL, RCPT, DATA, final dot | 503 though all that it depends on got 2yz or 3yz | server's fault |
| MAIL, RCPT, DATA, final dot | 530, 538, "must issue STARTTLS" | server's fault |
| RCPT, DATA | any, when MAIL was refused | none of its own |
| DATA | any 4yz or 5yz, when no RCPT was accepted | none of its own |
| RCPT | 452 or 552, after an accepted RCPT | again (a further transaction at once) |
| RCPT | other 4yz; 452 and 552 as the first | later (the retry schedule) |
| MAIL, DATA, final dot | other 4yz | message's transient fault |
| MAIL, RCPT, DATA, final dot | other 5yz | permanent |
| final dot | 2yz | relayed |
| final dot | 3yz, malformed reply, loss, timeout | uncertain |
| before the final dot | malformed or absurd reply, loss, timeout | server's fault |

Content is as the final dot, but nothing can be relayed or uncertain before the dot has left.
Standards: RFC 5321 sections 4.2, 4.5.3.1.10; RFC 2920 section 3.1; RFC 3463; RFC 4954 section 6.
"""

from dataclasses import dataclass

from posthouse.core.outcome import Result, Stage
from posthouse.core.smtp_reply import Reply


@dataclass(frozen=True, slots=True)
class Context:
    """What came before the reply in its transaction; replies of pipelined commands need it."""

    mail_accepted: bool = True
    """MAIL got 2yz (true at MAIL itself)."""
    accepted: int = 0
    """How many RCPT got 2yz before this reply."""


def classify(stage: Stage, reply: Reply, context: Context) -> Result | None:
    """The result of `reply` for the recipients that it concerns; None where it is no result of its own.

    For MAIL and RCPT a 2yz is no result yet: not to be asked. 3yz to DATA likewise.
    """
    positive = 200 <= reply.code <= 399
    match stage:
        case Stage.CONNECT | Stage.GREETING | Stage.EHLO | Stage.STARTTLS | Stage.TLS | Stage.AUTH | Stage.RSET:
            return Result.SERVER_FAULT
        case Stage.MAIL:
            pass
        case Stage.RCPT:
            if not context.mail_accepted and reply.code != 421:
                return None
        case Stage.DATA:
            if not (context.mail_accepted and context.accepted) and reply.code != 421:
                return None
        case Stage.CONTENT:
            if positive:
                return Result.SERVER_FAULT
        case Stage.FINAL_DOT:
            if positive:
                return Result.RELAYED if reply.code < 300 else Result.UNCERTAIN
    if positive or _blames_server(reply):
        return Result.SERVER_FAULT
    transient = reply.code < 500
    if stage is Stage.RCPT:
        if reply.code in (452, 552):
            return Result.AGAIN if context.accepted else Result.LATER
        return Result.LATER if transient else Result.PERMANENT
    return Result.TRANSIENT if transient else Result.PERMANENT


def classify_fault(stage: Stage) -> Result:
    """What loss of the connection, a timeout or a malformed reply means while the reply to `stage` is awaited."""
    return Result.UNCERTAIN if stage is Stage.FINAL_DOT else Result.SERVER_FAULT


def status_of(result: Result, reply: Reply | None, stage: Stage) -> str:
    """RFC 3463 code for the DSN: that of the reply, else one that fits the result.

    552 to RCPT counts as 452, so its class becomes 4 (RFC 5321 section 4.5.3.1.10).
    """
    if reply is not None:
        if result in (Result.AGAIN, Result.LATER) and reply.code == 552:
            return "4" + reply.status[1:] if reply.status else "4.5.3"
        return reply.status or f"{reply.code // 100}.0.0"
    match result:
        case Result.RELAYED:
            return "2.0.0"
        case Result.PERMANENT:
            return "5.0.0"
        case Result.SERVER_FAULT | Result.UNCERTAIN:
            return _FAULTS.get(stage, "4.4.2")
        case Result.THROTTLED | Result.WAITS:
            return "4.3.2"
        case Result.TRANSIENT | Result.LATER | Result.AGAIN:
            return "4.0.0"


_FAULTS = {Stage.CONNECT: "4.4.1", Stage.STARTTLS: "4.7.4", Stage.TLS: "4.7.5", Stage.AUTH: "4.7.0"}
"""RFC 3463 codes of faults that no reply tells: no connection, no security features, cryptographic failure."""


def _blames_server(reply: Reply) -> bool:
    """421, 503 in sequence, 530, 538: the reply is about us and the server, not about the mail."""
    if reply.code in (421, 503, 530, 538):
        return True
    text = " ".join(reply.lines).lower()
    return "must issue starttls" in text or "must issue a starttls" in text
