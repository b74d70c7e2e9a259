"""The warm door: `pipeline.STEPS` as a private structlog logger.

The host's structlog configuration is neither read nor written here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from telemetry_kit import pipeline
from telemetry_kit.errors import Refused, swallow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Filtering: Any = structlog.make_filtering_bound_logger(0)


class RoleLogger(_Filtering):  # type: ignore[misc]
    """A structlog logger whose `info(event, **fields)` records an event.

    It returns the record as it was written, or None when nothing was written, and never raises.
    Values for context go into `context={...}`.
    """

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: Any) -> Any:
        try:
            return super()._proxy_to_logger(method_name, event, **fields)
        except Refused:
            return None
        except Exception as error:
            swallow(error)
            return None


class _Written:
    """What structlog believes to be the output: it hands the written record back."""

    def __getattr__(self, _method: str) -> Callable[..., dict[str, Any]]:
        return lambda **record: record


def get_logger(processors: Iterable[Any] = ()) -> RoleLogger:
    """A structlog logger around the chain.

    Args:
        processors: the host's own structlog processors; they run after the gate, so only where
            recording is on, and before values are admitted, so nothing they add is exempt.

    Returns:
        A bound logger: `bind()`, `unbind()`, `new()` and the level methods work as usual.
    """
    first, *rest = pipeline.STEPS
    # Every argument is given: structlog takes those that are None from the host at each call.
    logger: RoleLogger = structlog.wrap_logger(
        _Written(),
        processors=[first, *processors, *rest],
        wrapper_class=RoleLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
        logger_factory_args=(),
    ).bind()
    return logger
