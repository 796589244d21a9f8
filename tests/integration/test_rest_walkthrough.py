"""docs/rest.md is true: each of its commands is run against a real node."""

import os
import sys
from pathlib import Path

from support.processes import ROOT, serving
from support.threaded_sink import sink
from support.walkthrough import Shell, steps


def test_the_walk_through_rest_is_true(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "rest.md").read_text("utf-8")
    with sink() as first, sink() as second, serving(tmp_path, "") as node:
        host, port = node.smtp
        places = {
            "127.0.0.1:2601": first,
            "127.0.0.1:2602": second,
            "127.0.0.1:8025": str(node.facts()["console"]).removeprefix("http://"),
            "127.0.0.1:2525": f"{host}:{port}",
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "COLUMNS": "200", "no_proxy": "*", "POSTHOUSE_DATA_DIR": "data"}
        walked = 0
        with Shell(tmp_path, places, environment) as shell:
            for step in steps(document):
                shell.run(step)
                walked += 1
    assert walked > 5
