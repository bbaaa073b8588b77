"""The one place where the local runner reaches into kfp: an upgrade that moves it fails here."""

import inspect
from pathlib import Path
from types import ModuleType

import kfp
import yaml
from kfp import dsl, local
from kfp.compiler import Compiler
from kfp.local import config, subprocess_task_handler, task_dispatcher

from pipelines.local_steps import _command


def test_kfp_is_the_release_that_the_reach_was_made_for() -> None:
    assert kfp.__version__ == "2.17.0", "look at each test of this file before changing the pin"


def test_the_dispatcher_looks_the_handler_up_by_its_name_in_the_module() -> None:
    assert task_dispatcher.subprocess_task_handler is subprocess_task_handler
    source = inspect.getsource(task_dispatcher.run_single_task_implementation)
    assert "subprocess_task_handler.SubprocessTaskHandler" in source


def test_the_handler_is_made_from_image_command_and_variables() -> None:
    names = list(inspect.signature(subprocess_task_handler.SubprocessTaskHandler).parameters)
    assert names == ["image", "full_command", "pipeline_root", "runner", "env_vars"]
    assert {"run", "validate_image"} <= vars(subprocess_task_handler.SubprocessTaskHandler).keys()


def test_local_init_caches_under_a_root_of_our_choice() -> None:
    parameters = inspect.signature(local.init).parameters
    assert {"pipeline_root", "workspace_root", "enable_caching", "cache_root"} <= parameters.keys()
    assert hasattr(config.LocalExecutionConfig, "instance")


def test_the_run_id_placeholder_is_what_the_compiler_writes(throwaway: ModuleType, tmp_path: Path) -> None:
    assert dsl.PIPELINE_JOB_ID_PLACEHOLDER == "{{$.pipeline_job_uuid}}"
    Compiler().compile(throwaway.whole, str(tmp_path / "p.yaml"))
    assert dsl.PIPELINE_JOB_ID_PLACEHOLDER in (tmp_path / "p.yaml").read_text()


def test_a_component_command_keeps_its_source_in_the_step_folder_and_replaces_the_shell(
    throwaway: ModuleType, tmp_path: Path
) -> None:
    Compiler().compile(throwaway.inspect, str(tmp_path / "p.yaml"))
    executors = yaml.safe_load((tmp_path / "p.yaml").read_text())["deploymentSpec"]["executors"]
    container = executors["exec-settings"]["container"]
    assert container["args"][:2] == ["--executor_input", "{{$}}"]
    script = next(part for part in _command(container["command"], Path("/a b")) if "$program_path" in part)
    assert "program_path='/a b'" in script
    assert "mktemp" not in script
    assert "_KFP_RUNTIME=true exec python3 -m kfp.dsl.executor_main" in script
