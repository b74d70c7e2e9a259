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

PROCESSORS = ("rename", "chmod", "unlink", "fsync", "open", "close", "fchmod")


class JournalMachine(RuleBasedStateMachine):
    """A journal and the list of events that must be in it."""

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
        return LogWriter(self.home, lambda: self.allowed, lambda: 0.0, seal_events=20)

    def teardown(self) -> None:
        for journal in self.writers:
            journal.close()
        self.folder.cleanup()

    @rule(which=st.integers(0, 1), count=st.integers(1, 12))
    def record(self, which: int, count: int) -> None:
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

    def line(self, back: int = 0) -> tuple[str, bytes]:
        name = f"{self.number:016x}"
        self.number += 1
        day = max(self.day - timedelta(back), date(1970, 1, 1))
        return name, (
            f'{{"schema_version":"1.0","event_id":"{name}","event_type":"role.selected",'
            f'"timestamp":"{day}T00:00:00Z"}}\n'
        ).encode()

    @precondition(lambda self: self.allowed)
    @rule(which=st.integers(0, 1), cut=st.integers(2, 120), back=st.integers(-20, 20))
    def tear(self, which: int, cut: int, back: int) -> None:
        """A writer is killed inside its line, and the next one is glued to what it left."""
        self.record(which, 1)
        if os.path.exists(self.home.log):
            with open(self.home.log, "ab") as log:
                log.write(self.line(back)[1][:-cut])
        self.record(which, 1)

    @rule()
    def seal(self) -> None:
        self.counts["sealings"] += rotation.seal(self.home, self.day.isoformat())

    @rule()
    def pack(self) -> None:
        maintenance.maintain(self.home, 100_000, self.day.isoformat())

    @rule(back=st.integers(0, 40), close=st.booleans())
    def clear_before(self, back: int, close: bool) -> None:
        limit = (self.day - timedelta(back)).isoformat()
        for journal in self.writers if close else ():
            journal.close()
        done = maintenance.rewrite(self.home, maintenance.keep_since(limit), self.day.isoformat())
        # Of a fragment at the end of what a writer holds open nothing is removed.
        assert all("its last line is not ended" in told for told in done.failures)
        assert not (close and done.failures)
        self.model = [pair for pair in self.model if pair[1] >= limit]

    @rule(keep_days=st.integers(1, 400))
    def retain(self, keep_days: int) -> None:
        """What is over may go, and what is not must stay; a clock in doubt keeps all."""
        maintenance.maintain(self.home, keep_days, self.day.isoformat())
        limit = (self.day - timedelta(keep_days)).isoformat()
        found = {event["event_id"] for event in reader.read(self.home)}
        assert [] == [pair for pair in self.model if pair[0] not in found and pair[1] >= limit]
        self.model = [pair for pair in self.model if pair[0] in found]

    @precondition(lambda self: len(self.model) > 15)
    @rule()
    def clear(self) -> None:
        assert [] == rotation.clear(self.home)
        self.model.clear()
        self.counts["clears"] += 1

    @precondition(lambda self: self.allowed and self.model)
    @rule()
    def revoke(self) -> None:
        self.allowed = False
        rotation.seal(self.home, self.day.isoformat())
        self.counts["revocations"] += 1

    @precondition(lambda self: not self.allowed)
    @rule()
    def grant(self) -> None:
        self.allowed = True

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.writers[which].close()
        self.writers[which] = self.writer()

    @rule(step=st.sampled_from(PROCESSORS), when=st.integers(1, 8), seal=st.booleans())
    def crash(self, step: str, when: int, seal: bool) -> None:
        """Die right before the given call of a maintenance; its locks go with it."""
        pid = os.fork()
        if not pid:
            real, left = getattr(os, step), when

            def last(*args: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(9)
                return real(*args, **more)

            setattr(os, step, last)
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
        if date(1970, 1, 1) <= self.day + timedelta(days) <= date(2099, 12, 31):
            self.day += timedelta(days)

    @rule()
    def read(self) -> None:
        found = [event["event_id"] for event in reader.read(self.home)]
        assert sorted(name for name, _ in self.model) == sorted(found)

    def check_invariants(self, *args: object, **more: object) -> None:
        super().check_invariants(*args, **more)
        self.read()


def test_the_journal_is_a_list(ledger, full) -> None:
    """Whatever happens, a reader finds what a list would hold, after every step."""
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=1_000 if full else 200, stateful_step_count=40, deadline=None
        ),
    )
    ledger.add("machine", **JournalMachine.counts)
