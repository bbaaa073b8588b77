"""Write the report of a run, however it ended."""

from kfp import dsl

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def write_report(
    task: str,
    run: str,
    status: dsl.PipelineTaskFinalStatus,
    report: dsl.Output[dsl.HTML],
) -> None:
    """Write the report of a run as one HTML page, keep it in MLflow and end the MLflow run.

    For an exit handler: it shows what there is when an earlier step failed, with that step and its
    error. Run again, it writes the report of what is known then.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        status: how the steps before it ended.
        report: the page; its metadata hold `outcome`.
    """
    from fededge.report import end_run
    from fededge.task import FederatedTask

    spec = FederatedTask.from_json(task)
    written = end_run(spec, run, report.path, status.state, status.error_message)
    report.metadata["outcome"] = written.outcome.title
