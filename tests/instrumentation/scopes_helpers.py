"""Helpers for the tests of scopes: forced switches of threads, and signals at chosen places."""

import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any, Self

# Imported now: a switch while a thread imports would block the others.
import telemetry_kit.instrumentation.coroutines
import telemetry_kit.instrumentation.spans
import telemetry_kit.recording.pipeline  # noqa: F401

WAIT_SECONDS = 60
FILES = tuple(
    f"/telemetry_kit/{name}.py"
    for name in (
        "context",
        *("instrumentation/spans", "instrumentation/tracks", "instrumentation/sessions"),
        "instrumentation/coroutines",
    )
)


class Turns:
    """Run one of several threads at a time, and switch at each line of the code of scopes.

    Args:
        seed: decides which thread runs next, so that a failure can be repeated.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.waiting: dict[int, threading.Semaphore] = {}
        self.errors: list[BaseException] = []

    def run(self, functions: list[Callable[[], None]]) -> None:
        """Run each function in a thread of its own."""
        self.waiting = {number: threading.Semaphore(0) for number in range(len(functions))}
        threads = [
            threading.Thread(target=self.thread, args=(number, function))
            for number, function in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        self.waiting[0].release()
        for thread in threads:
            thread.join()

    def thread(self, number: int, function: Callable[[], None]) -> None:
        """Run a function whenever it is its turn."""

        def local(_frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "line":
                self.switch(number)
            return local

        def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
            return local if frame.f_code.co_filename.endswith(FILES) else None

        own = self.waiting[number]
        own.acquire(timeout=WAIT_SECONDS)
        sys.settrace(trace)
        try:
            function()
        except BaseException as error:
            self.errors.append(error)
        finally:
            sys.settrace(None)
            del self.waiting[number]
            for other in list(self.waiting.values())[:1]:
                other.release()

    def switch(self, number: int) -> None:
        """Let a random thread run on."""
        chosen = self.random.choice(list(self.waiting))
        if chosen != number:
            self.waiting[chosen].release()
            if not self.waiting[number].acquire(timeout=WAIT_SECONDS):
                raise TimeoutError("another thread waits for ever")


class Interrupted(BaseException):
    """What a signal handler of the host raises."""


class AlarmError(TimeoutError):
    """The same, as an ordinary exception: code that ignores errors must not ignore it."""


class Number(int):
    """The number of a signal, which arrives when `arrive` is read.

    Python runs the handler at the next instruction at which it handles signals. A call would run
    it at once.
    """

    arrive = property(interrupt_main)


class SignalAt:
    """Let a signal arrive just before the nth instruction of the code of scopes.

    Args:
        number: the instruction, counted from 1.
    """

    signal = Number(signal.SIGUSR1)

    def __init__(self, number: int) -> None:
        self.left = number

    def __enter__(self) -> Self:
        # Python 3.12 reports instructions only if a frame wanted them when tracing was turned on.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def trace(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        """Look at the instructions of a frame, if it is one of ours."""
        if self.left == 0 or not frame.f_code.co_filename.endswith(FILES):
            return None
        frame.f_trace_opcodes = True
        return self.local

    def local(self, _frame: FrameType, event: str, _arg: Any) -> Any:
        """Count an instruction."""
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self.signal.arrive  # noqa: B018 - see there
                return None
        return self.local
