"""The one mapping of our errors to Temporal's: a failure in a history is a code, never a text that may hold an address."""

from __future__ import annotations

from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from domain.errors import TongdaError

log = structlog.get_logger()


class CodesOnly(Interceptor):
    """Reduces whatever an activity raises to an `ApplicationError` of type = code; the detail goes to our log."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - SDK
        return _CodesOnlyInbound(next)


class _CodesOnlyInbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's parameter name
        try:
            return await self.next.execute_activity(input)
        except (ApplicationError, CancelledError):
            raise
        except TongdaError as error:
            raise ApplicationError(error.code, type=error.code, non_retryable=not error.transient) from None
        except Exception as error:
            code = type(error).__name__
            log.warning("activity.failed", activity=activity.info().activity_type, code=code, exc_info=True)
            raise ApplicationError(code, type=code) from None
