"""`fededge`: the command line; on a device, which has the edge environment alone, its agent."""

import importlib.util
import os
import sys

from fededge import settings


def main() -> int:
    """Run the command line; the exit status."""
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


if __name__ == "__main__":
    sys.exit(main())
