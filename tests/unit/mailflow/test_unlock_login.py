"""A login that was refused with 534 or 535 is tried again after a TEST of its profile has passed (design 2.7)."""

import asyncio
from dataclasses import replace

from posthouse.core.mail import Mail
from posthouse.core.outcome import RecipientResult, Result, Stage
from posthouse.ports import UNLOCK_LOGIN, Acted, QueueCommand
from support.flow import A, B, C, Flow, flow, mail

YOU = "you@ours.example"
LOGIN = RecipientResult(Result.SERVER_FAULT, "535 5.7.8 wrong password", "5.7.8", Stage.AUTH)


def to_other() -> Mail:
    one = mail("someone@other.example")
    return replace(one, recipients=tuple(replace(r, profile="other") for r in one.recipients))


def unlock(made: Flow, profile: str) -> Acted:
    async def go() -> Acted:
        acted = await made.delivery.command(QueueCommand(1, UNLOCK_LOGIN, "key op (k1)", profile=profile))
        await asyncio.sleep(0)
        await made.settle()
        return acted

    return asyncio.run(go())


def test_it_is_tried_again_at_once_and_its_mail_is_woken() -> None:
    made = flow({C: [LOGIN]})
    profile = made.delivery.inventory.profiles["other"]
    asyncio.run(made.run(to_other()))
    assert not made.delivery.servers.admits(profile)
    assert unlock(made, "other") == Acted(1)
    assert made.delivery.servers.admits(profile)
    # Both profiles name C and log in there in the same way.
    assert made.spool.woken == [(frozenset({"exchange", "other"}), 10, None)]
    asyncio.run(made.run(to_other()))
    assert made.relay.servers == [C, C]


def test_a_circuit_that_the_login_has_opened_is_probed_at_once_with_it() -> None:
    made = flow({C: [LOGIN]})
    made.relay.probe_faults[C] = "535 5.7.8 wrong password"
    servers, profile = made.delivery.servers, made.delivery.inventory.profiles["other"]
    asyncio.run(made.run(to_other()))
    # The lock has spared the account two further tries; other faults of the identity have opened its circuit.
    handshake = RecipientResult(Result.SERVER_FAULT, "certificate expired", "4.7.5", Stage.TLS)
    made.clock.at += 900
    made.relay.script[C] = [handshake, LOGIN]
    asyncio.run(made.run(to_other(), to_other()))
    assert not servers.admits(profile)
    assert made.relay.probed == []
    made.relay.probe_faults.clear()
    assert unlock(made, "other") == Acted(1)
    assert made.relay.probed == [(C, True, True)]


def test_nothing_else_is_unlocked_and_a_profile_that_is_gone_is_none() -> None:
    made = flow({A: [LOGIN], B: [], C: [LOGIN]})
    one = replace(made.delivery.inventory.profiles["exchange"], username="another")
    made.delivery.inventory = replace(
        made.delivery.inventory, profiles={**made.delivery.inventory.profiles, "exchange": one}
    )
    asyncio.run(made.run(mail(YOU), to_other()))
    assert unlock(made, "nosuch") == Acted(0)
    assert unlock(made, "other") == Acted(1)
    assert unlock(made, "other") == Acted(0)
    leave = made.delivery.servers.set_out(one, A)
    assert getattr(leave, "why", "") == "the login was refused there and is left alone for 15 minutes"
