"""`python3 -m fededge.host JOB`: what `make JOB` does, for machines without make."""

import argparse
import sys

JOBS = {
    "run": "set up what is missing, then run the digits task with six simulated devices",
    "fleet": "set up what is missing, then run the digits task with a gateway and three sites",
    "test": "set up what is missing, then lint, check types and run the tests",
    "test-slow": "set up what is missing, then run what takes long: kills and whole pipelines",
    "notebook": "set up what is missing, add Jupyter, then open the notebooks",
    "bench": "set up what is missing, then run the benchmarks",
    "setup": "set up the four environments and nothing more",
    "lock": "remake the lock files from the extras of setup.cfg",
}


def main() -> int:
    """Do the job that the command line names; the exit status."""
    if sys.version_info[:2] != (3, 11):
        found = sys.version.split()[0]
        print(f"fededge: this is Python {found}; FedEdge needs 3.11: call it by python3.11", file=sys.stderr)
        return 2
    from fededge.errors import FedEdgeError
    from fededge.host import environments, jobs, locks

    parser = argparse.ArgumentParser(prog="python3 -m fededge.host")
    commands = parser.add_subparsers(dest="job", required=True)
    for name, text in JOBS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "lock":
            command.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    arguments = parser.parse_args()
    try:
        if arguments.job == "run":
            jobs.run()
        if arguments.job == "fleet":
            jobs.fleet()
        if arguments.job == "bench":
            jobs.bench()
        if arguments.job == "notebook":
            jobs.notebook()
        if arguments.job == "test":
            return jobs.test()
        if arguments.job == "test-slow":
            return jobs.test_slow()
        if arguments.job == "lock":
            locks.make_locks(arguments.upgrade)
        else:
            environments.set_up()
    except FedEdgeError as error:
        print(f"fededge: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fededge: interrupted; run again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
