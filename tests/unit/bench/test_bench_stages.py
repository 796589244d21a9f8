"""Samples of a profile shared out by stage."""

from benchmarks import stages

_LOOP = "thread (7): MainThread;<module> (posthouse/app/worker.py:1);Runner.run (asyncio/runners.py:118)"
_SESSION = f"{_LOOP};Session._run (posthouse/inbound/session.py:181)"


def test_a_sample_belongs_to_the_innermost_of_our_frames() -> None:
    raw = [
        f"{_LOOP} 5",
        f"{_SESSION} 7",
        f"{_SESSION};ServerSession._data (posthouse/core/smtp_server.py:500) 3",
        f"{_SESSION};Pipeline.accept (posthouse/mailflow/pipeline.py:9);encode (json/encoder.py:200) 2",
        f"{_SESSION};Walk.run (posthouse/mailflow/addressing.py:9) 4",
        "thread (8): mail-writer;GroupWriter._work (posthouse/storage/writer.py:64) 100",
    ]
    assert stages.shared_out(raw) == {
        stages.LOOP: 5,
        "receive: session, replies": 7,
        "receive: SMTP machine, content": 3,
        "decide: rules, trace field, trail": 2,
        "deliver: queue, circuit, results": 4,
    }


def test_every_stage_has_its_part_of_the_whole() -> None:
    spent = stages.Spent("a", {"one": 0.3, "two": 0.1})
    assert "| one | 0.300 (75 %) |" in stages.report([spent])
    assert "| all of the worker | 0.400 |" in stages.report([spent])
