"""The program of a client, by two names: `fededge site` and `fededge agent`.

Both take part in learning with data that stay where they are, and run what is released to them, as far as the client's
own policy allows. They differ in what people call them and in what executes plans. docs/guides/sites.md and devices.md
are the guides.
"""

import argparse
import asyncio
import getpass
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fededge import __version__, settings, storage
from fededge.device import facts, isolation, journal, launcher
from fededge.device.client import Client
from fededge.device.clock import Clock
from fededge.device.history import check_form, last_released, remembered
from fededge.device.identity import IDENTITY, identity_in
from fededge.device.policy import Loaded
from fededge.device.workplace import workplace
from fededge.errors import FedEdgeError, SiteError

TOKEN_LIMIT = 4096
SHOWN_ROUNDS = 10
EXAMPLES = """examples:

  fededge {name} enroll https://gateway.example.com --token-file token
  fededge {name} run --policy policy.yaml
  fededge {name} status
"""


@dataclass(frozen=True)
class Words:
    """What people call the program: its name, which is that of its folder, too; and what it does."""

    name: str
    does: str


SITE = Words(
    "site", "Take part in learning with data that stay here, as far as this site's own policy allows."
)
AGENT = Words(
    "agent",
    "Run and serve the models that are released to this device, and take part in learning with its data, as far as its "
    "own policy allows.",
)


def main(arguments: Sequence[str], runner: Sequence[str], words: Words = SITE) -> int:
    """Run the program.

    Args:
        arguments: of the command, without `fededge site` or `fededge agent`.
        runner: command that executes plans, as fededge.plan_runner does.
        words: what it is called.

    Returns:
        0 when it ended as told; 2 for a mistake that the message on standard error names.
    """
    options = parser(words).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells addresses, which are as good as passwords
    folder = options.folder or settings.home() / words.name
    try:
        if options.command == "enroll":
            return _enroll(folder, options)
        if options.command == "run":
            if asyncio.run(_run(folder, options.policy or folder / "policy.yaml", runner, words.name)):
                launcher.again(folder, [words.name, *arguments])
            return 0
        if options.command == "check":
            return _check(folder, options.policy or folder / "policy.yaml", runner, options.json)
        if options.command == "status":
            return _status(folder, options.policy or folder / "policy.yaml", options.json)
        checked = journal.verify(folder / "journal.jsonl")
        print(f"{checked.lines:,} lines, each follows the one before; chain {checked.chain}")
    except FedEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _enroll(folder: Path, options: argparse.Namespace) -> int:
    from fededge.device.enrollment import enroll

    token = "" if (folder / IDENTITY).exists() else _token(options.token_file)
    identity = enroll(folder, options.gateway, token, options.ca_file, options.plain_http)
    print(
        f"{identity.kind} {identity.client} of {identity.tenant} at {identity.gateway}; its key is {identity.key}"
    )
    return 0


def _token(file: str | None) -> str:
    if file is None and sys.stdin.isatty():
        token = getpass.getpass("token: ")
    elif file in (None, "-"):
        token = sys.stdin.read(TOKEN_LIMIT)
    else:
        token = storage.read(str(file), TOKEN_LIMIT).decode(errors="replace")
    if not 16 <= len(token.strip()) <= 200:
        raise SiteError("that is no token: give the one that the gateway's operator made for this client")
    return token.strip()


async def _run(folder: Path, policy: Path, runner: Sequence[str], name: str) -> bool:
    """Work until a signal; whether it ended for another program to run instead."""
    stopped = False

    with workplace(folder, policy, runner, Clock()) as place:
        identity, log = place.identity, logging.getLogger("fededge.site")
        log.info(
            "%s %s of %s; frameworks: %s",
            *(identity.kind, identity.client, identity.tenant, ", ".join(place.frameworks)),
        )
        if place.isolated:
            log.info("work runs in isolation: no network, no rights, its own files only")
        else:
            log.warning("work runs without isolation: %s", isolation.mistake())
        client = Client(place, program=name)

        def stop() -> None:
            nonlocal stopped
            stopped = True
            client.end()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await client.run()
        return client.switched and not stopped


def _check(folder: Path, policy: Path, runner: Sequence[str], as_json: bool) -> int:
    """Read all that a start reads, and change nothing."""
    identity, rules = identity_in(folder), Loaded(policy)
    held, frameworks = facts.datasets(rules.folders), facts.frameworks(runner)
    if (folder / "store.db").exists():
        check_form(folder / "store.db")
    if as_json:
        print(json.dumps({"version": __version__, "client": identity.client, "frameworks": frameworks}))
        return 0
    print(f"fededge {__version__} can run {identity.client} with {policy}")
    print(
        f"follows {len(rules.releases)} releases; {len(held)} datasets; frameworks: {', '.join(frameworks)}"
    )
    return 0


def _status(folder: Path, policy: Path, as_json: bool) -> int:
    identity = identity_in(folder)
    mistake = isolation.mistake()
    store = folder / "store.db"
    rounds = remembered(store, SHOWN_ROUNDS) if store.exists() else []
    held = facts.datasets(Loaded(policy).folders) if policy.exists() else []
    releases = last_released(store) if store.exists() else []
    if as_json:
        told = {
            "identity": identity.to_content(),
            "isolation": {"namespaces": mistake is None, "why_not": mistake},
            "datasets": [each.to_content() for each in held],
            "rounds": [vars(each) for each in rounds],
            "releases": [each.to_content() for each in releases],
        }
        print(json.dumps(told, indent=1))
        return 0
    print(f"{identity.kind:<10} {identity.client} of {identity.tenant}, key {identity.key}")
    print(f"gateway    {identity.gateway}")
    print(f"isolation  {'namespaces' if mistake is None else f'none: {mistake}'}")
    for each in held:
        print(
            f"dataset    {each.name}: {each.train:,} training and {each.test:,} test examples, {each.schema_digest}"
        )
    if not policy.exists():
        print(f"policy     none at {policy}: nothing is allowed without one")
    for runs in releases:
        what = f"version {runs.version}, {runs.kind} {runs.digest}" if runs.version else runs.kind
        print(f"release    {runs.task} for {runs.device_class}: {what}")
    for known in rounds:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(known.at))
        print(
            f"round      {at}  {known.kind} of {known.task}, round {known.number}: {known.outcome} (rule {known.rule})"
        )
    return 0


def parser(words: Words = SITE) -> argparse.ArgumentParser:
    """The options of the program."""
    parser = argparse.ArgumentParser(
        prog=f"fededge {words.name}",
        description=words.does,
        epilog=EXAMPLES.format(name=words.name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser(
        "enroll",
        help="become a client of a gateway, with a one-time token",
        description=f"Make a key for this {words.name} and enroll it at a gateway. Repeat the same command after any "
        "failure: it goes on where it stopped, and does nothing where it succeeded.",
    )
    add.add_argument("gateway", help="its address, such as https://gateway.example.com")
    add.add_argument("--token-file", metavar="FILE", help="file with the token; - or none: standard input")
    add.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="PEM file of the CAs to trust (default: the system's)"
    )
    add.add_argument(
        "--plain-http", action="store_true", help="allow http:// to another machine, for a trial"
    )
    run = commands.add_parser(
        "run",
        help="connect, and work on what the policy allows",
        description="Connect to the gateway and work on what the policy file allows, until SIGTERM. What is under way "
        "when it ends, in whatever way, goes on at the next start.",
    )
    status = commands.add_parser(
        "status", help="tell who this is, its data, isolation, releases and last rounds"
    )
    check = commands.add_parser(
        "check", help="say whether it could run: reads what a start reads, and changes nothing"
    )
    for command in (status, check):
        command.add_argument("--json", action="store_true", help="for programs")
    verify = commands.add_parser("verify", help="check the journal of what left here")
    for command in (run, status, check):
        command.add_argument(
            "--policy", type=Path, metavar="FILE", help="policy file (default: FOLDER/policy.yaml)"
        )
    for command in (add, run, status, check, verify):
        command.add_argument(
            "--folder", type=Path, help=f"of this {words.name} (default: $FEDEDGE_HOME/{words.name})"
        )
    return parser
