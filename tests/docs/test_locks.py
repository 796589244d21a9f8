"""The lock files hold what pyproject.toml asks for, whole and without a registry's name (docs/adr/0003)."""

import re
import tomllib

from support.processes import ROOT

_PIN = re.compile(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)")


def pins(lock: str) -> dict[str, str]:
    """Version by normalised name."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PIN.findall(text)}


def asked_for(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", each)[0]).lower() for each in requirements}


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    run, dev = asked_for(project["project"]["dependencies"]), asked_for(project["dependency-groups"]["dev"])
    assert run - pins("run").keys() == set()
    assert (run | dev) - pins("dev").keys() == set()


def test_tests_run_with_the_versions_that_are_run() -> None:
    run, dev = pins("run"), pins("dev")
    assert {name: (version, dev.get(name)) for name, version in run.items() if dev.get(name) != version} == {}


def test_every_pin_has_a_hash_and_no_registry_is_named() -> None:
    for lock in ("run", "dev"):
        text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
        entries = re.split(r"(?m)^(?=\S+==)", text)[1:]
        assert len(entries) == len(pins(lock))
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
        assert "://" not in text
