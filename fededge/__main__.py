"""`fededge`: the command line; on a device, which has the edge environment alone, its agent."""

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
    if importlib.util.find_spec("typer"):
        from fededge import cli

        return cli.main()
    if sys.argv[1:2] == ["agent"]:
        from fededge.device import agent

        return agent.main(sys.argv[2:])
    print(
        "error: only `fededge agent` runs in this environment: the other verbs need the platform environment "
        "(pip install fededge[platform])",
        file=sys.stderr,
    )
    return 2


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
