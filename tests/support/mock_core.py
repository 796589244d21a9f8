"""A MetaDefender Core as its documents describe it: version, readiness, nodes, engines, licence.

Written from the OpenAPI of 4.18 and the pages on `/readyz` (5.0 and later); `tests/peers/test_mocks.py` holds its
answers against the OpenAPI.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from support.http_servers import Request, Response

KEY = "0123456789abcdef0123456789abcdef0123"
DENIED = {"err": "Access denied"}
LICENCE: Mapping[str, object] = {
    "days_left": 3731,
    "deployment": "MSCL00000000000000000000000000000000",
    "expiration": "09/30/2036",
    "licensed_engines": ["*"],
    "max_node_count": "10",
    "online_activated": True,
    "product_id": "MSCL-4-unlimited",
    "product_name": "Metadefender Core 5 Linux",
}
NO_LICENCE: Mapping[str, object] = {"deployment_id": "MSCL00000000000000000000000000000000"}
ENGINE: Mapping[str, object] = {
    "active": True,
    "def_time": "2026-11-17T02:37:05.000Z",
    "download_progress": 100,
    "download_time": "2026-11-17T08:17:22.810Z",
    "eng_id": "clamav_1_linux",
    "eng_name": "ClamAV",
    "eng_type": "Bundled engine",
    "eng_ver": "3.0-43",
    "engine_type": "av",
    "state": "production",
}
NODES: Mapping[str, object] = {
    "external_nodes_allowed": False,
    "max_node_count": 1,
    "statuses": [{"address": "", "cpu_cores": 8, "id": ":69", "issues": [], "load": 14, "scan_queue": 24}],
}


@dataclass(frozen=True)
class MockCore:
    """`answer` for `http_server`."""

    version: str = "4.18.0"
    key: str = KEY
    """The only one that is accepted."""
    rights: bool = True
    """The key's user may look at nodes and licence."""
    licence: Mapping[str, object] = field(default_factory=lambda: LICENCE)
    unmet: Mapping[str, object] | None = None
    """Since 5.0, body of a 503: conditions of the health check."""

    def answer(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        match path:
            case "/version":
                return Response(200, {"product_id": "MSCL", "version": self.version})
            case "/readyz" if int(self.version.partition(".")[0]) >= 5:
                return Response(200, {}) if self.unmet is None else Response(503, self.unmet)
            case "/stat/engines":
                return Response(200, [{**ENGINE, "active": "expiration" in self.licence}])
            case "/stat/nodes" | "/admin/license":
                return self._with_key(request, [NODES] if path == "/stat/nodes" else self.licence)
            case _:
                return Response(404, {"err": "Not found"})

    def _with_key(self, request: Request, document: object) -> Response:
        if request.fields.get("apikey") != self.key:
            return Response(403, DENIED)
        return Response(200, document) if self.rights else Response(405, DENIED)
