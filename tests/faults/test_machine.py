"""Random sequences of all operations, with crashes and clock jumps, compared with a list."""

import os
import tempfile
from datetime import date, timedelta

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from telemetry_kit.errors import Off
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import maintenance, reader, rotation
from telemetry_kit.storage.writer import LogWriter

CALLS = ("rename", "chmod", "unlink", "fsync", "open", "close", "fchmod")


class LogMachine(RuleBasedStateMachine):
    """A log and the list of the events that it must contain."""

    counts = dict.fromkeys(("acknowledged", "sealings", "clears", "revocations", "kills"), 0)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        top = os.path.realpath(self.folder.name)
        os.mkdir(f"{top}/work")
        self.home = ProjectPaths("flowspec", f"{top}/work", f"{top}/config", f"{top}/state")
        self.allowed = True
        self.day = date(2024, 2, 28)
        self.model: list[tuple[str, str]] = []
        self.number = 0
        self.writers = [self.writer(), self.writer()]

    def writer(self) -> LogWriter:
        """Return a new writer with the consent of the machine."""
        return LogWriter(self.home, lambda: self.allowed, lambda: 0.0, seal_events=20)

    def teardown(self) -> None:
        """Close the writers and delete the directory."""
        for log_writer in self.writers:
            log_writer.close()
        self.folder.cleanup()

    @rule(which=st.integers(0, 1), count=st.integers(1, 12))
    def record(self, which: int, count: int) -> None:
        """Append events until consent is denied."""
        self.allowed = self.allowed or count > 6
        for _ in range(count):
            name, line = self.line()
            try:
                while not self.writers[which].append(line):
                    pass
            except Off:
                assert not self.allowed
                return
            assert self.allowed
            self.model.append((name, self.day.isoformat()))
            self.counts["acknowledged"] += 1

    def line(self, days_back: int = 0) -> tuple[str, bytes]:
        """Return the id and the line of a new event."""
        name = f"{self.number:016x}"
        self.number += 1
        day = max(self.day - timedelta(days_back), date(1970, 1, 1))
        return name, (
            f'{{"schema_version":"1.0","event_id":"{name}","event_type":"role.selected",'
            f'"timestamp":"{day}T00:00:00Z"}}\n'
        ).encode()

    @precondition(lambda self: self.allowed)
    @rule(which=st.integers(0, 1), cut=st.integers(2, 120), days_back=st.integers(-20, 20))
    def tear(self, which: int, cut: int, days_back: int) -> None:
        """Simulate a killed writer, whose fragment is joined to the next event."""
        self.record(which, 1)
        if os.path.exists(self.home.log):
            with open(self.home.log, "ab") as log:
                log.write(self.line(days_back)[1][:-cut])
        self.record(which, 1)

    @rule()
    def seal(self) -> None:
        """Seal the log."""
        self.counts["sealings"] += rotation.seal(self.home, self.day.isoformat())

    @rule()
    def pack(self) -> None:
        """Compress the segments."""
        maintenance.maintain(self.home, 100_000, self.day.isoformat())

    @rule(days_back=st.integers(0, 40), close=st.booleans())
    def clear_before(self, days_back: int, close: bool) -> None:
        """Remove the events before a day."""
        limit = (self.day - timedelta(days_back)).isoformat()
        for log_writer in self.writers if close else ():
            log_writer.close()
        done = maintenance.rewrite(self.home, maintenance.keep_since(limit), self.day.isoformat())
        # A fragment at the end of a segment in use is not removed.
        assert all("its last line is not ended" in failure for failure in done.failures)
        assert not (close and done.failures)
        self.model = [pair for pair in self.model if pair[1] >= limit]

    @rule(keep_days=st.integers(1, 400))
    def retain(self, keep_days: int) -> None:
        """Expired events may be deleted, others must not. With a clock in doubt, all are kept."""
        maintenance.maintain(self.home, keep_days, self.day.isoformat())
        limit = (self.day - timedelta(keep_days)).isoformat()
        found = {event["event_id"] for event in reader.read(self.home)}
        assert [] == [pair for pair in self.model if pair[0] not in found and pair[1] >= limit]
        self.model = [pair for pair in self.model if pair[0] in found]

    @precondition(lambda self: len(self.model) > 15)
    @rule()
    def clear(self) -> None:
        """Delete all events."""
        assert [] == rotation.clear(self.home)
        self.model.clear()
        self.counts["clears"] += 1

    @precondition(lambda self: self.allowed and self.model)
    @rule()
    def revoke(self) -> None:
        """Revoke consent."""
        self.allowed = False
        rotation.seal(self.home, self.day.isoformat())
        self.counts["revocations"] += 1

    @precondition(lambda self: not self.allowed)
    @rule()
    def grant(self) -> None:
        """Grant consent."""
        self.allowed = True

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        """Replace one writer by a new one."""
        self.writers[which].close()
        self.writers[which] = self.writer()

    @rule(call=st.sampled_from(CALLS), when=st.integers(1, 8), seal=st.booleans())
    def crash(self, call: str, when: int, seal: bool) -> None:
        """Exit right before the given call of a maintenance, which releases its locks."""
        pid = os.fork()
        if not pid:
            real, remaining = getattr(os, call), when

            def exit_at_call(*args: object, **options: object) -> object:
                nonlocal remaining
                remaining -= 1
                if remaining == 0:
                    os._exit(9)
                return real(*args, **options)

            setattr(os, call, exit_at_call)
            code = 0
            try:
                if seal:
                    rotation.seal(self.home, self.day.isoformat())
                maintenance.maintain(self.home, 100_000, self.day.isoformat())
            except BaseException:
                code = 1
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9)
        self.counts["kills"] += code == 9

    @rule(days=st.sampled_from([1, 7, 30, -1, -30, 27_000, -20_000]))
    def jump(self, days: int) -> None:
        """Move the clock by this number of days."""
        if date(1970, 1, 1) <= self.day + timedelta(days) <= date(2099, 12, 31):
            self.day += timedelta(days)

    @rule()
    def read(self) -> None:
        """Check that the reader finds exactly the events of the list."""
        found = [event["event_id"] for event in reader.read(self.home)]
        assert sorted(name for name, _ in self.model) == sorted(found)

    def check_invariants(self, *args: object, **options: object) -> None:
        """Check the stored events after each step."""
        super().check_invariants(*args, **options)
        self.read()


def test_the_log_is_equal_to_a_list(fault_table, full) -> None:
    """After each step, the reader finds the events of the list."""
    run_state_machine_as_test(
        LogMachine,
        settings=settings(
            max_examples=1_000 if full else 200, stateful_step_count=40, deadline=None
        ),
    )
    fault_table.add("machine", **LogMachine.counts)
