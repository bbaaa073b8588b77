"""Throw-away components and pipelines to try the local runner on."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Output

IMAGE = "registry.test/somewhere/platform:9"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def count(run: str, folder: str, total: Output[Artifact]) -> str:
    """Say how often it ran."""
    from pathlib import Path

    tally = Path(folder) / "count"
    times = int(tally.read_text()) + 1 if tally.exists() else 1
    tally.write_text(str(times))
    print("fededge: counted", times)
    Path(total.path).write_text(f"{times} {run}")
    return "go"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def double(item: str, total: Input[Artifact], doubled: Output[Artifact]) -> None:
    """Write `item` twice."""
    from pathlib import Path

    assert Path(total.path).exists()
    Path(doubled.path).write_text(item * 2)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def score(folder: str, total: Input[Artifact], figures: Output[Metrics]) -> None:
    """Give metrics, which are metadata without a file, and leave a mark."""
    from pathlib import Path

    figures.log_metric("size", 1.5)
    with (Path(folder) / "scored").open("a") as marks:
        marks.write("x")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gather(folder: str, parts: Input[list[Artifact]]) -> None:
    """Join all parts, unless the folder holds a file that says how to fail."""
    from pathlib import Path

    fail = Path(folder) / "fail"
    if fail.exists():
        from fededge.errors import DataError

        known = {"named": DataError("x is not finite: clean it"), "odd": KeyError("odd")}
        raise known.get(fail.read_text()) or OSError(fail.read_text())
    (Path(folder) / "gathered").write_text(" ".join(Path(part.path).read_text() for part in parts))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stumble(folder: str, total: Input[Artifact]) -> None:
    """Leave a mark, and fail."""
    from pathlib import Path

    with (Path(folder) / "stumbled").open("a") as marks:
        marks.write("x")
    raise ValueError(total.name)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def settle(folder: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Write how it went."""
    from pathlib import Path

    (Path(folder) / "status").write_text(status.state)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def linger(folder: str) -> None:
    """Start a child, tell both process ids, and never end."""
    import os
    import subprocess
    import time
    from pathlib import Path

    child = subprocess.Popen(["sleep", "600"])
    partial = Path(folder) / "pids.partial"
    partial.write_text(f"{os.getpid()} {child.pid}")
    partial.rename(Path(folder) / "pids")
    time.sleep(600)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def diverge(figures: Output[Metrics]) -> None:
    """Hand on what JSON cannot hold."""
    figures.log_metric("loss", float("nan"))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def settings(folder: str) -> None:
    """Write the variables that a step sees."""
    import json
    import os
    import sys
    from pathlib import Path

    (Path(folder) / "settings").write_text(json.dumps({**os.environ, "executable": sys.executable}))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def litter(folder: str) -> None:
    """Make a temporary folder, say where, and be killed."""
    import os
    import tempfile
    from pathlib import Path

    (Path(folder) / "made").write_text(tempfile.mkdtemp())
    os.kill(os.getpid(), 9)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def keep(task: str) -> None:
    """Store a blob, and track that."""
    from fededge import settings, storage
    from fededge.documents import Ending
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    with TrackedRun.join("r2", FederatedTask.from_json(task)).step("keep") as step:
        storage.write(storage.join(settings.storage(), "some where", "blob #1"), b"kept")
        step.record("ending", Ending(state="SUCCEEDED"))
        step.metrics({"x": 1.0}, step=1)
    assert TrackedRun.join("r2", FederatedTask.from_json(task)).records()["ending"]["state"] == "SUCCEEDED"


@dsl.pipeline(name="whole")
def whole(folder: str) -> None:
    """A condition, a loop with collected artifacts, retries and an exit handler."""
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    exit_task = settle(folder=folder).set_caching_options(False)
    with dsl.ExitHandler(exit_task=exit_task):
        counted = count(run=run, folder=folder)
        score(folder=folder, total=counted.outputs["total"])
        with dsl.If(counted.outputs["Output"] == "go"):
            with dsl.ParallelFor(["a", "b", "c"]) as item:
                part = double(item=item, total=counted.outputs["total"])
            gathered = gather(folder=folder, parts=dsl.Collected(part.outputs["doubled"]))
            gathered.set_retry(5, backoff_duration="60s")


@dsl.pipeline(name="littering")
def littering(folder: str) -> None:
    """One step that leaves a temporary folder behind."""
    litter(folder=folder)


@dsl.pipeline(name="stored")
def stored(task: str) -> None:
    """One step that uses the blob store and tracking."""
    keep(task=task)


@dsl.pipeline(name="endless")
def endless(folder: str) -> None:
    """One step that never ends."""
    linger(folder=folder)


@dsl.pipeline(name="endless-loop")
def endless_loop(folder: str) -> None:
    """Steps that never end, in threads."""
    with dsl.ParallelFor(["a"], name="loop"):
        linger(folder=folder)


@dsl.pipeline(name="inspect")
def inspect(folder: str) -> None:
    """Look at a step's settings."""
    task = settings(folder=folder)
    task.set_env_variable("FROM_PIPELINE", "1")
    task.set_env_variable("FEDEDGE_SIGNING_KEY_FILE", "/on/the/cluster.pem")


@dsl.pipeline(name="branches")
def branches(folder: str) -> None:
    """Two branches that do not depend on each other; one fails."""
    exit_task = settle(folder=folder).set_caching_options(False)
    with dsl.ExitHandler(exit_task=exit_task):
        first = count(run="1", folder=folder)
        second = count(run="2", folder=folder)
        for counted in (first, second):
            stumble(folder=folder, total=counted.outputs["total"])


@dsl.pipeline(name="scattered")
def scattered(folder: str) -> None:
    """Steps that do not depend on each other."""
    for number in range(5):
        count(run=str(number), folder=folder)


@dsl.pipeline(name="divergent")
def divergent() -> None:
    """One step with a metric that is not a number."""
    diverge()
