"""The `fededge` command: one module a verb, no logic of its own.

Each verb imports what it needs when it is called, so that the command itself starts at once.
"""

import sys

import typer

from fededge.cli import (
    agent,
    compile,
    endpoints,
    models,
    predict,
    report,
    run,
    runs,
    schedule,
    schema,
    upload,
)
from fededge.errors import FedEdgeError

app = typer.Typer(
    help="Federated learning for edge fleets as Kubeflow pipelines.",
    epilog="Start with: fededge run examples/digits/task.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("compile")(compile.compile_task)
app.command("upload")(upload.upload)
app.command("schedule")(schedule.schedule)
app.command("runs")(runs.runs)
app.command("report")(report.report)
app.command("models")(models.models)
app.command("predict")(predict.predict)
app.command("endpoints")(endpoints.endpoints)
app.command("stop")(endpoints.stop)
app.command("schema")(schema.schema)
app.command("agent", **agent.PASS_THROUGH)(agent.agent)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: default: those of the process.

    Returns:
        0 when all went well, 1 when a step failed without a named error, 2 for a mistake that the
        message on standard error names, 130 when interrupted.
    """
    try:
        app(arguments, prog_name="fededge")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except FedEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
