import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fededge import storage
from tests.gateway_client import Client, Operator, stored
from tests.gateway_process import Gateway, token

NUMBERS = itertools.count()
LARGE = 3_000_000


@pytest.fixture
def data() -> bytes:
    """Bytes that no other test sends."""
    return f"{next(NUMBERS):08}".encode() * (LARGE // 8)


@pytest.fixture
def place(admin: Operator, data: bytes) -> str:
    offered = admin("POST", "/v1/blobs", {"digest": storage.digest(data), "bytes": len(data)})
    assert (offered["offset"], offered["resumable"]) == (0, True)
    return str(offered["url"])


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client without any token."""
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


def piece(data: bytes, start: int, end: int) -> dict[str, Any]:
    """The options of a PUT of a piece."""
    return {
        "content": data[start:end],
        "headers": {"content-range": f"bytes {start}-{end - 1}/{len(data)}"},
    }


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reason"]


def cut_off(url: str, place: str, data: bytes, sent: int) -> None:
    """Begin to PUT `data`, and break the connection after `sent` bytes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        path = f"/{place.removeprefix(url).lstrip('/')}"
        head = f"PUT {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[:sent])


def test_bytes_are_sent_once_and_fetched_whole_or_by_ranges(
    http: httpx.Client, admin: Operator, data: bytes, place: str
) -> None:
    assert http.put(place, content=data).status_code == 201
    again = admin("POST", "/v1/blobs", {"digest": storage.digest(data), "bytes": len(data)})
    assert "url" not in again
    assert again["offset"] == len(data)
    assert http.put(place, content=data).status_code == 201
    url = place_to_fetch(admin, data)
    whole = http.get(url)
    assert whole.content == data
    assert http.head(url).headers["content-length"] == str(len(data))
    part = http.get(url, headers={"range": "bytes=1000-"})
    assert (part.status_code, part.content) == (206, data[1000:])
    assert part.headers["content-range"] == f"bytes 1000-{len(data) - 1}/{len(data)}"
    assert http.get(url, headers={"range": f"bytes={len(data)}-"}).status_code == 416


def place_to_fetch(admin: Operator, data: bytes) -> str:
    """The URL of stored bytes, as an assignment names it."""
    client = admin.enroll(f"fetcher-{next(NUMBERS)}").join()
    admin.round(client.client, [client.client], weights=storage.digest(data))
    url = str(client.hear().weights.url)
    client.close()
    return url


def test_an_upload_goes_on_where_it_was_cut_off(
    http: httpx.Client, gateway: Gateway, admin: Operator, data: bytes, place: str, until: Any
) -> None:
    cut_off(gateway.url, place, data, 2_000_000)
    until(lambda: http.head(place).headers["upload-offset"] == "2000000")
    offered = admin("POST", "/v1/blobs", {"digest": storage.digest(data), "bytes": len(data)})
    assert offered["offset"] == 2_000_000
    assert http.put(place, **piece(data, 2_000_000, len(data))).status_code == 201
    assert http.head(place).headers["upload-offset"] == str(len(data))


def test_an_upload_may_come_in_pieces_and_repeat_some_of_them(
    http: httpx.Client, data: bytes, place: str
) -> None:
    for start, end in ((0, 10), (10, 1_000_000), (5, 20), (20, 2_000_000)):
        answer = http.put(place, **piece(data, start, end))
        assert (answer.status_code, answer.headers["upload-offset"]) == (202, str(end))
    assert reason(http.put(place, **piece(data, 2_000_001, 2_500_000))) == (409, "OFFSET")
    assert http.put(place, **piece(data, 2_000_000, len(data))).status_code == 201


def test_other_bytes_than_were_announced_are_not_kept(
    http: httpx.Client, admin: Operator, data: bytes, place: str
) -> None:
    wrong = b"x" + data[1:]
    assert reason(http.put(place, content=wrong)) == (422, "DIGEST")
    assert http.head(place).headers["upload-offset"] == "0"
    assert http.put(place, content=data).status_code == 201


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("bytes 0-9/10", (416, "RANGE")),
        (f"bytes 9-0/{LARGE}", (416, "RANGE")),
        (f"bytes 0-{LARGE}/{LARGE}", (416, "RANGE")),
        ("bytes */10", (400, "MALFORMED")),
        ("0-1", (400, "MALFORMED")),
        (f"bytes 0-8/{LARGE}", (413, "TOO_LARGE")),
    ],
)
def test_a_piece_that_does_not_fit_is_refused(http: httpx.Client, place: str, told: str, wanted: Any) -> None:
    answer = http.put(place, content=bytes(10), headers={"content-range": told})
    assert reason(answer) == wanted


def test_more_than_was_announced_is_refused(http: httpx.Client, data: bytes, place: str) -> None:
    assert reason(http.put(place, content=data + b"x")) == (413, "TOO_LARGE")

    def endless() -> Iterator[bytes]:
        yield data
        yield b"x"

    assert reason(http.put(place, content=endless())) == (413, "TOO_LARGE")
    assert http.put(place, content=data).status_code == 201


