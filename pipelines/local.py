"""Runs any compiled pipeline on this machine: each image is one of the environments under .venvs.

kfp.local does the orchestration. It has no way to choose another interpreter for a task, so the one
name `kfp.local.subprocess_task_handler.SubprocessTaskHandler` is replaced for the time of a run; that
is all this module changes in kfp (tests/pipelines/test_local_reach.py holds it). The id of the run
takes the place of `{{$.pipeline_job_uuid}}` in the pipeline, so that a repeated run is the same run:
kfp's file cache, kept in the run's folder, then spares it the steps that finished. Steps run in one
order, the same each time. Retries are left to clusters, where pods get lost; here an error would only
come again.
"""

import builtins
import contextlib
import functools
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import dsl, local
from kfp.components import load_component_from_text
from kfp.local import config, status, subprocess_task_handler

from fededge.errors import StorageError
from fededge.host.layout import VENVS
from pipelines import compiled
from pipelines.environments import interpreter_folder
from pipelines.local_steps import LocalSteps, StepFailed


def run_local(
    package: str | Path,
    arguments: Mapping[str, Any],
    run: str,
    home: Path,
    *,
    say: Callable[[str], None] | None = None,
    environments: Path = VENVS,
) -> None:
    """Run the compiled pipeline `package` to its end, or to its first failure and then its exit handler.

    Args:
        package: YAML file made by the kfp compiler.
        arguments: the pipeline's arguments.
        run: id of the run: repeated with the same id, it goes on after the steps that finished.
        home: FEDEDGE_HOME of the steps; `<home>/runs/<run>` gets artifacts, cache, logs, steps.json, and
            temporary files in tmp, which is emptied when the run starts and when it ends.
        say: gets a line for each step that starts or ends, and each step's live lines, while standard
            output is redirected to kfp's log; by default they go to what was standard output before.
        environments: folder of the environments that stand for the images.

    Raises:
        EnvironmentMissing: an image has no environment here.
        FedEdgeError: a step ended with this named error; the message names its log.
        StorageError: a file cannot be written.
        DocumentError: steps.json of an earlier try is damaged.
        StepFailed: a step ended with any other error.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; nothing it started is left running.
    """
    text = Path(package).read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(text.replace(dsl.PIPELINE_JOB_ID_PLACEHOLDER, run)))
    for image in compiled.images(documents[0]):
        interpreter_folder(image, environments)
    compiled.drop_retries(documents[0])
    compiled.chain(documents[0])
    pipeline = load_component_from_text(yaml.safe_dump_all(documents))
    say = say or functools.partial(print, file=sys.stdout, flush=True)
    running = LocalSteps(home.resolve() / "runs" / run, home.resolve(), environments, say)
    running.closing = compiled.closing_steps(documents[0])
    try:
        with (
            running.temporary_folder(),
            running.warm_interpreters(compiled.components(documents[0])),
            _kfp_on_this_machine(running),
            running.interruptible(),
        ):
            pipeline(**arguments)
    except (RuntimeError, json_format.Error) as error:
        raise running.failure() or StepFailed(f"{error} See {running.folder / 'logs'}") from error
    except OSError as error:
        raise StorageError(
            f"cannot keep the files of run {run}: {error}. Free space or fix permissions, then run again"
        ) from error


@contextlib.contextmanager
def _kfp_on_this_machine(run: LocalSteps) -> Iterator[None]:
    """kfp.local set up for `run`, and afterwards all that it changes in this process put back."""

    class Handler(subprocess_task_handler.SubprocessTaskHandler):
        def run(self) -> status.Status:
            succeeded = run.step(self.image, self.full_command, self.env_vars)
            return status.Status.SUCCESS if succeeded else status.Status.FAILURE

        def validate_image(self, image: str) -> None:
            """Any image that has an environment will do."""

    root = logging.getLogger()
    stock, before = subprocess_task_handler.SubprocessTaskHandler, config.LocalExecutionConfig.instance
    own_print, handlers, level = builtins.print, root.handlers[:], root.level
    (run.folder / "logs").mkdir(parents=True, exist_ok=True)
    subprocess_task_handler.SubprocessTaskHandler = Handler
    try:
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run.artifacts),
            workspace_root=str(run.folder / "workspace"),
            enable_caching=True,
            cache_root=str(run.folder / "cache"),
        )
        with (
            (run.folder / "logs" / "kfp.log").open("w", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Task .* have no effect in the current local runner")
            yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = stock
        config.LocalExecutionConfig.instance = before
        builtins.print = own_print
        root.handlers[:] = handlers
        root.setLevel(level)
