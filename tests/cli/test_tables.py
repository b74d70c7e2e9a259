"""Tables and folded text fit the width and lose no character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.cli.tables import Column, display_width, fold, numbers, sparkline, table

LETTERS = st.sampled_from("ab  -:/._e\u0301日本\u3000\uff21Ω각👍🏽\u2764\ufe0f\x1b\u202e")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("abc", 3),
        ("日本語", 6),
        ("\uff21\uff22", 4),
        ("ﾊﾝ", 2),
        ("e\u0301", 1),
        ("각", 2),
        ("\u1100\u1161\u11a8", 2),
        ("▇▇", 2),
        ("Ω", 1),
        ("👍", 2),
        ("👍\U0001f3fd", 2),
        ("\u2764", 1),
        ("\u2764\ufe0f", 2),
        ("\u231a\ufe0f", 2),
        ("\U0001f1eb\U0001f1f7", 2),
    ],
)
def test_display_width(text, columns):
    """A combining mark takes no column, and a wide character takes two."""
    assert columns == display_width(text)


@given(st.text(LETTERS, max_size=60), st.integers(4, 30), st.sampled_from(["", "  "]))
def test_folded_text_fits_and_is_complete(text, columns, rest):
    """No line is wider than the limit, and only spaces are removed."""
    lines = list(fold(text, columns, "", rest))

    assert max(map(display_width, lines)) <= columns
    joined = "".join("".join(lines).split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert "".join(shown.split()) == joined


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("", 5, [""]),
        ("one two three", 8, ["one two", "three"]),
        ("a bcdefghij k", 10, ["a", "bcdefghij", "k"]),
        ("/dev:build-something-long", 10, ["/dev:build", "-something", "-long"]),
        ("agent one  ok  32 ms", 15, ["agent one  ok", "32 ms"]),
        ("agent one  not ended", 16, ["agent one", "not ended"]),
        ("h:2bd806c97f0e", 8, ["h:2bd806", "c97f0e"]),
        ("/a:implementation", 15, ["/a:", "implementation"]),
        ("/implementation", 12, ["/implementat", "ion"]),
        ("no:1 qa/verification", 14, ["no:1 qa/", "verification"]),
    ],
)
def test_where_a_text_is_folded(text, columns, lines):
    """Text is folded at a gap, between words, after a separator in a name, or anywhere."""
    assert lines == list(fold(text, columns))


@pytest.mark.parametrize("max_width", [10, 20, 40, 80])
def test_tables_print_each_name_completely(max_width):
    """A long name continues on the next line, and no line is too wide."""
    rows = ["a" * 50, "bb", "日本語" * 5]
    lines = list(
        table(
            (Column("name", rows, can_fold=True), numbers("n", [1, 20, 3])), max_width, [1, 0.5, 0]
        )
    )

    assert "".join(lines).count("a") >= 50
    assert "".join(lines).count("日") == 5
    assert all(display_width(line) <= max_width for line in lines)


def test_sparklines_and_wrapping():
    """Only zero is blank in a sparkline. A word longer than a line is broken."""
    assert sparkline([0, 1, 1_000, 500], 10) in (" ▁█▄", " .@+", " .@=")
    assert sparkline([1, 2, 3], 2)[-1] in "█@"
    assert list(fold("one two " + "x" * 12, 10, "  ")) == ["  one two", "  xxxxxxxx", "  xxxx"]


def test_a_path_is_not_broken_after_the_dot_of_a_hidden_file() -> None:
    """A path is broken before the dot that begins a name, and after any other joint."""
    assert [*fold("/home/me/.config/telemetry.toml", 11)] == [
        "/home/me/",
        ".config/",
        "telemetry.",
        "toml",
    ]


@pytest.mark.parametrize("max_width", [24, 40, 60, 80, 100])
def test_no_part_of_a_name_is_broken(max_width):
    """A table has whole parts of names, or is a list if the terminal is too narrow."""
    names = ["/spec:generate-acceptance", "h:2bd806c97f0e", "quality-guardian", "a b", "x"]
    columns = [Column(t, names, can_fold=True) for t in ("role", "command", "agent")]
    lines = table((*columns, numbers("started", [1] * 5), numbers("n", [9] * 5, 1)), max_width)
    text = " ".join(lines)

    assert all(text.count(part) >= 3 for part in ("acceptance", "h:2bd806c97f0e", "guardian"))


def test_one_long_name_does_not_make_a_list_of_a_table():
    """A part that is longer than half of the terminal is broken."""
    names = ["x" * 50, "quality-guardian"]
    lines = [*table((Column("name", names, can_fold=True), numbers("started", [1, 2])), 60)]

    assert lines[0].split() == ["name", "started"]
    assert [*table((Column("name", names, can_fold=True), numbers("n", [1, 2])), 40)][1][
        :9
    ] == "x" * 9
