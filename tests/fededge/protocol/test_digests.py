import hashlib

import pytest

from fededge import storage
from fededge.protocol import digests


def test_a_digest_is_told_in_a_header() -> None:
    # SHA-256 of {"hello": "world"} and a line feed, as RFC 9530, Appendix B.1, has it
    data = b'{"hello": "world"}\n'
    assert digests.to_header(storage.digest(data)) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_what_is_told_is_heard() -> None:
    for number in range(100):
        digest = f"sha256:{hashlib.sha256(bytes([number])).hexdigest()}"
        assert digests.from_header(digests.to_header(digest)) == digest


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha-256",
        "sha-256=::",
        "sha-256=:AAAA:",
        f"sha-512=:{'A' * 43}=:",
        f"sha-256=:{'A' * 44}:",
        f"sha-256=:{'A' * 43}=:, sha-512=:AAAA:",
        f"sha-256=:{'-' * 43}=:",
        f" sha-256=:{'A' * 43}=:",
    ],
)
def test_what_tells_no_digest_is_none(value: str) -> None:
    assert digests.from_header(value) is None
