"""`verify` looks into archives, documents and databases, and names what it cannot look into."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import socket
import sqlite3
import tarfile
import zipfile

import pytest

from telemetry_kit.storage import compression
from telemetry_kit.verification import containers

SECRET = "zora.quillfeather@quill.example"
TEXT = f"role,agent\ndev,{SECRET}\n".encode()


def as_tar(data: bytes, name: str = "usage.csv", form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive with one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def as_zip(data: bytes, name: str = "usage.csv", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP archive with one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def as_xlsx(data: bytes) -> bytes:
    """Return a workbook: a ZIP archive with the texts of its cells in one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", '<?xml version="1.0"?><Types/>')
        archive.writestr("xl/sharedStrings.xml", b"<sst><si><t>" + data + b"</t></si></sst>")
    return file.getvalue()


def as_sqlite(data: bytes) -> bytes:
    """Return a database with a value that is longer than a page."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE "the ""events""" (role TEXT, payload TEXT)')
        # The secret crosses the border of two pages of 4,096 bytes.
        long = "x" * 4_040 + " " + data.decode()
        connection.execute('INSERT INTO "the ""events""" VALUES (?, ?)', ("dev", long))
        connection.commit()
        return connection.serialize()


def as_zipapp(data: bytes) -> bytes:
    """Return a ZIP archive that begins with another text."""
    return b"#!/usr/bin/env python3 -m a-long-line-of-text\n" + as_zip(data)


def after_an_archive(data: bytes) -> bytes:
    """Return two tar archives, one after the other."""
    return as_tar(b"role\ndev\n") + as_tar(data)


PACKERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "two streams": lambda data: bz2.compress(b"role\n") + bz2.compress(data),
    "tar": as_tar,
    "old tar": lambda data: as_tar(data, form=tarfile.USTAR_FORMAT),
    "long name": lambda data: as_tar(data, "a" * 300, tarfile.GNU_FORMAT),
    "second tar": after_an_archive,
    "zip": as_zip,
    "stored zip": lambda data: as_zip(data, method=zipfile.ZIP_STORED),
    "bzip2 zip": lambda data: as_zip(data, method=zipfile.ZIP_BZIP2),
    "xz zip": lambda data: as_zip(data, method=zipfile.ZIP_LZMA),
    "zipapp": as_zipapp,
    "xlsx": as_xlsx,
    "sqlite": as_sqlite,
    "tar.gz": lambda data: gzip.compress(as_tar(data)),
    "zip in tar.xz": lambda data: lzma.compress(as_tar(as_zip(data))),
    "sqlite in zip": lambda data: as_zip(as_sqlite(data)),
    "xlsx in zip in zip": lambda data: as_zip(as_zip(as_xlsx(data))),
}


@pytest.fixture
def check(make_verification, tmp_path):
    """Return a function that verifies bytes as one file, and returns the certificate."""

    def verify(data: bytes, name: str = "events.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        return make_verification([SECRET]).run([str(path)])

    return verify


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_secret_in_an_archive_is_found(pack, check) -> None:
    """A secret is found in every kind of archive, and the same archive without it passes."""
    with_secret = check(pack(TEXT))
    clean = check(pack(b"role,agent\ndev,other\n"))

    assert "environment" in {finding.kind for finding in with_secret.findings}
    assert ([], [], True) == (clean.findings, clean.unsearched, clean.passed)


def test_a_parquet_file(check, tmp_path) -> None:
    """A secret in a compressed column, or in the metadata, of a Parquet file is found."""
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "made.parquet"
    found = []
    for sql in (
        f"COPY (SELECT 'role {SECRET}' AS role FROM range(9)) TO '{path}' (COMPRESSION zstd)",
        f"COPY (SELECT 1 AS n) TO '{path}' (KV_METADATA {{owner: '{SECRET}'}})",
        f"COPY (SELECT 'dev' AS role FROM range(9)) TO '{path}' (COMPRESSION zstd)",
    ):
        duckdb.sql(sql)
        found.append(check(path.read_bytes()).passed)

    assert [False, False, True] == found


@pytest.mark.parametrize(
    "pack", [lambda d: as_zip(d, SECRET), lambda d: as_tar(d, SECRET), lambda d: named_gzip(d)]
)
def test_a_secret_in_a_name_is_found_and_not_shown(pack, check) -> None:
    """The names of the files in an archive are searched, and one that is a secret is not shown."""
    certificate = check(pack(TEXT))
    shown = str(certificate.as_json())

    assert len(certificate.findings) >= 2
    assert "quillfeather" not in shown


def named_gzip(data: bytes) -> bytes:
    """Return a gzip stream whose header names the original file."""
    file = io.BytesIO()
    with gzip.GzipFile(SECRET, "wb", fileobj=file) as stream:
        stream.write(data)
    return file.getvalue()


@pytest.mark.parametrize(("owner", "passes"), [("zora.quillfeather", False), ("root", True)])
def test_the_owner_of_a_file_in_a_tar_archive_is_found(
    owner: str, passes: bool, make_verification, tmp_path
) -> None:
    """The user name in the header of a tar archive is searched."""
    path = tmp_path / "events.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("usage.csv")
        info.uname = owner
        archive.addfile(info)

    assert passes == make_verification(["zora.quillfeather"]).run([str(path)]).passed


def test_events_in_an_archive_are_counted(check, make_lines) -> None:
    """Canonical lines in an archive are events, and the report counts the files inside."""
    log = b"\n".join(make_lines(7, 1)) + b"\n"
    given = check(as_zip(log)).files[-1]

    assert (7, 7, 1) == (given.events, given.lines, given.inside)
    assert len(as_zip(log)) == given.size_bytes


def encrypted(data: bytes) -> bytes:
    """Return a ZIP archive whose file is marked as encrypted."""
    made = bytearray(as_zip(data))
    for magic, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        made[made.index(magic) + at] |= 1
    return bytes(made)


def with_gap(data: bytes) -> bytes:
    """Return a ZIP archive with compressed bytes that belong to none of its files."""
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}]) + as_zip(b"a")


