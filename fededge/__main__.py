"""`fededge`: the command line; on a device and at a site, which have one environment alone, their own programs."""

import codecs
import importlib.util
import io
import locale
import os
import sys

from fededge import settings


def main() -> int:
    """Run the command line; the exit status."""
    _speak_utf8()
    os.environ.update(settings.without_proxy(os.environ))
    has_typer = importlib.util.find_spec("typer") is not None
    if sys.argv[1:2] == ["site"] and (not has_typer or importlib.util.find_spec("tensorflow")):
        from fededge.device import site

        return site.main(sys.argv[2:], runner())
    if sys.argv[1:2] == ["relay"] and not has_typer:
        from fededge.device.relay import command

        return command.main(sys.argv[2:], runner())
    if has_typer:
        from fededge import cli

        return cli.main()
    if sys.argv[1:2] == ["agent"]:
        from fededge.device import agent

        return agent.main(sys.argv[2:])
    print(
        "error: only `fededge agent`, `fededge site` and `fededge relay` run in this environment: the other verbs need "
        "the platform environment (pip install 'fededge[platform]' fededge-pipelines)",
        file=sys.stderr,
    )
    return 2


def runner() -> list[str]:
    """The command that executes plans at a site: on LiteRT where nothing else is installed for it."""
    frameworks = any(importlib.util.find_spec(name) for name in ("sklearn", "tensorflow", "torch"))
    module = "fededge.learning.runtimes.site" if frameworks else "fededge.device.litert_runner"
    return [sys.executable, "-m", module]


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
