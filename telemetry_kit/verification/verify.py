"""One run of `verify`: check each file in five layers and collect a certificate.

The command reads each file once, line by line. It parses each canonical line and checks its
values. It searches all other lines in each of `search.FORMS`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from telemetry_kit import settings
from telemetry_kit.consent import policy
from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import declared_names, keys, program, projects
from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import is_of_another_version
from telemetry_kit.storage.segments import ARCHIVE, FileReport, ReadReport, Source, snapshot
from telemetry_kit.verification import capacity, records, vocabulary
from telemetry_kit.verification.certificate import (
    ENVIRONMENT,
    GRAMMAR,
    PROVENANCE,
    Certificate,
    CheckedFile,
    Finding,
    masked,
)
from telemetry_kit.verification.containers import Contents
from telemetry_kit.verification.fragments import is_torn
from telemetry_kit.verification.grammar import ALWAYS, Grammar, Pairs, Violation
from telemetry_kit.verification.machine_secrets import (
    MAX_SECRETS,
    Secret,
    WeakHashes,
    gather,
    salts_of,
)
from telemetry_kit.verification.search import Search, select
from telemetry_kit.verification.texts import WORDS, Texts
from telemetry_kit.verification.vocabulary import Vocabulary

# The run counts at most this many different pseudonyms, which take about 60 MB.
MAX_PSEUDONYMS = 500_000
BATCH_BYTES = 1 << 20
OVERLAP_BYTES = 4_096
# The reader and `forget` divide joined lines at the same places: NULs and beginnings of events.
_CUT = re.compile(rb"\0+|(?=%b)" % re.escape(catalog.LINE_PREFIX.encode()))
_FIRST = f'{{"schema_version":"{catalog.SCHEMA_VERSION}"'.encode()
_KINDS = {row.name: row.kind for row in catalog.FIELDS.values()}


@dataclass(frozen=True, slots=True)
class Baseline:
    """The data that the check needs before it opens the first file.

    Args:
        paths: the paths of the project.
        vocabulary: the names that may occur in plain text.
        key: the current key, if there is one.
        resolution: the finest resolution of times that the user granted.
        secrets: the secrets of this machine.
    """

    paths: ProjectPaths
    vocabulary: Vocabulary
    key: keys.Key | None
    resolution: str
    secrets: list[Secret]


def baseline(paths: ProjectPaths, environ: Mapping[str, str], start: str) -> Baseline:
    """Gather the data that the check needs.

    Args:
        paths: the paths of the project.
        environ: the environment variables.
        start: the working directory.

    Raises:
        UnsafeFileError: the file of declared names cannot be trusted.
        ConsentError: the key that names the project directory cannot be used.
    """
    grant = policy.decide(paths, environ).grant
    return Baseline(
        paths,
        vocabulary.of(paths),
        keys.current(projects.ProjectDirs.of(paths)),
        "second" if grant is None else grant.time,
        gather(paths, environ, start),
    )


class Verification:
    """One run over the files of a project.

    Args:
        baseline: the vocabulary, key and secrets to check against.
        public: further texts that are not secret.
    """

    def __init__(self, baseline: Baseline, public: Iterable[str] = ()) -> None:
        app, names, secrets = baseline.paths.app, baseline.vocabulary, baseline.secrets
        self._baseline = baseline
        self.certificate = Certificate(app, catalog.SCHEMA_VERSION, catalog.NOTICE_VERSION)
        # In user scope, events belong to no project.
        hidden = {"project_id"} if baseline.paths.is_user_scope else set()
        always = set(ALWAYS) - hidden
        self.grammar = Grammar(names, always=always, resolution=baseline.resolution)
        words = [app, *public, *WORDS, *records.WORDS]
        for row in catalog.FIELDS.values():
            words += (row.meaning, row.kind)
        for event in catalog.EVENTS.values():
            words += (event.question, event.owner)
        searched, set_aside, declared = select(secrets, words, names.strings())
        self.search = Search(searched)
        context = [f"context.{key}" for key in names.context]
        weak = WeakHashes(secrets, [*salts_of(app, secrets), *context])
        self._texts = Texts(self.certificate, self.grammar, self.search, weak, declared)
        self._pseudonyms: set[str] = set()
        # By epoch. Keys of earlier epochs are deleted, so the first event of each one counts.
        self._projects: dict[int, str] = {}
        if (key := baseline.key) is not None:
            self._projects[key.epoch] = key.project_id(baseline.paths) or ""
        self.certificate.secrets = Counter(secret.kind for secret in searched)
        self.certificate.set_aside = Counter(secret.kind for secret in set_aside)

    def run(self, files: Iterable[str]) -> Certificate:
        """Check the log, the records beside it, and other files.

        Args:
            files: exports, reports or other files.
        """
        paths, key, notes = self._baseline.paths, self._baseline.key, self.certificate.notes
        problems = ReadReport()
        with snapshot(paths, problems) as sources:
            for source in sources:
                self.check_segment(source, problems)
        for name, report in problems.files.items():
            if report.stopped:
                self.certificate.unsearched.append(f"{os.path.basename(name)}: {report.stopped}")
        for record in records.files(paths):
            self.check_record(record)
        for number, path in enumerate(files, 1):
            self.check_given(number, path)
        for name, sentence in records.ownership_problems(paths):
            self.certificate.add(Finding(ENVIRONMENT, sentence, name))
        if self.search.exhausted:
            self.certificate.unsearched.append(
                "these files hold more encoded text than one run decodes"
            )
        notes += self._texts.notes()
        if len(self._baseline.secrets) == MAX_SECRETS:
            notes.append(
                f"this machine has more than {MAX_SECRETS:,} secrets: "
                "only the first were searched for"
            )
        if len(self._pseudonyms) == MAX_PSEUDONYMS:
            notes.append(f"there are more than {MAX_PSEUDONYMS:,} pseudonyms")
        self.certificate.pseudonyms = len(self._pseudonyms)
        self.certificate.capacity_bits = capacity.of(
            self._baseline.vocabulary,
            self._baseline.resolution,
            settings.current().retention_days,
            key.epoch if key is not None else 1,
        )
        return self.certificate

    def check_segment(self, source: Source, problems: ReadReport) -> None:
        """Check one file of the log."""
        segment = source.segment
        checked = CheckedFile(segment.name, segment.kind, segment.size_bytes)
        digest = hashlib.sha256()

        def digested() -> Iterator[bytes]:
            for chunk in source.chunks(problems.of(segment.name)):
                digest.update(chunk)
                yield chunk

        self.check_lines(checked, digested(), as_events=True, of_project=True)
        checked.sha256 = digest.hexdigest()
        if segment.kind == ARCHIVE:
            checked.sha256 = ""
            try:
                path = f"{self._baseline.paths.folder}/{segment.name}"
                with open(private.open_regular(path, follow=False), "rb") as file:
                    checked.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                pass  # another process deleted it, and its events are checked
        self.certificate.files.append(checked)

    def check_record(self, record: records.Record) -> None:
        """Check a file beside the log; of a key only the size."""
        checked = CheckedFile(record.name, record.kind, record.size_bytes)
        if record.kind != records.KEY:
            data = records.read(record.path)
            if len(data) < record.size_bytes and os.path.lexists(record.path):
                self.certificate.unsearched.append(f"not all of {record.name} can be read")
            checked.size_bytes = len(data) or record.size_bytes
            checked.sha256 = hashlib.sha256(data).hexdigest()
            for number, violation in records.violations(record.kind, data):
                self.add_violation(record.name, number, violation)
            rest = data
            if record.kind in (records.NAMES, records.PROGRAM):
                rest = self.check_declared(checked, record, data)
            self.check_lines(checked, [rest])
            checked.lines = max(checked.lines, data.count(b"\n"))
        self.certificate.files.append(checked)

    def check_declared(self, checked: CheckedFile, record: records.Record, data: bytes) -> bytes:
        """Check a file of declared names or facts, and return the lines that are no entries."""
        rest = []
        paths = self._baseline.paths
        dirs = projects.ProjectDirs.of(paths)
        if dirs is None:
            raise private.UnsafeFileError(f"{paths.directory_key} is missing")
        if record.path != dirs.names:
            dirs = dirs.of_app()
        if record.kind == records.PROGRAM:
            if program.encoded(dirs, program.decoded(dirs, data)) == data:
                return b""
            self.add_violation(checked.file, 0, Violation("not written by the recorder"))
            return data
        for number, line, entry in declared_names.entries(dirs, data):
            if entry is not None:
                continue
            rest.append(line)
            if records.is_torn_name(line):
                checked.torn += 1
            else:
                text = line.decode("utf-8", "replace")
                violation = Violation("not written by the recorder", "", text)
                self.add_violation(checked.file, number, violation)
        return b"\n".join(rest)

    def check_given(self, number: int, path: str) -> None:
        """Check a file that the user named, and the files in it, as events or as free text."""
        # The root directory has no name.
        name = os.path.basename(path.rstrip("/")) or path
        if self.search.find(os.fsencode(name)):
            name = f"FILE {number}"
        try:
            fd = private.open_regular(path)
        except (OSError, ValueError) as error:
            reason = private.explain(error)
            self.certificate.unsearched.append(f"cannot look into {name}: {reason}")
            return
        with open(fd, "rb") as file:
            checked = CheckedFile(name, "given", os.fstat(fd).st_size)
            contents = Contents(file, path, name, self.search.find)
            checked.sha256 = contents.sha256()
            for part in contents.parts():
                of_part = CheckedFile(part.name, "given")
                is_log = part.first.startswith(_FIRST) or is_of_another_version(part.first)
                self.check_lines(of_part, part.chunks, as_events=is_log)
                if part.first:
                    checked.add(of_part)
            checked.inside = contents.files
        self.certificate.unsearched += contents.problems
        self.certificate.files.append(checked)

    def check_lines(
        self,
        checked: CheckedFile,
        chunks: Iterable[bytes],
        as_events: bool = False,
        of_project: bool = False,
    ) -> None:
        """Check the lines of one file.

        Args:
            checked: takes the counts.
            chunks: the bytes of the file.
            as_events: each line should be an event; otherwise all lines are free text.
            of_project: the key of this project made the pseudonyms.
        """
        ids: list[tuple[int, str]] = []
        free: list[tuple[int, bytes]] = []
        size = 0

        def is_event(number: int, piece: bytes) -> bool:
            pairs = self.grammar.parse(piece)
            if pairs is None or self.grammar.violations_of(pairs, piece):
                return False
            checked.events += 1
            ids.append((number, self.check_values(checked.file, number, pairs, of_project)))
            return True

        for number, line in enumerate(lines_of(chunks), 1):
            checked.lines = number
            size += len(line)
            if not as_events:
                free.append((number, line))
            elif not line:
                checked.blank += 1
            elif not is_event(number, line):
                # A line may be joined to the fragment that a killed process left.
                for piece in filter(None, _CUT.split(line)):
                    if is_event(number, piece):
                        continue
                    free.append((number, piece))
                    if is_of_another_version(piece):
                        checked.other_version += 1
                        continue
                    if is_torn(piece, self.grammar):
                        checked.torn += 1
                        continue
                    for violation in self.grammar.violations(piece):
                        self.add_violation(checked.file, number, violation)
            if size > BATCH_BYTES:
                self._texts.check_ids(checked.file, ids)
                self._texts.check_free(checked.file, free)
                # A text may begin in one batch and end in the next.
                is_short = bool(free) and len(free[-1][1]) <= OVERLAP_BYTES
                ids, free, size = ids[-2:], free[-1:] if is_short else [], 0
        self._texts.check_ids(checked.file, ids)
        self._texts.check_free(checked.file, free)
        if checked.other_version:
            unknown = FileReport(other_version=checked.other_version).of_other_version()
            self.certificate.unsearched.append(f"{checked.file} has {unknown}")

    def add_violation(self, file: str, number: int, violation: Violation) -> None:
        """Report a violation of the grammar."""
        self.certificate.add(
            Finding(GRAMMAR, violation.kind, file, number, violation.field, masked(violation.text))
        )

    def check_values(self, file: str, number: int, pairs: Pairs, of_project: bool) -> str:
        """Check the values of a canonical event, and return the hex digits of its ids."""
        digits: list[str] = []
        epoch, project = 0, ""
        for name, value in pairs:
            kind = _KINDS[name]
            if kind in (catalog.RANDOM, catalog.IDENTIFIER):
                digits.append(self.check_id(file, number, name, value))
                project = value if name == "project_id" else project
            elif kind == catalog.MEASURE:
                epoch = value if name == "key_epoch" else epoch
                # A duration has two digits and zeros.
                if value > 99_999 and name != "duration_ms":
                    self._texts.check_number(file, number, name, value)
            elif kind == catalog.NAME and value.startswith(catalog.PSEUDONYM_PREFIX):
                digits.append(self.check_id(file, number, name, value))
            elif kind == catalog.MAPPING:
                for key, given in value.pairs:
                    if type(given) is str and given.startswith(catalog.PSEUDONYM_PREFIX):
                        digits.append(self.check_id(file, number, f"{name}.{key}", given))
                    elif type(given) is str:
                        self._texts.check_value(given)
                    elif type(given) is int:
                        self._texts.check_number(file, number, f"{name}.{key}", given)
            elif kind in (catalog.NAME, catalog.VERSION) or name == "error_type":
                self._texts.check_value(value)
        if of_project:
            self.check_epoch(file, number, epoch, project)
        return "".join(digits)

    def check_epoch(self, file: str, number: int, epoch: int, project: str) -> None:
        """Check that the key of an epoch made the pseudonym of the project."""
        key = self._baseline.key
        kind, field = "not made by the key of its epoch", "project_id"
        if key is not None and epoch > key.epoch:
            kind, field = "an epoch that no key has had", "key_epoch"
        elif project == self._projects.setdefault(epoch, project):
            return
        self.certificate.add(Finding(PROVENANCE, kind, file, number, field))

    def check_id(self, file: str, number: int, field: str, value: str) -> str:
        """Check that an id is no weak hash of a secret, and return its hex digits."""
        digits = value.removeprefix(catalog.PSEUDONYM_PREFIX)
        if digits != value:
            if value in self._pseudonyms:
                return digits
            if len(self._pseudonyms) < MAX_PSEUDONYMS:
                self._pseudonyms.add(value)
        self._texts.check_hash(file, number, field, digits)
        return digits


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends, divided where one is longer than `BATCH_BYTES`."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > BATCH_BYTES:
            yield rest
            rest = rest[-OVERLAP_BYTES:]
    if rest:
        yield rest
