"""The port-forward of a fake Kubernetes API: WebSocket frames of the protocol v4.channel.k8s.io, to a real port.

Of a forwarded port, channel 0 holds data and channel 1 errors; each begins with the port's number.
"""

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
BINARY, CLOSE = 2, 8


def forward(handler: BaseHTTPRequestHandler, asked: int, target: int) -> None:
    """Answer a request to forward the port `asked` of a pod: with `target` of this machine."""
    key = handler.headers["Sec-WebSocket-Key"] + GUID
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header(
        "Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    )
    handler.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
    handler.end_headers()
    handler.close_connection = True
    pod = socket.create_connection(("127.0.0.1", target))
    for channel in (b"\x00", b"\x01"):
        _send(handler, channel + struct.pack("<H", asked))
    threading.Thread(target=_answers, args=(handler, pod), daemon=True).start()
    while True:
        kind, data = _receive(handler)
        if kind == CLOSE:
            break
        pod.sendall(data[1:])
    with contextlib.suppress(OSError):
        pod.shutdown(socket.SHUT_RDWR)


def _answers(handler: BaseHTTPRequestHandler, pod: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := pod.recv(1 << 15):
            _send(handler, b"\x00" + data)


def _send(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
    handler.wfile.write(bytes([128 | BINARY]) + size + data)
    handler.wfile.flush()


def _receive(handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
    head = handler.rfile.read(2)
    if len(head) < 2:
        return CLOSE, b""
    size = head[1] & 127
    if size > 125:
        form, count = {126: (">H", 2), 127: (">Q", 8)}[size]
        (size,) = struct.unpack(form, handler.rfile.read(count))
    mask = handler.rfile.read(4)
    data = handler.rfile.read(size)
    whole = (mask * (size // 4 + 1))[:size]
    plain = int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")
    return head[0] & 15, plain.to_bytes(size, "big")
