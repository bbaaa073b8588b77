"""fededge functions: serve the gateway's functions as CloudEvents services, and measure those that train and answer."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from fededge import settings, storage
from fededge.cli import serving_options as options
from fededge.cli import show

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Serve the gateway's functions as CloudEvents services, and measure functions that train and answer.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

BAR = 30
"""Characters of the longest bar."""


@app.command()
def serve(
    names: list[str] = typer.Argument(
        ..., help="monitoring, selection, model-update, aggregation, triggering, or all.", show_default=False
    ),
    host: str = options.HOST,
    port: int = typer.Option(8471, min=0, max=65535, help="Port; 0: a free one."),
    url: str | None = options.URL,
    certificate: Path | None = options.CERTIFICATE,
    private_key: Path | None = options.PRIVATE_KEY,
    insecure: bool = options.INSECURE,
    oidc_issuer: str | None = options.OIDC_ISSUER,
    oidc_audience: str = options.OIDC_AUDIENCE,
    brokers: list[str] = typer.Option(
        [],
        "--broker",
        help="ACCOUNT=TENANT: tokens of this provider with the subject ACCOUNT are an operator's; repeatable.",
    ),
    ready_file: Path | None = options.READY_FILE,
) -> None:
    """Serve functions of the gateway at /NAME until SIGTERM or Ctrl-C, over the same registry and store.

    [bold]Examples[/bold]

      fededge functions serve selection

      fededge functions serve all --port 8471
    """
    from fededge.errors import GatewayError, shown
    from fededge.fleet.gateway.server import serve as run
    from fededge.fleet.gateway.settings import GatewaySettings, Oidc
    from fededge.fleet.hosts.app import NAMES, create_app
    from fededge.fleet.registry.database import Registry
    from pipelines.triggered import Triggered

    for name in names:
        if name not in (*NAMES, "all"):
            raise GatewayError(
                f"no function {shown(name)}: choose of {', '.join(NAMES)}, or all", "NO_FUNCTION"
            )
    accounts = dict(each.rpartition("=")[::2] for each in brokers)
    if "" in accounts or (accounts and not oidc_issuer):
        raise GatewayError("--broker takes ACCOUNT=TENANT, and needs --oidc-issuer", "BROKER")
    chosen = GatewaySettings(
        host=host,
        port=port,
        url=url or settings.gateway_url(),
        certificate_file=certificate,
        private_key_file=private_key,
        insecure=insecure,
        oidc=Oidc(oidc_issuer, oidc_audience, accounts=accounts) if oidc_issuer else None,
    )

    ready = options.telling("functions", ready_file)
    registry = Registry.open(chosen.database)
    try:
        triggered = Triggered(registry, settings.home(), show.sayer())
        served = NAMES if "all" in names else names
        run(chosen, ready, lambda settings, where: create_app(settings, where, served, triggered.look))
    finally:
        registry.close()


@app.command()
def bench(
    model: Path | None = typer.Option(None, help="Variant to answer with.", show_default=False),
    kind: str = typer.Option("float32", help="Its kind, such as int8."),
    plan: Path | None = typer.Option(
        None, help="Folder of a plan with a LiteRT file, to train by.", show_default=False
    ),
    client: Path | None = typer.Option(
        None, help="A client's folder, with train/ and test/.", show_default=False
    ),
    images: list[int] = typer.Option([1, 10, 100, 500], min=1, help="How many at once; repeatable."),
    epochs: list[int] = typer.Option([1, 2, 5], min=1, help="Passes over the examples; repeatable."),
    repeats: int = typer.Option(3, min=1, help="Of each; the fastest counts."),
    as_json: bool = show.JSON,
) -> None:
    """Measure functions that answer and train, cold and warm, as figures 6 and 7 of the serverless edge paper do.

    [bold]Examples[/bold]

      fededge functions bench --model int8.tflite --kind int8

      fededge functions bench --plan plan --client clients/a
    """
    from fededge.errors import TaskError
    from fededge.host.layout import interpreter
    from serving.functions import measuring

    if model is None and (plan is None or client is None):
        raise TaskError("nothing to measure: name --model, or --plan and --client")
    python = interpreter("serving")
    measured = {}
    if model is not None:
        digest = storage.digest(storage.read(str(model)))
        arguments = ["--model", str(model.resolve()), "--digest", digest, "--kind", kind]
        function = measuring.Function(python, "predict", arguments)
        measured["images"] = list(measuring.predicting(function, images, repeats))
    if plan is not None and client is not None:
        measured["epochs"] = list(measuring.training(python, plan, client, epochs, repeats))
    if as_json:
        show.document({by: [asdict(row) for row in rows] for by, rows in measured.items()})
        return
    for by, rows in measured.items():
        _table(by, rows)


def _table(by: str, rows: Sequence[Any]) -> None:
    """Seconds by epochs or images, with a bar of the cold ones and the warm part of them."""
    longest = max(row.cold for row in rows)

    def bar(row: Any) -> str:
        warm = round(BAR * row.warm / longest)
        return "█" * warm + "░" * max(0, round(BAR * row.cold / longest) - warm)

    show.table(
        (by, "cold s", "warm s", "peak MB", "warm █ cold ░"),
        [
            (row.amount, round(row.cold, 3), round(row.warm, 4), round(row.megabytes), bar(row))
            for row in rows
        ],
    )
