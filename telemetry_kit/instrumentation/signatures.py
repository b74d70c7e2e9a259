"""Give a wrapper the signature of its function, for readers that do not follow `__wrapped__`.

`inspect.getfullargspec()` is one. Celery checks the arguments of `delay()` with it.
"""

from __future__ import annotations

import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def copy_signature(wrapper: Any, function: Any) -> None:
    """Set `__signature__`, except where that would change what `inspect.signature()` answers.

    Args:
        wrapper: what decorates the function.
        function: a function.
    """
    # From Python 3.14 on, a signature runs the annotations, which may name what is defined later.
    if hasattr(function, "__annotate__"):
        return
    # `signature(eval_str=True)` evaluates the text of the function, but not of a `__signature__`.
    if any(isinstance(annotation, str) for annotation in function.__annotations__.values()):
        return
    # Another decorator made this function: its own arguments are not the ones that it shows.
    if "__wrapped__" in function.__dict__ or "__signature__" in function.__dict__:
        return
    wrapper.__signature__ = inspect.signature(function)
