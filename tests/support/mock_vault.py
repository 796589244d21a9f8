"""A MetaDefender Vault as the page on its list of keys describes it.

Written from "Enumerate API Keys" of its REST API (October 2019): 401 is a field that is missing, 403 a key that is
wrong or has expired.
"""

from dataclasses import dataclass

from support.http_servers import Request, Response

KEY = "f3I8Vss3cWAuh3EscB06QRDcQfMzHY"
OTHER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""In its list."""


@dataclass
class MockVault:
    """`answer` for `http_server`."""

    key: str = KEY
    """The only one that is accepted."""
    expired: bool = False
    path: str = "/vault_rest"

    def answer(self, request: Request) -> Response:
        if not request.path.startswith(f"{self.path}/tokens/"):
            return Response(404, octets=b"")
        given = request.fields.get("authorization", "")
        if not given.startswith("Bearer "):
            return Response(401, octets=b"")
        if given != f"Bearer {self.key}" or self.expired:
            return Response(403, octets=b"")
        item = {
            "token_id": 1,
            "token": OTHER_KEY,
            "description": "Metadefender access token",
            "status": "valid",
            "created": "2015-07-02T12:00:00.0000000Z",
            "expires": "2036-01-01T12:00:00.0000000Z",
            "role": "guest",
        }
        return Response(200, {"filter_count": 1, "items": [item]})