def test_one_request_at_a_time_sends_an_object(
    http: httpx.Client, gateway: Gateway, data: bytes, place: str, until: Any
) -> None:
    go_on = threading.Event()

    def slow() -> Iterator[bytes]:
        yield data[:1_000_000]
        assert go_on.wait(60)
        yield data[1_000_000:]

    answers: list[httpx.Response] = []
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as other:
        headers = {"content-length": str(len(data))}
        thread = threading.Thread(
            target=lambda: answers.append(other.put(place, content=slow(), headers=headers))
        )
        thread.start()
        until(lambda: http.head(place).headers["upload-offset"] != "0")
        busy = http.put(place, content=data)
        assert reason(busy) == (503, "BUSY")
        assert busy.headers["retry-after"] == "1"
        go_on.set()
        thread.join()
    assert answers[0].status_code == 201


def test_two_clients_that_send_the_same_bytes_do_not_meet(admin: Operator, http: httpx.Client) -> None:
    clients = [admin.enroll(f"twin-{next(NUMBERS)}").join() for _ in range(2)]
    admin.round(f"twins-{next(NUMBERS)}", [client.client for client in clients])
    digest = storage.digest(b"update")
    parts = []
    for client in clients:
        assignment = client.hear()
        place = client.ask({"type": "upload", "assignment": assignment.id, "digest": digest, "bytes": 6})
        parts.append((client, assignment, place))
    (first, one, at_first), (second, two, at_second) = parts
    assert http.put(at_first.url, content=b"update").status_code == 201
    claim = {"type": "report", "update": digest, "seconds": 1.0}
    assert second.ask({**claim, "assignment": two.id}).outcome == "refused"
    assert http.put(at_second.url, content=b"update").status_code == 201
    assert second.ask({**claim, "assignment": two.id}).outcome == "kept"
    assert first.ask({**claim, "assignment": one.id}).outcome == "kept"
    for client in clients:
        client.close()


def test_an_update_that_is_there_needs_no_second_upload(admin: Operator, http: httpx.Client) -> None:
    client: Client = admin.enroll(f"again-{next(NUMBERS)}").join()
    admin.round(f"again-{next(NUMBERS)}", [client.client])
    assignment = client.hear()
    request = {
        "type": "upload",
        "assignment": assignment.id,
        "digest": storage.digest(b"update"),
        "bytes": 6,
    }
    assert http.put(client.ask(request).url, content=b"update").status_code == 201
    place = client.ask(request)
    assert (place.done, place.url, place.offset) == (True, "", 6)
    client.close()


def test_an_empty_object_is_one(admin: Operator, http: httpx.Client) -> None:
    offer = {"digest": storage.digest(b""), "bytes": 0}
    assert http.put(admin("POST", "/v1/blobs", offer)["url"], content=b"").status_code == 201
    assert "url" not in admin("POST", "/v1/blobs", offer)


def test_a_size_that_is_not_that_of_the_bytes_is_refused(
    admin: Operator, http: httpx.Client, data: bytes, place: str
) -> None:
    assert http.put(place, content=data).status_code == 201
    offer = {"digest": storage.digest(data), "bytes": 7}
    assert admin.refused("POST", "/v1/blobs", offer) == (400, "SIZE")


def test_a_tenant_stores_no_more_than_it_may(admin: Operator, registry: Any, gateway: Gateway) -> None:
    small = Operator(gateway.url, token(registry, tenant="small"))
    admin("PUT", "/v1/tenants/small", {"name": "small", "bytes": 10})
    small.store(b"12345678")
    assert small.refused("POST", "/v1/blobs", {"digest": storage.digest(b"123"), "bytes": 3}) == (
        413,
        "QUOTA",
    )
    small.close()


def test_an_update_that_a_tenant_has_no_room_for_is_refused_and_does_not_stay(
    admin: Operator, registry: Any, gateway: Gateway
) -> None:
    tight = Operator(gateway.url, token(registry, tenant="tight"))
    client = tight.enroll("only").join()
    tight.round("r", ["only"])
    assignment = client.hear()
    request = {"type": "upload", "assignment": assignment.id, "digest": storage.digest(b"update"), "bytes": 6}
    place = client.ask(request)
    admin("PUT", "/v1/tenants/tight", {"name": "tight", "bytes": 1})
    with httpx.Client(base_url=gateway.url, trust_env=False) as http:
        assert reason(http.put(place.url, content=b"update")) == (413, "QUOTA")
        assert http.head(place.url).headers["upload-offset"] == "0"
    refused = client.ask(request)
    assert (refused.type, refused.reason, refused.assignment) == ("refused", "QUOTA", assignment.id)
    admin("PUT", "/v1/tenants/tight", {"name": "tight", "bytes": 100})
    assert stored(client.ask(request), b"update", gateway.url).status_code == 201
    client.close()
    tight.close()


def test_bytes_of_an_upload_that_was_cut_off_are_counted(
    admin: Operator, gateway: Gateway, until: Any
) -> None:
    update = bytes(1_000_000)
    client = admin.enroll(f"cut-{next(NUMBERS)}").join()
    name = client.client
    admin.round(name, [name], update_bytes=len(update))
    told = {"assignment": client.hear().id, "digest": storage.digest(update), "bytes": len(update)}
    place = client.ask({"type": "upload", **told})
    cut_off(gateway.url, place.url, update, 600_000)
    until(lambda: admin("GET", f"/v1/rounds/{name}")["bytes_up"] == 600_000)
    rest = {"content-range": f"bytes 600000-{len(update) - 1}/{len(update)}"}
    with httpx.Client(base_url=gateway.url, trust_env=False) as http:
        assert http.put(place.url, content=update[600_000:], headers=rest).status_code == 201
    assert admin("GET", f"/v1/rounds/{name}")["bytes_up"] == len(update)
    client.close()
