import stat
from pathlib import Path

import pytest

from fededge import settings, storage
from fededge.errors import GatewayError, StorageError
from fededge.fleet.gateway.grants import Grant, Keys

GRANT = Grant("GET", "default", storage.digest(b"x"), 0, 100.0, "site-1", "round-1")
NEW, OLD = bytes(32), bytes([1]) * 32


def refused(keys: Keys, text: str, method: str = "GET", now: float = 0.0) -> str:
    with pytest.raises(GatewayError) as error:
        keys.opened(text, method, now)  # type: ignore[arg-type]
    assert error.value.status == 403
    return error.value.reason


def test_a_grant_allows_what_it_says_until_it_expires() -> None:
    keys = Keys(NEW)
    text = keys.sign(GRANT)
    assert keys.opened(text, "GET", 99.9) == GRANT
    assert refused(keys, text, now=100.0) == "EXPIRED"
    assert refused(keys, text, "PUT") == "FORBIDDEN"


def test_a_grant_that_was_altered_in_any_letter_allows_nothing() -> None:
    keys = Keys(NEW)
    text = keys.sign(GRANT)
    for place in range(len(text)):
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        # The last letter of base64 has bits that say nothing, which is no reason to take two spellings.
        assert refused(keys, changed) == "FORBIDDEN"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é" * 10, "x" * 10_000, "....", "\x00"])
def test_what_is_no_grant_is_refused(text: str) -> None:
    assert refused(Keys(NEW), text) == "FORBIDDEN"


def test_a_key_before_the_newest_is_still_taken_and_does_not_sign(tmp_path: Path) -> None:
    path = tmp_path / "urls.key"
    path.write_bytes(OLD)
    text = Keys.load(path).sign(GRANT)
    path.rename(tmp_path / "urls.key.old")
    path.write_bytes(NEW)
    rotated = Keys.load(path)
    assert rotated.opened(text, "GET", 0.0) == GRANT
    assert rotated.sign(GRANT) == Keys(NEW).sign(GRANT)
    (tmp_path / "urls.key.old").unlink()
    assert refused(Keys.load(path), text) == "FORBIDDEN"


def test_the_key_of_the_home_folder_is_made_once_and_for_its_owner_alone() -> None:
    text = Keys.of_home().sign(GRANT)
    assert Keys.of_home().opened(text, "GET", 0.0) == GRANT
    file = settings.home() / "gateway" / "urls.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_do_not_show_and_short_ones_are_refused(tmp_path: Path) -> None:
    assert str(NEW) not in repr(Keys(NEW))
    (tmp_path / "short").write_bytes(bytes(31))
    with pytest.raises(StorageError, match="31 bytes, which is no secret"):
        Keys.load(tmp_path / "short")
    with pytest.raises(StorageError, match="cannot read"):
        Keys.load(tmp_path / "absent")
