"""Result codes of MetaDefender Core (`scan_all_result_i`), and what a gateway makes of each.

Standards: OpenAPI of MetaDefender Core 4.18 (ProcessingResultsIndexEnum); newer names from the pages of Core 5.
"""

from collections.abc import Mapping
from enum import Enum


class CodeGroup(Enum):
    """What a code says."""

    CLEAN = "clean"
    """Nothing was found, or the administrator of Core trusts the content."""
    THREAT = "threat"
    POLICY = "policy"
    ENCRYPTED = "encrypted"
    NOT_COMPLETED = "not completed"
    """Not scanned, or not whole."""
    FAILED = "failed"
    """Scanning was broken off."""
    WAIT = "wait"
    UNKNOWN = "unknown"


IN_PROGRESS = 255

_CODES: Mapping[int, tuple[CodeGroup, str]] = {
    0: (CodeGroup.CLEAN, "No Threat Detected"),
    1: (CodeGroup.THREAT, "Infected"),
    2: (CodeGroup.THREAT, "Suspicious"),
    3: (CodeGroup.FAILED, "Failed"),
    4: (CodeGroup.THREAT, "Cleaned / Deleted"),
    7: (CodeGroup.CLEAN, "Skipped, allowlisted"),
    8: (CodeGroup.THREAT, "Skipped, blocklisted"),
    9: (CodeGroup.NOT_COMPLETED, "Exceeded Archive Depth"),
    10: (CodeGroup.NOT_COMPLETED, "Not Scanned"),
    12: (CodeGroup.ENCRYPTED, "Encrypted Archive"),
    13: (CodeGroup.NOT_COMPLETED, "Exceeded Archive Size"),
    14: (CodeGroup.NOT_COMPLETED, "Exceeded Archive File Number"),
    15: (CodeGroup.ENCRYPTED, "Password Protected Document"),
    16: (CodeGroup.NOT_COMPLETED, "Exceeded Archive Timeout"),
    17: (CodeGroup.POLICY, "File type Mismatch"),
    18: (CodeGroup.THREAT, "Potentially Vulnerable File"),
    19: (CodeGroup.FAILED, "Canceled"),
    20: (CodeGroup.POLICY, "Sensitive data found"),
    21: (CodeGroup.THREAT, "Yara Rule Matched"),
    22: (CodeGroup.THREAT, "Potentially Unwanted Program"),
    23: (CodeGroup.POLICY, "Unsupported file type"),
    IN_PROGRESS: (CodeGroup.WAIT, "In Progress"),
}
"""4 is a threat: it was found in the octets that we have; what was cleaned is Core's copy.

5 (unknown) and 11 (aborted) are those of the cloud service; of a Core they are as unknown as all others."""


def group_of(code: int) -> CodeGroup:
    """UNKNOWN for every code that is not in the documents: never clean."""
    return _CODES[code][0] if code in _CODES else CodeGroup.UNKNOWN


def name_of(code: int) -> str:
    """As the vendor names it."""
    return _CODES[code][1] if code in _CODES else f"result code {code}"
