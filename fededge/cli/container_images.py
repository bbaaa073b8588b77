"""fededge images: builds the four container images of a clone and pushes them."""

from pathlib import Path

import typer

from fededge import settings
from fededge.cli import show
from fededge.host.images import Engine
from fededge.host.layout import NAMES

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build and push the container images that steps, endpoints and devices run in.",
)

WHICH: list[str] = typer.Argument(None, help=f"Of {', '.join(NAMES)} (default: all).", show_default=False)
TAG: str = typer.Option("", help="Tag (default: the commit of this clone).", show_default=False)
ENGINE: Engine = typer.Option(None, help="What builds and pushes (default: the first that is installed).")


@app.command()
def build(
    names: list[str] = WHICH,
    base: str = typer.Option(
        ..., help="Image with Python 3.11 to build on, as NAME@sha256:DIGEST.", show_default=False
    ),
    tag: str = TAG,
    platform: str = typer.Option(
        "", help="Platform to build for, such as linux/arm64 (default: this machine's).", show_default=False
    ),
    engine: Engine = ENGINE,
) -> None:
    """Build images in the registry's name ([bold]FEDEDGE_REGISTRY[/bold]).

    An own package index and CA are taken from [bold]UV_DEFAULT_INDEX[/bold] and [bold]SSL_CERT_FILE[/bold].

    [bold]Example[/bold]

      fededge images build worker --base docker.io/library/python:3.11-slim@sha256:...
    """
    from fededge.host import images

    program = images.find_engine(engine)
    for name, reference in _references(names, tag).items():
        images.build(program, name, reference, base, settings.git_commit(), platform or None)


@app.command()
def push(
    names: list[str] = WHICH,
    tag: str = TAG,
    output: Path = typer.Option(
        None, "-o", "--output", help="File of the digests (default: images.json in FEDEDGE_HOME)."
    ),
    engine: Engine = ENGINE,
) -> None:
    """Push images that were built, and write their digests: what compiles with them runs these very bytes.

    [bold]Example[/bold]

      fededge images push && export FEDEDGE_IMAGES=$PWD/.fededge/images.json
    """
    from fededge.documents import ImageDigests
    from fededge.host import images

    program = images.find_engine(engine)
    file = (output or settings.home() / "images.json").resolve()
    pushed = {name: images.push(program, reference) for name, reference in _references(names, tag).items()}
    before = ImageDigests.read(file).images if file.exists() else {}
    ImageDigests(images=before | pushed).write(file)
    show.table(["image", "pushed as"], list(pushed.items()))
    show.wrote("digests", file)
    show.say(f"compile with them: export FEDEDGE_IMAGES={file}")


def _references(names: list[str] | None, tag: str) -> dict[str, str]:
    """The names of images, each with its reference."""
    for name in names or ():
        if name not in NAMES:
            raise typer.BadParameter(f"{name!r} is none of the images {', '.join(NAMES)}")
    tag = tag or settings.git_commit()
    if tag == "unknown":
        raise typer.BadParameter("this is no clone with a commit: give --tag")
    return {name: f"{settings.registry()}/{name}:{tag}" for name in names or NAMES}
