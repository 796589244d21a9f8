"""Mail read for people by the console's examiner: few at once, for each may take memory and time up to its limits."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Request

from posthouse.ports import ContentUnreadable, SecretUnreadable
from posthouse.scan_ports import ExaminationFailed, Examined, ExaminerUnavailable
from posthouse.web.downloads import unreadable
from posthouse.web.problems import Problem
from posthouse.web.schemas import Responses, problem
from posthouse.web.tools import WebTools

AT_ONCE = 2
RETRY_SECONDS = 5
UNREAD: Responses = {
    422: problem("The examiner failed over this mail; its content can be downloaded"),
    503: problem(f"{AT_ONCE} mails are being read on this node, or the content cannot be had; see Retry-After"),
}
"""For OpenAPI."""


class Viewing:
    """Of one app."""

    def __init__(self) -> None:
        self._under_way = 0

    @asynccontextmanager
    async def reading(self, tools: WebTools, content: Iterator[bytes]) -> AsyncIterator[Examined]:
        """The mail's examination, which the caller closes. Raises Problem."""
        if self._under_way >= AT_ONCE:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{AT_ONCE} mails are being read; ask again in {RETRY_SECONDS} seconds.",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        self._under_way += 1
        try:
            yield await tools.reader.read(content, tools.settings.limits.examination)
        except ExaminationFailed as error:
            detail = f"The mail cannot be read: {error}. Its content can be downloaded."
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from error
        except (ExaminerUnavailable, ContentUnreadable, SecretUnreadable) as error:
            raise unreadable(error) from error
        finally:
            self._under_way -= 1


async def _viewing(request: Request) -> Viewing:
    return cast(Viewing, request.app.state.viewing)


CurrentViewing = Annotated[Viewing, Depends(_viewing)]
"""Dependency: that of the app."""
