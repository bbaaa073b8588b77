"""The report in a real browser: it fits phones and desktops, says nothing on the console, follows dark mode."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fededge.report import read, render, report_of
from fededge.task import FederatedTask

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
]
LONG = "site-" + "x" * 300
MEASURE = """<!doctype html><title>not measured</title>
<iframe src="/{page}" style="border:0;width:{width}px;height:900px"></iframe><script>
onload = () => {{
  const inner = document.querySelector("iframe").contentDocument, root = inner.documentElement;
  const past = [...inner.querySelectorAll("body *")].filter(element =>
    !element.closest(".scroll, svg, pre, .track, .stack") && element.getBoundingClientRect().right > {width} + 1);
  document.title = JSON.stringify({{
    width: root.clientWidth, content: root.scrollWidth, past: past.map(element => element.outerHTML.slice(0, 80)),
    charts: [...inner.querySelectorAll("svg")].map(svg => Math.round(svg.getBoundingClientRect().width)),
    background: getComputedStyle(inner.body).backgroundColor,
  }});
}}
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server on loopback with a whole, a failed and an unruly report."""
    folder = tmp_path_factory.mktemp("site")
    devices = {name: json.dumps(content).encode() for name, content in EXAMPLE["devices"].items()}
    records = EXAMPLE["records"]
    failed = {"step": "prepare_data", "status": "failed", "error": f"{LONG} <script>alert(1)</script>"}
    unruly = records | {
        "data": {"clients": [{"id": LONG, "train": 3, "labels": [1, 2]}], "classes": 2},
        "steps/long": {"step": LONG, "status": "failed", "error": LONG, "seconds": 3},
        "variant-x": {"kind": LONG, "bytes": 10**15, "accuracy": 0.5, "passed": False, "reasons": [LONG]},
        "endpoint_check": {LONG: LONG},
    }
    pages = {
        "whole": (records, devices, "mlflow ui"),
        "failed": ({"steps/prepare_data": failed, "ending": {"state": "FAILED"}}, {}, "mlflow ui"),
        "unruly": (unruly, {"a": json.dumps({"device": LONG, "error": LONG}).encode()}, f"https://{LONG}"),
    }
    for name, (content, reported, url) in pages.items():
        page = render(report_of(TASK, LONG if name == "unruly" else "run-1", url, read(content, reported)))
        (folder / f"{name}.html").write_bytes(page)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def browse(address: str, profile: Path, *flags: str) -> tuple[str, str]:
    """The page's document after loading, and what the browser logged."""
    assert CHROMIUM
    command = [
        CHROMIUM,
        *FLAGS,
        *flags,
        f"--user-data-dir={profile}",
        "--window-size=1400,1000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [*command, "--virtual-time-budget=5000", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["whole", "failed", "unruly"])
def test_the_page_fits_its_window(site: tuple[str, Path], tmp_path: Path, page: str, width: int) -> None:
    address, folder = site
    (folder / "measure.html").write_text(MEASURE.format(page=f"{page}.html", width=width))
    document, log = browse(f"{address}/measure.html", tmp_path)
    found = re.search(r"<title>(\{.*?\})</title>", document, re.DOTALL)
    assert found, document[:500]
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["past"] == []
    assert seen["content"] <= seen["width"] <= width
    assert len(seen["charts"]) == (0 if page == "failed" else 3)
    assert all(width * 0.3 < chart < width for chart in seen["charts"])
    assert "CONSOLE" not in log


def test_the_page_follows_dark_mode(site: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = site
    (folder / "measure.html").write_text(MEASURE.format(page="whole.html", width=800))
    shades = []
    for scheme in (0, 1):  # dark, light
        flag = f"--blink-settings=preferredColorScheme={scheme}"
        document, _ = browse(f"{address}/measure.html", tmp_path / str(scheme), flag)
        found = re.search(r'"background":"rgb\((\d+), (\d+), (\d+)\)"', document)
        assert found, document[:500]
        shades.append(sum(map(int, found.groups())))
    assert shades[0] < 150
    assert shades[1] > 600


def test_the_page_opens_from_a_file_without_a_word_on_the_console(
    site: tuple[str, Path], tmp_path: Path
) -> None:
    document, log = browse((site[1] / "whole.html").as_uri(), tmp_path)
    assert "Delivered" in document
    assert "CONSOLE" not in log
