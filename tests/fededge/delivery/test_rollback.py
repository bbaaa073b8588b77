"""Rolling back to an earlier version: who, why, and what it changes."""

from collections.abc import Callable

import pytest

from fededge import storage
from fededge.delivery import registry
from fededge.delivery.rollback import roll_back
from fededge.documents import ModelVersion
from fededge.errors import IntegrityError, ReleaseError
from fededge.task import FederatedTask
from tests.registered_models import register_version

pytestmark = pytest.mark.usefixtures("store")

Register = Callable[..., ModelVersion]


@pytest.fixture
def three(register: Register) -> Register:
    """Versions 1 to 3, each champion in its turn; and how they were registered."""
    for number in (1, 2, 3):
        register(f"run-{number}", f"weights {number}".encode())
    return register


def champion() -> int:
    return registry.champion_document("digits").version


def test_it_goes_back_to_the_champion_before_and_says_who_and_why(
    three: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_USER", "ann")
    decided = roll_back("digits", None, "misreads sevens")
    assert decided
    assert (decided.from_version, decided.to_version) == (3, 2)
    assert (decided.who, decided.why) == ("ann", "misreads sevens")
    assert champion() == 2
    assert [entry.rollbacks for entry in registry.versions("digits")] == [[], [decided], []]


def test_it_goes_back_step_by_step_until_there_is_none_before(three: Register) -> None:
    for number in (2, 1):
        roll_back("digits", None, "worse")
        assert champion() == number
    with pytest.raises(ReleaseError, match="no version of digits was champion before version 1"):
        roll_back("digits", None, "worse")
    assert champion() == 1


def test_any_version_that_passed_can_be_named_and_forward_is_a_way_too(three: Register) -> None:
    for number in (1, 3, 1):
        roll_back("digits", number, "drill")
        assert champion() == number
    kept = [rollback.to_version for entry in registry.versions("digits") for rollback in entry.rollbacks]
    assert kept == [3, 1, 1]


def test_what_is_champion_already_is_no_new_decision(three: Register) -> None:
    assert roll_back("digits", 3, "again") is None
    assert [entry.rollbacks for entry in registry.versions("digits")] == [[], [], []]


def test_a_resumed_run_of_the_version_that_was_rolled_back_does_not_bring_it_back(three: Register) -> None:
    roll_back("digits", 1, "worse")
    for number in (2, 3):
        three(f"run-{number}", f"weights {number}".encode())
        assert champion() == 1


def test_a_new_run_is_held_against_the_version_that_is_champion_again(task: FederatedTask) -> None:
    register_version(task, "run-1", weights=b"1", score=0.95)
    register_version(task, "run-2", weights=b"2", score=0.99)
    roll_back("digits", None, "worse in the field")
    version, decision = register_version(task, "run-3", weights=b"3", score=0.95)
    assert decision.champion
    assert decision.champion.version == 1
    assert decision.passed
    assert champion() == version.version == 3


@pytest.mark.parametrize(
    ("version", "message"),
    [(4, r"has no version 4 \(it has 1, 2, 3\)"), (99, "has no version 99")],
)
def test_a_version_that_is_not_there_is_named(three: Register, version: int, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        roll_back("digits", version, "why not")


def test_a_version_that_never_passed_its_gate_cannot_become_champion(three: Register) -> None:
    three("run-4", b"bad", score=0.5)
    with pytest.raises(ReleaseError, match="version 4 of digits never became the champion"):
        roll_back("digits", 4, "bold")
    assert champion() == 3


def test_a_version_whose_files_are_damaged_cannot_become_champion(three: Register) -> None:
    variant = registry.versions("digits")[1].document().variants[0]
    storage.write(variant.url, storage.read(variant.url)[:-1])
    with pytest.raises(IntegrityError, match="changed or damaged"):
        roll_back("digits", 2, "worse")
    assert champion() == 3


def test_a_model_that_is_not_registered_is_named() -> None:
    with pytest.raises(ReleaseError, match="nope has no champion"):
        roll_back("nope", None, "why not")
