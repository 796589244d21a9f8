"""MetaDefender Core: its paths, how it takes a key, and TEST.

Standards: OpenAPI of MetaDefender Core 4.18; `/readyz` since 5.0; design 2.11.
"""

from posthouse.clients.http_test import HttpTester, Question
from posthouse.clients.tested_addresses import Listeners
from posthouse.clients.way import DigitalId, no_key
from posthouse.core.http_ladder import core_engines, core_key, core_licence, core_ready, core_version
from posthouse.core.profile_test import StageName
from posthouse.ports import Unseal

_QUESTIONS = (
    Question(StageName.VERSION, "/version", core_version),
    Question(
        StageName.READY,
        "/readyz?verbose=true",
        core_ready,
        otherwise=Question(StageName.READY, "/stat/engines", core_engines),
    ),
    Question(StageName.KEY, "/stat/nodes", core_key, with_key=True),
    Question(StageName.LICENCE, "/admin/license", core_licence, with_key=True),
)


def core_key_field(key: str) -> tuple[str, str]:
    """Header field of a key: the session id of a login, or the key of a user."""
    return "apikey", key


def core_tester(digital_id: DigitalId, listeners: Listeners, unseal: Unseal = no_key) -> HttpTester:
    """TEST of a MetaDefender Core."""
    return HttpTester(_QUESTIONS, core_key_field, digital_id, listeners, unseal)
