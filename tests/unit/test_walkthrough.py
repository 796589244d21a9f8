"""The comparison that docs/rest.md is run by: it must be able to fail."""

import pytest

from support.walkthrough import Step, difference, steps


@pytest.mark.parametrize(
    ("expected", "came"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}'),
        ('{"a": "…"}', '{"a": {"b": 1}}'),
        ('{"a": 1, …}', '{"a": 1, "b": 2}'),
        ('{"a": [1, …]}', '{"a": [1, 2, 3]}'),
        ('{"a": "queued as …"}', '{"a": "queued as 01x"}'),
        ('{"by": "key (…)", "b": "…"}', '{"by": "key (a1)", "b": 2}'),
        ('{"a": {"b": 1, …}, …}', '{"a": {"b": 1, "c": 2}, "d": 3}'),
        ("ph_…", "ph_abc"),
        ("", ""),
        ('HTTP/1.1 200 OK\nETag: "…"\n\n{"a": 1}', 'HTTP/1.1 200 OK\ndate: now\netag: "3"\n\n{"a": 1}'),
        ("HTTP/1.1 204 No Content", "HTTP/1.1 204 No Content\ndate: now"),
    ],
)
def test_what_fits(expected: str, came: str) -> None:
    assert difference(expected, came) == ""


@pytest.mark.parametrize(
    ("expected", "came"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"a": 1, "b": 2}'),
        ('{"a": 1, …}', '{"b": 2}'),
        ('{"a": [1]}', '{"a": [1, 2]}'),
        ('{"a": [1, …]}', '{"a": []}'),
        ('{"a": [{"b": true}]}', '{"a": [{"b": false}]}'),
        ('{"a": "queued as …"}', '{"a": "refused"}'),
        ('{"a": 1}', "oops"),
        ("ph_…", "key"),
        ("", "curl: (7) Failed"),
        ('HTTP/1.1 200 OK\n\n{"a": 1}', 'HTTP/1.1 404 Not Found\n\n{"a": 1}'),
        ('HTTP/1.1 200 OK\nETag: "3"', 'HTTP/1.1 200 OK\netag: "4"'),
        ('HTTP/1.1 200 OK\n\n{"a": 1}', 'HTTP/1.1 200 OK\n\n{"a": 2}'),
    ],
)
def test_what_does_not_fit(expected: str, came: str) -> None:
    assert difference(expected, came) != ""


def test_steps_of_a_document() -> None:
    document = """# Title
```sh
not run
```
```console
$ one \\
  more
said
$ two
```
text
```console again
$ three
{"a": 1}
```
"""
    assert list(steps(document)) == [
        Step(6, "one \\\n  more", "said", False),
        Step(9, "two", "", False),
        Step(13, "three", '{"a": 1}', True),
    ]
