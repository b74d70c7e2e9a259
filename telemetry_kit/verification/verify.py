"""One run of `verify`: each file passes through its layers, into a certificate.

Data is read once, line by line. Canonical lines cost a parse and a look-up. All other lines are
searched in each of `encodings.FORMS`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from errno import EISDIR, ENXIO

from telemetry_kit import settings
from telemetry_kit.consent import policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import declared_names, keys, projects
from telemetry_kit.schema import catalog
from telemetry_kit.storage.segments import ARCHIVE, FileReport, ReadReport, Source, snapshot
from telemetry_kit.verification import capacity, machine_secrets, records, streams, vocabulary
from telemetry_kit.verification.certificate import (
    ENVIRONMENT,
    GRAMMAR,
    PROVENANCE,
    Certificate,
    Finding,
    Looked,
    masked,
)
from telemetry_kit.verification.fragments import is_torn
from telemetry_kit.verification.grammar import Grammar, Pairs, Violation
from telemetry_kit.verification.provenance import WeakHashes, salts_of
from telemetry_kit.verification.search import Search
from telemetry_kit.verification.texts import WORDS, Texts
from telemetry_kit.verification.vocabulary import Vocabulary

# Different pseudonyms that are counted: about 60 MB of them.
MAX_PSEUDONYMS = 500_000
# As the reader and `forget` take lines apart: at NULs, and where an event begins.
_CUT = re.compile(rb"\0+|(?=%b)" % re.escape(catalog.LINE_PREFIX.encode()))
_FIRST = f'{{"schema_version":"{catalog.SCHEMA_VERSION}"'.encode()


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known before the first file is opened.

    Args:
        home: the project's places.
        vocabulary: names that may stand in clear.
        key: the key in force, if there is one.
        resolution: the finest resolution of times that was agreed to.
        secrets: this machine's own.
    """

    home: ProjectPaths
    vocabulary: Vocabulary
    key: keys.Key | None
    resolution: str
    secrets: list[machine_secrets.Secret]


def baseline(home: ProjectPaths, environ: Mapping[str, str], start: str) -> Baseline:
    """Gather what the check needs.

    Args:
        home: the project's places.
        environ: the environment variables.
        start: the working directory.

    Raises:
        UnsafeFileError: the names ledger cannot be trusted.
        ConsentError: the directory key cannot be used.
    """
    grant = policy.decide(home, environ).grant
    return Baseline(
        home,
        vocabulary.of(home),
        keys.current(projects.ProjectDirs.of(home)),
        "second" if grant is None else grant.time,
        machine_secrets.gather(home, environ, start),
    )


