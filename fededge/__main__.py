"""`fededge`: the command line; on a device and at a site, which have one environment alone, their own programs."""

import codecs
import importlib.util
import io
import locale
import os
import sys

from fededge import settings

LITERT = [sys.executable, "-m", "fededge.device.litert_runner"]
"""The command that executes plans on LiteRT alone."""


def main() -> int:
    """Run the command line; the exit status."""
    _speak_utf8()
    os.environ.update(settings.without_proxy(os.environ))
    arguments = sys.argv[1:]
    has_typer = importlib.util.find_spec("typer") is not None
    if arguments[:1] == ["site"] and (not has_typer or importlib.util.find_spec("tensorflow")):
        return _client(arguments, runner())
    if arguments[:1] == ["agent"] and (not has_typer or importlib.util.find_spec("ai_edge_litert")):
        return _client(arguments, LITERT)
    if arguments[:1] == ["relay"] and not has_typer:
        from fededge.device.relay import command

        return command.main(arguments[1:], LITERT)
    if has_typer:
        from fededge import cli

        return cli.main()
    print(
        "error: only `fededge agent`, `fededge site` and `fededge relay` run in this environment: the other verbs need "
        "the platform environment (pip install 'fededge[platform]' fededge-pipelines)",
        file=sys.stderr,
    )
    return 2


def _client(arguments: list[str], runner: list[str]) -> int:
    """Run `fededge site` or `fededge agent`, by the program that was released to it last."""
    from fededge.device import launcher

    if arguments[1:2] == ["run"]:
        launcher.launch(arguments)
    from fededge.device import site

    return site.main(arguments[1:], runner, site.SITE if arguments[0] == "site" else site.AGENT)


def runner() -> list[str]:
    """The command that executes plans at a site: on LiteRT where nothing else is installed for it."""
    frameworks = any(importlib.util.find_spec(name) for name in ("sklearn", "tensorflow", "torch"))
    return [sys.executable, "-m", "fededge.learning.runtimes.site"] if frameworks else LITERT


def _speak_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale is none of UTF-8: paths and logs are."""
    told = sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1"
    if not told and codecs.lookup(locale.getencoding()).name != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
