"""What executes plans where there is no TensorFlow: see fededge.plan_runner.

    python -m fededge.device.litert_runner --plan PLAN --data CLIENT_FOLDER

A plan's LiteRT file is opened in this process alone: one that hangs or crashes ends with it.
"""

from fededge import plan_runner
from fededge.device.litert_client import LiteRTClient


def main() -> None:
    """Serve requests on standard input."""
    plan_runner.serve("fededge.device.litert_runner", LiteRTClient, lambda: ["keras"])


if __name__ == "__main__":
    main()
