"""Lines as the pipeline writes them, made from the schema alone, and a verification of them."""

import random
from collections.abc import Callable

import pytest

from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.schema.validation import ERROR_NAMES
from telemetry_kit.verification.grammar import Grammar
from telemetry_kit.verification.machine_secrets import Secret
from telemetry_kit.verification.verify import Baseline, Verification
from telemetry_kit.verification.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    names={
        "roles": frozenset(catalog.ROLES),
        "agents": frozenset({"backend-engineer", "caf\u00e9 \u2713", 'say "hi"'}),
        "commands": frozenset({"/dev:build", "/qa:test"}),
        "workflows": frozenset({"spec-to-code"}),
    },
    errors=ERROR_NAMES | {"SpecError"},
    context={"size": frozenset(), "mode": frozenset({"fast", "slow"}), "task_id": frozenset()},
    versions=frozenset({"1.4.2", "2026.11"}),
)


def make_record(dice: random.Random, seq: int) -> dict[str, object]:
    """Return one record of the schema, with each optional field present at random."""

    def code(digits: int) -> str:
        return f"{dice.getrandbits(digits * 4):0{digits}x}"

    def name(vocabulary: str) -> str:
        known = sorted(VOCABULARY.names[vocabulary])
        return "h:" + code(12) if dice.random() < 0.3 else dice.choice(known)

    record: dict[str, object] = {}
    for field in catalog.FIELDS.values():
        optional = field.name not in (
            *("schema_version", "event_id", "event_type", "timestamp", "seq"),
            *("project_id", "source", "key_epoch"),
        )
        if optional and dice.random() < 0.5:
            continue
        if field.kind == catalog.NAME:
            record[field.name] = name(str(field.domain))
        elif field.kind == catalog.RANDOM:
            record[field.name] = code(field.domain // 4)
        elif field.kind == catalog.VERSION:
            record[field.name] = dice.choice(sorted(VOCABULARY.versions))
        elif field.name == "error_type":
            record[field.name] = dice.choice(sorted(VOCABULARY.errors))
        elif field.kind == catalog.TOKEN:
            record[field.name] = dice.choice(field.domain)
    record["schema_version"] = catalog.SCHEMA_VERSION
    record["timestamp"] = f"2026-11-{dice.randint(1, 30):02d}T00:00:00Z"
    record["seq"] = seq
    record["project_id"] = "h:0123456789ab"
    record["key_epoch"] = 1
    if dice.random() < 0.3:
        record["exit_code"] = dice.randint(-3, 130)
    if dice.random() < 0.3:
        record["duration_ms"] = dice.randint(1, 99) * 10 ** dice.randint(0, 8)
    if dice.random() < 0.2:
        record["dropped"] = dice.randint(1, 9)
    if dice.random() < 0.3:
        some = {
            "mode": "fast",
            "size": dice.choice([1, 0.25, 1230, True, -0.5]),
            "task_id": "h:" + code(12),
        }
        context = {k: v for k, v in some.items() if dice.random() < 0.7}
        if context:
            record["context"] = context
    return {f: record[f] for f in catalog.ORDER if f in record}


@pytest.fixture
def vocabulary() -> Vocabulary:
    """Return the names that the lines may contain in plain text."""
    return VOCABULARY


@pytest.fixture
def grammar() -> Grammar:
    """Return the grammar of the lines."""
    return Grammar(VOCABULARY, resolution="day")


@pytest.fixture
def make_lines() -> Callable[[int, int], list[bytes]]:
    """Return a function that makes canonical lines without their ends."""

    def make(count: int, seed: int = 1) -> list[bytes]:
        dice = random.Random(seed)
        return [encode(make_record(dice, n))[:-1] for n in range(count)]

    return make


@pytest.fixture
def make_verification(undecided) -> Callable[[list[str]], Verification]:
    """Return a function that makes a verification without files, for these secrets."""

    def make(texts: list[str], resolution: str = "day") -> Verification:
        secrets = [Secret("environment", text) for text in texts]
        return Verification(Baseline(undecided.home, VOCABULARY, None, resolution, secrets))

    return make
