import os
import re
import subprocess
from pathlib import Path

from benchmarks.edge import page, results
from benchmarks.limits import CpuLimit
from benchmarks.memory import Peak

LEARNED = [
    {"round": 1, "node-1": 0.9, "node-2": 0.9, "node-3": 0.7, "global": 0.82, "loss": 1.0, "seconds": 1.0},
    {"round": 2, "node-1": 0.9, "node-2": 0.9, "node-3": 0.8, "global": 0.97, "loss": 0.5, "seconds": 1.0},
    {"round": 3, "node-1": 0.9, "node-2": 0.9, "node-3": 0.8, "global": 0.972, "loss": 0.4, "seconds": 1.0},
]


def test_the_page_tells_the_parts_that_were_measured_and_shows_charts_that_are_there(tmp_path: Path) -> None:
    results.write(
        tmp_path,
        "learning",
        LEARNED,
        images={"node-1": 3, "node-2": 2, "node-3": 1, "global": 4},
        data="digits",
    )
    served = [{"images": count, "warm": 0.01 * count, "cold": 1.0} for count in (1, 10)]
    results.write(tmp_path, "serving", served, limit="0.4 CPU by cgroup", megabytes=131.4)
    text = " ".join(page.write(tmp_path).read_text().split())
    assert "97.0 % after round 2 and 97.2 % after round 3" in text
    assert "20.0 points behind the mean of the others after round 1" in text
    assert "| serving | 100 | 131 | does not fit, by 31 MB |" in text
    assert "Training's answer" not in text
    charts = re.findall(r"\]\(([a-z]+\.svg)\)", text)
    assert charts == ["accuracy.svg", "serving.svg"]
    assert all((tmp_path / chart).exists() for chart in charts)


def test_the_plateau_begins_with_the_first_round_that_is_near_the_best() -> None:
    assert page.plateau(LEARNED) == 2


def test_what_starts_inside_a_limit_is_limited_and_what_starts_after_it_is_not() -> None:
    def groups() -> str:
        code = "import os; print(open('/proc/self/cgroup').read(), os.sched_getaffinity(0))"
        return subprocess.run(["python3", "-c", code], check=True, capture_output=True, text=True).stdout

    before = groups()
    with CpuLimit(0.4) as limit:
        with limit.inside():
            inside = groups()
        assert groups() == before
        if "by cgroup" in limit.how:
            assert f"fededge-{os.getpid()}" in inside
        elif len(os.sched_getaffinity(0)) > 1:
            assert inside != before
    assert groups() == before


def test_peak_memory_is_that_of_the_processes_that_carry_the_mark() -> None:
    code = "import time; x = b'1' * 60_000_000; time.sleep(2)"
    with Peak() as peak:
        subprocess.run(["python3", "-c", code], check=True, env=os.environ | peak.variables)
    assert 60 < peak.megabytes < 180