class Examination:
    """The files of one run.

    Args:
        baseline: what is known before.
        public: further texts that anybody may know.
    """

    def __init__(self, baseline: Baseline, public: Iterable[str] = ()) -> None:
        self._baseline = baseline
        self.certificate = Certificate(
            baseline.home.app, catalog.SCHEMA_VERSION, catalog.NOTICE_VERSION
        )
        words = [*_schema_words(), baseline.home.app, *public]
        self.search = Search(baseline.secrets, words, baseline.vocabulary.strings())
        self.grammar = Grammar(baseline.vocabulary, resolution=baseline.resolution)
        context = [f"context.{key}" for key in baseline.vocabulary.context]
        self._weak = WeakHashes(
            baseline.secrets, [*salts_of(baseline.home.app, baseline.secrets), *context]
        )
        self._codes: set[str] = set()
        self._projects: dict[int, str] = {}
        self._texts = Texts(self.certificate, self.grammar, self.search, self._weak)
        self.certificate.secrets = dict(Counter(s.kind for s in self.search.secrets))
        self.certificate.set_aside = dict(Counter(s.kind for s in self.search.set_aside))

    def run(self, given: Iterable[str]) -> Certificate:
        """Everything: the journal, the records beside it, and files that were named.

        Args:
            given: paths of exports, reports or other files.
        """
        problems = ReadReport()
        with snapshot(self._baseline.home, problems) as sources:
            for source in sources:
                self._segment(source, problems)
        for name, report in problems.files.items():
            if report.stopped:
                self.certificate.notes.append(f"{os.path.basename(name)}: {report.stopped}")
        for record in records.files(self._baseline.home):
            self._record(record)
        for number, path in enumerate(given, 1):
            self._given(number, path)
        for name, sentence in records.ownership_problems(self._baseline.home):
            self.certificate.add(Finding(ENVIRONMENT, sentence, name))
        if self.search.exhausted:
            self.certificate.unsearched.append(
                "these files hold more encoded text than is decoded in one run"
            )
        self.certificate.notes += self._texts.notes()
        if len(self._baseline.secrets) == machine_secrets.MAX_SECRETS:
            self.certificate.notes.append(
                f"this machine has more than {machine_secrets.MAX_SECRETS} secrets: "
                "the first were looked for"
            )
        key = self._baseline.key
        self.certificate.pseudonyms = len(self._codes)
        if len(self._codes) == MAX_PSEUDONYMS:
            self.certificate.notes.append("there are more pseudonyms than were counted")
        self.certificate.capacity_bits = capacity.of(
            self._baseline.vocabulary,
            self._baseline.resolution,
            settings.current().retention_days,
            key.epoch if key is not None else 1,
        )
        return self.certificate

    # -- files ---------------------------------------------------------------------------------

    def _segment(self, source: Source, problems: ReadReport) -> None:
        segment = source.segment
        looked = Looked(segment.name, segment.kind, segment.size_bytes)
        digest = hashlib.sha256()
        chunks = streams.digested(source.chunks(problems.of(segment.name)), digest)
        self._events(looked, chunks, ours=True)
        looked.sha256 = digest.hexdigest()
        if segment.kind == ARCHIVE:
            looked.sha256 = streams.sha256(f"{self._baseline.home.folder}/{segment.name}")
        self.certificate.files.append(looked)

    def _record(self, record: records.Record) -> None:
        if record.kind == records.TOML:
            return  # written by people, for people
        data = records.content(record)
        size = len(data) or streams.size(record.path)
        looked = Looked(record.name, record.kind, size)
        if record.kind != records.KEY:
            looked.sha256 = hashlib.sha256(data).hexdigest()
            looked.lines = data.count(b"\n")
            for number, violation in records.violations(record.kind, data):
                self._violation(record.name, number, violation)
            if record.kind == records.NAMES:
                data = self._names(looked, data)
            self._foreign(looked, [data])
        self.certificate.files.append(looked)

    def _names(self, looked: Looked, data: bytes) -> bytes:
        """Count the entries of the names ledger; returns the lines that are none."""
        rest = []
        home = self._baseline.home
        dirs = projects.ProjectDirs.of(home)
        if dirs is None:
            raise private.UnsafeFileError(f"{home.directory_key} is gone")
        for number, line, entry in declared_names.entries(dirs, data):
            if entry is None:
                rest.append(line)
                if records.is_torn_name(line):
                    looked.torn += 1
                else:
                    text = line.decode("utf-8", "replace")
                    self._violation(
                        looked.file, number, Violation("not written by the recorder", "", text)
                    )
        return b"\n".join(rest)

    def _given(self, number: int, path: str) -> None:
        name = os.path.basename(path)
        if self.search.find(os.fsencode(name)):
            name = f"FILE {number}"
        try:
            fd = private.open_regular(path)
        except OSError as error:
            if error.errno in (ENXIO, EISDIR):
                raise ConsentError(f"{name} is not a regular file: give a file") from None
            raise ConsentError(f"{name} cannot be opened ({error.strerror})") from None
        except ValueError:
            raise ConsentError(f"{name!r} is not a path") from None
        with open(fd, "rb") as file:
            digest = hashlib.sha256()
            looked = Looked(name, "given", os.fstat(fd).st_size)
            report = FileReport()
            chunks = streams.unpacked(streams.digested(streams.chunks(file), digest), report)
            first = next(chunks, b"")
            again = streams.again(first, chunks)
            if first.startswith(_FIRST):
                self._events(looked, again, ours=False)
            else:
                self._foreign(looked, again)
            looked.sha256 = digest.hexdigest()
        if report.stopped:
            looked.sha256 = streams.sha256(path)
            self.certificate.notes.append(f"{name}: {report.stopped}")
        self.certificate.files.append(looked)

    def _events(self, looked: Looked, chunks: Iterable[bytes], ours: bool) -> None:
        """Lines that should be events."""
        hexes: list[tuple[int, str]] = []
        loose: list[tuple[int, bytes]] = []
        size = 0
        for number, line in enumerate(streams.lines(chunks), 1):
            looked.lines = number
            if not line:
                looked.blank += 1
            elif (pairs := self._event(line)) is not None:
                size += self._canonical(looked, number, pairs, ours, hexes)
            else:
                for piece in filter(None, _CUT.split(line)):
                    # A line may be glued to the fragment that a killed process left.
                    pairs = self._event(piece)
                    if pairs is not None:
                        size += self._canonical(looked, number, pairs, ours, hexes)
                    else:
                        self._not_canonical(looked, number, piece)
                        loose.append((number, piece))
                        size += len(piece)
            if size > streams.BATCH_BYTES:
                self._texts.spelled(looked.file, hexes)
                self._texts.loose(looked.file, loose)
                hexes, loose, size = hexes[-2:], [], 0
        self._texts.spelled(looked.file, hexes)
        self._texts.loose(looked.file, loose)

    def _foreign(self, looked: Looked, chunks: Iterable[bytes]) -> None:
        """Bytes that no grammar of ours covers."""
        numbered = enumerate(streams.lines(chunks), 1)
        batch: list[tuple[int, bytes]] = []
        size = 0
        for number, line in numbered:
            looked.lines = number
            batch.append((number, line))
            size += len(line)
            if size > streams.BATCH_BYTES:
                self._texts.loose(looked.file, batch)
                # A text may begin in one batch and end in the next.
                batch, size = batch[-1:] if len(line) <= streams.OVERLAP_BYTES else [], 0
        self._texts.loose(looked.file, batch)

    # -- layer 1 and 2 -------------------------------------------------------------------------

    def _event(self, line: bytes) -> Pairs | None:
        """The pairs of a canonical line; None for anything else."""
        pairs = self.grammar.parse(line)
        return None if pairs is None or self.grammar.violations_of(pairs, line) else pairs

    def _not_canonical(self, looked: Looked, number: int, piece: bytes) -> None:
        if is_torn(piece, self.grammar):
            looked.torn += 1
            return
        for violation in self.grammar.violations(piece):
            self._violation(looked.file, number, violation)

    def _violation(self, file: str, number: int, violation: Violation) -> None:
        self.certificate.add(
            Finding(GRAMMAR, violation.kind, file, number, violation.field, masked(violation.text))
        )

    def _canonical(
        self, looked: Looked, number: int, pairs: Pairs, ours: bool, hexes: list[tuple[int, str]]
    ) -> int:
        """Take in the values of an event, and its hex digits; returns how many there are."""
        looked.events += 1
        file = looked.file
        digits: list[str] = []
        epoch, project = 0, ""
        for name, value in pairs:
            kind = _KIND[name]
            if kind in (catalog.RANDOM, catalog.IDENTIFIER):
                digits.append(self._code(file, number, name, value))
                project = value if name == "project_id" else project
            elif kind == catalog.MEASURE:
                epoch = value if name == "key_epoch" else epoch
                # A duration is one of 54 powers of two.
                if value > 99_999 and name != "duration_ms":
                    self._texts.number(file, number, name, value)
            elif kind == catalog.NAME and value.startswith(catalog.PSEUDONYM_PREFIX):
                digits.append(self._code(file, number, name, value))
            elif kind == catalog.MAPPING:
                for key, given in value.pairs:
                    if type(given) is str and given.startswith(catalog.PSEUDONYM_PREFIX):
                        digits.append(self._code(file, number, f"{name}.{key}", given))
                    elif type(given) is str:
                        self._texts.check_value(given)
                    elif type(given) is int:
                        self._texts.number(file, number, f"{name}.{key}", given)
            elif kind == catalog.NAME or name == "error_type":
                self._texts.check_value(value)
        if ours:
            self._epoch(file, number, epoch, project)
        hexes.append((number, "".join(digits)))
        return len(hexes[-1][1])

    def _epoch(self, file: str, number: int, epoch: int, project: str) -> None:
        key = self._baseline.key
        if key is not None and epoch > key.epoch:
            self.certificate.add(
                Finding(PROVENANCE, "an epoch that no key has had", file, number, "key_epoch")
            )
            return
        if epoch not in self._projects:
            home = self._baseline.home
            known_ = key is not None and epoch == key.epoch
            made = key.pseudonym("project_id", home.root) if key is not None and known_ else project
            self._projects[epoch] = made
        if self._projects[epoch] != project:
            self.certificate.add(
                Finding(PROVENANCE, "not made by the key of its epoch", file, number, "project_id")
            )

    def _code(self, file: str, number: int, field: str, value: str) -> str:
        code = value.removeprefix(catalog.PSEUDONYM_PREFIX)
        if len(code) != len(value):
            if value in self._codes:
                return code
            if len(self._codes) < MAX_PSEUDONYMS:
                self._codes.add(value)
        secret = self._weak.made(code)
        if secret is not None:
            kind = f"a hash without a key, of: {secret.kind}"
            self.certificate.add(
                Finding(PROVENANCE, kind, file, number, field, masked(secret.text))
            )
        return code


_KIND = {row.name: row.kind for row in catalog.FIELDS.values()}


def _schema_words() -> Iterator[str]:
    yield from WORDS
    yield from records.WORDS
    for row in catalog.FIELDS.values():
        yield row.meaning
        yield row.kind
    for event in catalog.EVENTS.values():
        yield event.question
        yield event.owner
