"""What befalls a server under load, and what stands afterwards. Counts: few in CI, many in `make bench`."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from tests.faults.checker import Verdict, check
from tests.faults.load import Client, Load
from tests.faults.site import WORKERS, Site, wait_for
from tests.servers.cluster import Cluster
from tests.servers.scarce import ScarceDisk

KINDS = ("decide", "buffered", "token", "role", "decide", "act", "redeem", "buffered", "refuse")
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def kill_workers(site: Site, kills: int, kinds: tuple[str, ...] = KINDS) -> Verdict:
    """kill -9 of one worker after the other while each kind of request is under way."""
    load = Load(site, kinds)
    with site.serving():
        with load.running():
            load.every_kind()
            for number in range(kills):
                wait_for(lambda: len(site.workers()) == WORKERS, "both workers to serve")
                load.progress(3)
                victim = site.workers()[number % WORKERS + 1]
                site.keep_accounts()
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda gone=victim: gone not in site.workers().values(), "the worker to be missed")
            load.every_kind()
        wait_for(lambda: len(site.workers()) == WORKERS, "both workers to serve")
        site.keep_accounts()
    return check(site, load.answers)


def stop_gracefully(site: Site, stops: int) -> Verdict:
    """SIGTERM under load, and start again; all that was taken is written, so that nothing is missing."""
    load = Load(site, KINDS)
    with load.running():
        for _ in range(stops):
            with site.serving():
                load.every_kind()
                site.keep_accounts()
    verdict = check(site, load.answers)
    if verdict.gap:
        verdict.faults.append(f"{verdict.gap} buffered decisions were lost by a graceful stop")
    return verdict


def restart_database(site: Site, cluster: Cluster, restarts: int) -> tuple[Verdict, list[float]]:
    """Crash and restart of the database under load; also the seconds from its return to the next thing done."""
    load, waits = Load(site, KINDS), []
    with site.serving():
        with load.running():
            load.every_kind()
            for _ in range(restarts):
                load.progress(5)
                cluster.down("immediate")
                cluster.up()
                started = time.monotonic()
                load.progress(1)
                waits.append(time.monotonic() - started)
        site.keep_accounts()
    return check(site, load.answers), waits


def terminate_backends(site: Site, cluster: Cluster, rounds: int) -> Verdict:
    """Every connection of the application is ended by the server, again and again."""
    load = Load(site, KINDS)
    with site.serving():
        with load.running(), cluster.admin() as admin:
            for _ in range(rounds):
                load.progress(1)
                admin.execute(_TERMINATE)
            load.every_kind()
        site.keep_accounts()
    return check(site, load.answers)


def fail_over(site: Site, primary: Cluster, standby: Cluster, database_url: str) -> tuple[Verdict, float]:
    """kill -9 of the primary under load, its synchronous standby takes over; `database_url` is that of the standby.

    Also the seconds from the kill to the next thing done. What was revoked before stays revoked.
    """
    load = Load(site, KINDS)
    with site.serving():
        client = Client(site, len(load.clients))
        token = client.token()
        client.revoke(token)
        with load.running():
            load.every_kind()
            started = time.monotonic()
            primary.kill()
            standby.promote()
            load.progress(1)
            took = time.monotonic() - started
            load.every_kind()
        active = client.is_active(token)
        client.close()
        site.keep_accounts()
    verdict = check(site, load.answers, database_url)
    if active is not False:
        verdict.faults.append("a revoked token is valid after the fail-over")
    return verdict, took


def run_out_of_connections(site: Site, cluster: Cluster, clients: int) -> Verdict:
    """First others hold every connection that the database has, then more clients than it has connections come."""
    load = Load(site, ("decide", "act", "token", "buffered"), threads=clients)
    faults = []
    with site.serving():
        with cluster.all_connections():
            if (site.status("/readyz"), site.status("/healthz")) != (503, 200):
                faults.append("it says that it is ready without a connection, or that it does not live")
            client = Client(site, clients)
            faults += [f"{kind} was done without a connection" for kind in ("act", "token") if client.do(kind).ok]
            client.close()
        wait_for(lambda: site.status("/readyz") == 200, "the server to find its connections again")
        with load.running():
            load.progress(2 * clients)
        site.keep_accounts()
    verdict = check(site, [*load.answers, *client.answers])
    verdict.faults += faults
    return verdict


def make_read_only(site: Site, cluster: Cluster) -> Verdict:
    """The database takes no more writes (its disk is full), then takes them again."""
    load, faults = Load(site, KINDS), []
    with site.serving():
        with load.running():
            load.every_kind()
            cluster.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
            try:
                load.refusals(2 * len(KINDS))
                served = ("/oauth/jwks", "/.well-known/openid-configuration", "/healthz")
                faults += [f"{path} is not served then" for path in served if site.status(path) != 200]
            finally:
                cluster.execute("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
            load.every_kind()
        site.keep_accounts()
    verdict = check(site, load.answers)
    verdict.faults += faults
    return verdict


def fill_disk(site: Site, disk: ScarceDisk, times: int) -> Verdict:
    """The disk of an embedded installation fills up under load, and is freed again."""
    load = Load(site, KINDS)
    with site.serving(disk.inside):
        with load.running():
            for _ in range(times):
                load.every_kind()
                disk.fill()
                load.refusals(2 * len(KINDS))
                disk.free()
            load.every_kind()
        site.keep_accounts()
    # SQLite would follow the way to the other namespace back into ours.
    copy = site.folder / "afterwards"
    copy.mkdir()
    for path in disk.path.glob("tessera.db*"):
        shutil.copy2(path, copy)
    return check(site, load.answers, f"sqlite:///{copy / 'tessera.db'}")


def moved(site: Site, disk: ScarceDisk, folder: Path) -> Site:
    """The installation, with its database and all that it keeps on this disk, which lies over `folder`."""
    shutil.copytree(site.var, disk.path / "var")
    shutil.copy2(site.folder / "tessera.db", disk.path)
    other = Site(f"sqlite:///{folder / 'tessera.db'}", site.folder, folder / "var")
    other.seen_var = disk.path / "var"
    other.port, other.address, other.secret, other.subs = site.port, site.address, site.secret, site.subs
    return other


def fail_calls(site: Site, refusals: int) -> Verdict:
    """Of the calls that write or sync every so-many-th fails, until so many requests were refused.

    The server's log is a device that is always full.
    """
    load = Load(site, KINDS)
    faults = "--inject=pwrite64:error=ENOSPC:when=40+61", "--inject=fdatasync,fsync:error=EIO:when=15+23"
    trace = ["strace", "-D", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync,fsync"]
    with site.serving([*trace, *faults], log=Path("/dev/full")):
        with load.running():
            load.refusals(refusals)
        site.keep_accounts()
    return check(site, load.answers)
