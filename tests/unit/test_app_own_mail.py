"""The composition root: an inventory file that would take the server profile of own mail away."""

from pathlib import Path

import pytest

from posthouse.app.inventory_file import apply_inventory_file
from posthouse.core.faults import InvalidInput
from posthouse.storage.open import open_shared

OTHER = '[[server_profiles]]\nname = "other"\ntype = "smtp"\nservers = ["10.0.0.2"]\n'
OWN = OTHER.replace("other", "Own")
RETYPED = '[[server_profiles]]\nname = "own"\ntype = "clamav"\nservers = ["10.0.0.3"]\n'


@pytest.mark.parametrize(
    ("text", "prune", "refused"),
    [(OTHER, True, True), (RETYPED, False, True), (OTHER, False, False), (OWN, True, False)],
)
def test_a_file_leaves_own_mail_its_server_profile(tmp_path: Path, text: str, prune: bool, refused: bool) -> None:
    shared = open_shared(str(tmp_path), "sqlite")
    file = tmp_path / "inventory.toml"

    def apply(text: str, *, prune: bool) -> None:
        file.write_text(text)
        apply_inventory_file(shared.inventory, str(file), prune=prune, by="SIGHUP", own_mail="own")

    apply(OTHER, prune=True)  # the profile of own mail may come later
    apply(OWN, prune=False)
    revision = shared.inventory.revision()
    if refused:
        with pytest.raises(InvalidInput) as told:
            apply(text, prune=prune)
        assert [fault.field for fault in told.value.faults] == ["own_mail.profile"]
        assert shared.inventory.revision() == revision
    else:
        apply(text, prune=prune)
    assert "Own" in [profile.document["name"] for profile in shared.inventory.load().profiles]
    shared.close()
