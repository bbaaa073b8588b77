"""A PostgreSQL server of a test's own: in a folder of its own, by a user of its own where the tests run as root."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

from fededge.ports import free_port

PROGRAMS = ("initdb", "postgres", "pg_basebackup", "pg_ctl", "setpriv")
LIMIT = 60.0


def missing() -> str | None:
    """Why no server can be started here; None where it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"PostgreSQL is not installed here ({', '.join(absent)})" if absent else None


def _account() -> pwd.struct_passwd:
    """Who runs the server: PostgreSQL refuses root."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _as_account() -> list[str]:
    account = _account()
    command = ["setpriv", "--pdeathsig", "KILL"]  # not one of them outlives the tests
    if not os.getuid():
        command += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return command


class Postgres:
    """A server that listens on a free port of this machine.

    Args:
        settings: of postgresql.conf.
        standby_of: copy that server, and follow it.
        place: where its folder is made.
    """

    def __init__(
        self,
        settings: dict[str, str],
        standby_of: "Postgres | None" = None,
        place: Path | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fededge-postgres-", dir=place))
        self.data = self.folder / "data"
        if not os.getuid():
            os.chown(self.folder, _account().pw_uid, _account().pw_gid)
        self.port = free_port()
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._make(standby_of)
            self.start()
        except BaseException:
            self.close()
            raise

    def _make(self, standby_of: "Postgres | None") -> None:
        if standby_of is None:
            options = ["--auth=trust", "--username=fededge", "--no-sync", "--encoding=UTF8", "--locale=C"]
            self._run("initdb", "-D", str(self.data), *options)
        else:
            source = f"host=127.0.0.1 port={standby_of.port} user=fededge application_name=standby"
            options = ["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync"]
            self._run("pg_basebackup", "-D", str(self.data), "-d", source, *options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **self.settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*_as_account(), str(shutil.which("postgres")), "-D", str(self.data), *options],
            stdout=log,
            stderr=log,
            cwd="/",
        )
        log.close()
        until = time.monotonic() + LIMIT
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError((self.folder / "log").read_text()) from error
                time.sleep(0.05)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Rows of a statement."""
        place = f"host=127.0.0.1 port={self.port} user=fededge dbname={database} connect_timeout=5"
        with psycopg.connect(place, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        """URL of a database on it, for the registry."""
        return f"postgresql://fededge@127.0.0.1:{self.port}/{database}"

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is None or self._process.poll() is not None

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "promote", "-D", str(self.data))

    def kill(self) -> None:
        """SIGKILL it with all of its processes, as a power cut would."""
        if self._process is not None:
            postmaster = psutil.Process(self._process.pid)
            for process in [postmaster, *postmaster.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill it, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *options: str) -> None:
        command = [*_as_account(), str(shutil.which(program)), *options]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr
