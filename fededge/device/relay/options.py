"""The options of `fededge relay`."""

import argparse
from pathlib import Path

EXAMPLES = """examples:

  fededge relay check relay.yaml
  fededge relay run --relay relay.yaml
  fededge relay run --relay relay.yaml --policy policy.yaml
  fededge relay status
"""


def parser() -> argparse.ArgumentParser:
    """The options of `fededge relay`."""
    parser = argparse.ArgumentParser(
        prog="fededge relay",
        description="Collect from sensors over MQTT, learn for them as far as a policy allows, and answer them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="collect, learn and answer",
        description="Collect what the relay's file says, make datasets of it and answer requests, until SIGTERM. With a "
        "policy it is a client of a gateway, too, which `fededge site enroll --folder FOLDER` enrolls.",
    )
    run.add_argument(
        "--relay", type=Path, metavar="FILE", help="the relay's file (default: FOLDER/relay.yaml)"
    )
    run.add_argument("--policy", type=Path, metavar="FILE", help="policy file, to take part in learning")
    status = commands.add_parser("status", help="tell the sensors, their readings and what was refused")
    status.add_argument("--json", action="store_true", help="for programs")
    for command in (run, status):
        command.add_argument("--folder", type=Path, help="of this relay (default: $FEDEDGE_HOME/relay)")
    check = commands.add_parser("check", help="look at a relay's file, and tell what it makes")
    check.add_argument("file", type=Path, metavar="FILE", help="the relay's file")
    return parser