CLOSED = {
    "pdf": (b"%PDF-1.7\nstream\nendstream\n", "neither text nor an archive"),
    "random": (random.Random(3).randbytes(500), "neither text nor an archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(32)), "neither text nor an archive"),
    "encrypted zip": (encrypted(TEXT), "usage.csv: it is encrypted"),
    "gap in zip": (with_gap(TEXT * 9), "neither text nor an archive"),
    "binary in zip": (as_zip(bytes(range(256))), "usage.csv: it is neither"),
    "binary in tar": (as_tar(bytes(range(256))), "usage.csv: it is neither"),
    "truncated gzip": (gzip.compress(TEXT)[:-9], "incomplete"),
    "truncated bzip2": (bz2.compress(TEXT)[:-9], "incomplete"),
    "truncated xz": (lzma.compress(TEXT)[:-9], "incomplete"),
    "truncated zip": (as_zip(TEXT)[:-30], "damaged"),
    "truncated tar": (as_tar(TEXT * 99)[:1_200], "incomplete"),
    "damaged gzip": (gzip.compress(TEXT)[:-8] + b"\1" * 8, "damaged"),
    "damaged tar": (as_tar(TEXT)[:1024] + b"role\n" * 200, "damaged"),
    "text behind gzip": (gzip.compress(b"role\n") + TEXT, "damaged"),
    "damaged sqlite": (as_sqlite(TEXT)[:5_000], "damaged"),
    "damaged parquet": (b"PAR1" + bytes(99), "damaged"),
    "parquet in zip": (as_zip(b"PAR1" + bytes(99)), "inside another file"),
    "seven levels": (as_zip(as_zip(as_zip(as_zip(as_zip(as_zip(as_zip(TEXT))))))), "5 others"),
}


@pytest.mark.parametrize(("data", "reason"), CLOSED.values(), ids=CLOSED)
def test_what_cannot_be_looked_into_fails(data: bytes, reason: str, check) -> None:
    """A file that cannot be looked into is named in one sentence, and the run does not pass."""
    certificate = check(data)

    assert not certificate.passed
    assert certificate.unsearched[0].startswith("cannot look into events.bin")
    assert reason in certificate.unsearched[0]


def test_the_content_decides_and_not_the_suffix(check) -> None:
    """A ZIP archive named as text is looked into, and a text named as a ZIP archive passes."""
    assert check(as_zip(TEXT), "usage.csv").findings
    assert check(b"role\ndev\n", "usage.zip").passed


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("role caf\u00e9 \u2713\n\x1b[1mdev\x1b[0m\f", "utf-8"),
        ("role caf\u00e9\n", "latin-1"),
        ("role caf\u00e9 \u2713\n", "utf-16"),
        ("\u0440\u043e\u043b\u044c \u0434\u0435\u0432\n", "utf-16-le"),
        ("\u0440\u043e\u043b\u044c \u0434\u0435\u0432\n", "utf-16-be"),
        ("role\0\0\0dev\n", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_texts_pass(text: str, encoding: str, check) -> None:
    """A text passes in UTF-8, in UTF-16 and in older encodings."""
    certificate = check(text.encode(encoding) * 50)

    assert ([], True) == (certificate.unsearched, certificate.passed)


def bomb(pack, levels: int) -> bytes:
    """Return an archive of many zero bytes, packed several times."""
    data = bytes(1 << 20)
    for _ in range(levels):
        data = pack(data)
    return data


BOMBS = {
    "gzip": lambda: bomb(gzip.compress, 1),
    "gzip twice": lambda: bomb(gzip.compress, 2),
    "bzip2": lambda: bomb(bz2.compress, 1),
    "xz": lambda: bomb(lzma.compress, 1),
    "zip": lambda: bomb(as_zip, 1),
    "zip twice": lambda: bomb(as_zip, 2),
    "bzip2 zip": lambda: bomb(lambda data: as_zip(data, method=zipfile.ZIP_BZIP2), 1),
    "xz zip": lambda: bomb(lambda data: as_zip(data, method=zipfile.ZIP_LZMA), 1),
    "tar.gz": lambda: gzip.compress(bomb(as_tar, 1)),
    "many": lambda: as_zip_of_copies(bytes(1 << 16), 16),
}


def as_zip_of_copies(data: bytes, count: int) -> bytes:
    """Return a ZIP archive with many copies of a file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"{number}.csv", data)
    return file.getvalue()


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_stopped(make, check, monkeypatch) -> None:
    """An archive that expands too far is read up to the limit, whatever its kind and depth."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1 << 16)
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 3 << 16)
    certificate = check(make())

    assert not certificate.passed
    assert "larger than an archive may be" in certificate.unsearched[0]
    assert certificate.files[-1].lines <= 20


MEMORY = """
import os, resource, sys
from telemetry_kit.verification.containers import Contents

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        contents = Contents(file, path, "bomb", lambda name: False)
        contents.sha256()
        for part in contents.parts():
            for _ in part.chunks:
                pass
    assert contents.problems, path
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_takes_little_memory(undecided, tmp_path) -> None:
    """Archives of 160 MiB of zero bytes are looked into in less than 100 MiB."""
    packed = bz2.compress(bytes(160 << 20))
    paths = []
    for number, pack in enumerate((as_bzip2_zip, bytes)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(pack(packed))
        paths.append(str(path))
    done = undecided.run(MEMORY, *paths)

    assert (0, "") == (done.returncode, done.stderr)
    assert int(done.stdout) < 100 << 10


def as_bzip2_zip(packed: bytes) -> bytes:
    """Return a ZIP archive whose file is a stream that bzip2 has compressed already."""
    made = bytearray(as_zip(packed, method=zipfile.ZIP_STORED))
    for magic, at in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        made[made.index(magic) + at] = zipfile.ZIP_BZIP2
    return bytes(made)


def test_the_number_of_files_is_limited(check, monkeypatch) -> None:
    """An archive with more files than the limit is read up to it, also across archives."""
    monkeypatch.setattr(containers, "MAX_FILES", 10)
    for data in (
        as_zip_of_copies(b"dev\n", 12),
        as_zip_of_copies(as_zip_of_copies(b"dev\n", 3), 4),
    ):
        certificate = check(data)

        assert any("more than 10 files" in told for told in certificate.unsearched)
        assert 11 == certificate.files[-1].inside


def test_the_list_of_files_of_a_zip_archive_is_limited(check, monkeypatch) -> None:
    """A list of files that is too long is not read into memory."""
    monkeypatch.setattr(containers, "MAX_DIRECTORY_BYTES", 1 << 16)
    certificate = check(as_zip_of_copies(b"", 2_000))

    assert ["cannot look into events.bin: it contains more than 10,000 files"] == (
        certificate.unsearched
    )


def test_an_archive_inside_another_one_is_held_up_to_a_limit(check, monkeypatch) -> None:
    """A nested ZIP archive that is too large for memory is named."""
    monkeypatch.setattr(containers, "MAX_MEMORY_BYTES", 1 << 10)
    noise = random.Random(1).randbytes(4_000).hex().encode()

    assert "more than 0 MiB inside another one" in check(as_zip(as_zip(noise))).unsearched[0]


def test_only_the_first_files_that_cannot_be_looked_into_are_named(check) -> None:
    """If many files inside cannot be looked into, one sentence counts for the rest."""
    told = check(as_zip_of_copies(b"\1\2", 30)).unsearched

    assert containers.MAX_PROBLEMS + 1 == len(told)
    assert "and into more files inside events.bin" == told[-1]


def test_a_file_without_an_end_is_refused(make_verification, tmp_path) -> None:
    """A sparse file of 8 TiB is refused by its size, and nothing of it is read."""
    path = tmp_path / "usage.csv"
    path.touch()
    os.truncate(path, 8 << 40)
    certificate = make_verification([SECRET]).run([str(path)])

    assert ["cannot look into usage.csv: it is larger than 1 GiB"] == certificate.unsearched


@pytest.fixture
def other_files(tmp_path):
    """Make a pipe, a socket, a folder that contains itself, and a link that points to itself."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    there = os.getcwd()
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        yield
    os.chdir(there)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "/: it is a folder (EISDIR)"),
        ("loop/loop/", "loop: it is a folder (EISDIR)"),
        ("/dev/zero", "zero: it is no plain file (ENXIO)"),
        ("fifo", "fifo: it is no plain file (ENXIO)"),
        ("socket", "socket: it is no plain file (ENXIO)"),
        ("link", "link: it is a symbolic link (ELOOP)"),
        ("missing", "missing: there is no such file (ENOENT)"),
        ("a\0b", "a\0b: cannot be used (ValueError)"),
        ("/proc/self/mem", "mem: input/output error (EIO)"),
    ],
)
def test_a_path_that_is_no_file(path: str, reason: str, make_verification, other_files) -> None:
    """Anything but a plain file is refused in one sentence, and other files are still checked."""
    with open("usage.csv", "wb") as file:
        file.write(TEXT)
    certificate = make_verification([SECRET]).run([path, "usage.csv"])

    assert [f"cannot look into {reason}"] == certificate.unsearched
    assert certificate.findings
