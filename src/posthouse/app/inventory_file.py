"""`--inventory FILE` laid over what is stored, at the start and at SIGHUP."""

import time
from pathlib import Path

from posthouse import telemetry
from posthouse.core.faults import Fault, InvalidInput
from posthouse.core.inventory import apply_document, load_toml
from posthouse.core.kept_secret import given_texts, without_texts
from posthouse.core.profile_change import lost_to_own_mail
from posthouse.ports import InventoryStore, RevisionConflict, SecretKeyUnusable


def apply_inventory_file(
    store: InventoryStore, path: str | None, *, prune: bool, by: str, own_mail: str | None
) -> None:
    """What the file names is overwritten; what it does not name stays unless `prune`. Raises InvalidInput, also where
    the server profile that own mail leaves by would be lost (`own_mail`: its name).

    A lost key stops no start: secrets that the file has as texts then stay as they are stored, if they are.
    """
    if path is None:
        return
    document, fault = load_toml(read_text(path))
    if fault is not None:
        raise InvalidInput((fault,))
    secrets, no_key = given_texts(document), None
    while True:
        stored = store.load()
        before = [p.document for p in stored.profiles]
        profiles, rules, faults = apply_document(before, stored.rules, document, prune=prune)
        if faults and no_key is not None:
            rule = f"Its secrets cannot be stored: {no_key}."
            raise InvalidInput((Fault("file", path, rule, no_key.remedy),))
        if faults := faults or lost_to_own_mail(before, profiles, own_mail):
            raise InvalidInput(faults)
        try:
            revision, now = stored.revision, time.time()
            store.replace(profiles, rules, expected_revision=revision, by=by, now=now, secrets=secrets)
            return
        except RevisionConflict:
            continue
        except SecretKeyUnusable as error:
            telemetry.logger("serve").error("secrets of the file not stored", error=str(error), remedy=error.remedy)
            document, secrets, no_key = without_texts(document), {}, error


def read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InvalidInput((Fault("file", path, f"cannot be read: {reason}.", "Give a readable file."),)) from error
