"""The `fededge` command: one module a verb, no logic of its own.

Each verb imports what it needs when it is called, so that the command itself starts at once.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import typer

import fededge
from fededge.cli import (
    agent,
    check,
    clients,
    compile,
    container_images,
    data,
    doctor,
    endpoints,
    fleet,
    functions,
    gateway,
    inspect,
    keys,
    manifests,
    models,
    predict,
    relay,
    report,
    rollback,
    rounds,
    run,
    runs,
    schedule,
    schema,
    site,
    tenants,
    triggers,
    upload,
)
from fededge.errors import FedEdgeError

app = typer.Typer(
    epilog="Start with: fededge run examples/digits/task.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fededge {fededge.__version__}")
        raise typer.Exit


@app.callback()
def _command(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
    ),
) -> None:
    """Federated learning for edge fleets as Kubeflow pipelines."""


app.command("run")(run.run)
app.command("check")(check.check)
app.command("inspect")(inspect.inspect)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.command("compile")(compile.compile_task)
app.command("upload")(upload.upload)
app.command("schedule")(schedule.schedule)
app.add_typer(runs.app, name="runs")
app.command("report")(report.report)
app.command("models")(models.models)
app.command("rollback")(rollback.rollback)
app.command("predict")(predict.predict)
app.command("endpoints")(endpoints.endpoints)
app.command("stop")(endpoints.stop)
app.add_typer(container_images.app, name="images")
app.command("schema")(schema.schema)
app.command("fleet")(fleet.fleet)
app.add_typer(gateway.app, name="gateway")
app.add_typer(functions.app, name="functions")
app.add_typer(clients.app, name="clients")
app.add_typer(rounds.app, name="rounds")
app.add_typer(triggers.app, name="triggers")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.command("manifests")(manifests.manifests)
app.command("agent", **agent.PASS_THROUGH)(agent.agent)
app.command("site", **agent.PASS_THROUGH)(site.site)
app.command("relay", **agent.PASS_THROUGH)(relay.relay)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: default: those of the process.

    Returns:
        0 when all went well, 1 when a step failed without a named error, 2 for a mistake that the
        message on standard error names, 130 when stopped by SIGINT or SIGTERM.
    """
    try:
        with _stopped_by_sigterm():
            app(arguments, prog_name="fededge")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except FedEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, also in process 1 of a container, which would ignore it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
