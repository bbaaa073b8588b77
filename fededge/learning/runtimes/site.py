"""A site process: see fededge.plan_runner. It needs the plan's framework, and never TensorFlow Federated."""

from fededge import plan_runner
from fededge.learning.frameworks import installed, open_client


def main() -> None:
    """Serve requests on standard input."""
    plan_runner.serve("fededge.learning.runtimes.site", open_client, installed)


if __name__ == "__main__":
    main()
