"""The collection of real and odd messages that tests use where it is there; it is no part of the repository."""

import os
from pathlib import Path

from support.processes import ROOT


def corpus() -> Path | None:
    """Its folder: POSTHOUSE_CORPUS, else `../shared/corpus` beside the checkout; None where it is absent."""
    folder = Path(os.environ.get("POSTHOUSE_CORPUS", ROOT.parent / "shared" / "corpus"))
    return folder if folder.is_dir() else None
