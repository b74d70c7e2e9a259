"""Helpers for the tests of `@tracks`."""

from telemetry_kit import tracks

FORMS = ["function", "coroutine", "block", "async block"]


def run(form: str, event: str, error: BaseException | None) -> BaseException | None:
    """Run a decorated callable that ends with `error`, and return the exception it raised."""

    def body() -> str:
        if error is not None:
            raise error
        return "result"

    async def coroutine() -> str:
        return body()

    async def block() -> str:
        async with tracks(event):
            return body()

    def drive(made) -> str:
        try:
            made.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it waited")

    try:
        if form == "function":
            assert tracks(event)(body)() == "result"
        elif form == "coroutine":
            assert drive(tracks(event)(coroutine)()) == "result"
        elif form == "async block":
            assert drive(block()) == "result"
        else:
            with tracks(event):
                body()
    except BaseException as raised:
        return raised
    return None
