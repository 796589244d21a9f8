"""MetaDefender Vault, now Managed File Transfer: its paths, how it takes a key, and TEST.

No path tells a version; the list of keys is the cheapest that asks for one.
Standards: REST API of Vault (October 2019), "Enumerate API Keys"; design 2.11.
"""

from posthouse.clients.http_test import HttpTester, Question
from posthouse.clients.tested_addresses import Listeners
from posthouse.clients.way import DigitalId, no_key
from posthouse.core.http_ladder import vault_key, vault_there
from posthouse.core.profile_test import StageName
from posthouse.ports import Unseal

_QUESTIONS = (
    Question(StageName.READY, "/tokens/0/1", vault_there),
    Question(StageName.KEY, "/tokens/0/1", vault_key, with_key=True),
)


def vault_key_field(key: str) -> tuple[str, str]:
    """Header field of a key."""
    return "Authorization", f"Bearer {key}"


def vault_tester(digital_id: DigitalId, listeners: Listeners, unseal: Unseal = no_key) -> HttpTester:
    """TEST of a vault."""
    return HttpTester(_QUESTIONS, vault_key_field, digital_id, listeners, unseal)
