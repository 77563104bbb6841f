"""A real OpenLDAP for the tests that want one: in memory of a temporary folder, a free port, gone with the test run."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pytest
from anyldap import ldap

from cli.up.child import Child, Command
from cli.up.launch import Launch, launch
from cli.up.ports import LOOPBACK, Ports
from infra.directory.connection import Server
from tests.channels.certificates import Certificate

READY_S = 60.0
STOP_S = 20.0
BASE = "dc=lab,dc=test"
ADMIN = f"cn=admin,{BASE}"
READER = f"cn=reader,{BASE}"
SHORT = f"cn=short,{BASE}"
"""May read no more than 100 entries in one search, whatever its pages."""
BLIND = f"cn=blind,{BASE}"
"""May not read entryUUID."""
PASSWORD = "s3cret"
MODULES = Path("/usr/lib/ldap")
SCHEMA = Path("/etc/ldap/schema")

_CONF = """\
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
include {schema}/dyngroup.schema
modulepath {modules}
moduleload back_mdb
{load_dynlist}
moduleload ppolicy
pidfile {folder}/slapd.pid
argsfile {folder}/slapd.args
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
localSSF 128
security simple_bind=128
sizelimit size.soft=100 size.hard=100 size.prtotal=unlimited
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw {password}
directory {folder}/db
maxsize 67108864
dbnosync
index objectClass,uid,mail,member,entryUUID eq
index cn eq,sub
limits dn.exact="{short}" size.soft=100 size.hard=100 size.prtotal=100
access to attrs=userPassword by anonymous auth by * none
access to attrs=entryUUID by dn.exact="{blind}" none by users read
access to * by users read by anonymous auth
{dynlist}
overlay ppolicy
"""
"""Logs in over TLS only; a search without pages gives 100 entries."""
_DYNLIST = "overlay dynlist\ndynlist-attrset groupOfURLs memberURL member+memberOf@groupOfNames*"
"""Shows memberOf, of nested groups too."""


@dataclass(frozen=True)
class Slapd:
    port: int
    tls_port: int
    certificate: Path
    child: Child

    def server(self, **changes: object) -> Server:
        given: dict[str, object] = {
            "url": f"ldap://localhost:{self.port}", "base": BASE, "user": READER, "password": PASSWORD,
            "ca_file": self.certificate,
        }  # fmt: skip
        return Server(**{**given, **changes})  # type: ignore[arg-type]

    async def rename(self, dn: str, rdn: str) -> None:
        """As an administrator does when somebody marries."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        async with ldap.initialize(f"ldaps://localhost:{self.tls_port}", ssl_context=trust) as client:
            await client.simple_bind_s(ADMIN, PASSWORD)
            await client.rename_s(dn, rdn)


def missing() -> str:
    """What is not installed here; empty when slapd can be started."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    gone = [name for name in ("slapd", "slapadd") if which(name, path=path) is None]
    gone += [str(f) for f in (SCHEMA / "inetorgperson.schema", MODULES / "dynlist.so") if not f.exists()]
    return f"needs Debian's package slapd for a real directory; missing: {', '.join(gone)}" if gone else ""


@asynccontextmanager
async def running(
    folder: Path, *, ports: Ports, certificate: Certificate, ldif: Iterable[str], nested: bool
) -> AsyncIterator[Slapd]:
    """With these entries; `nested`: it finds who is within a group by itself.

    Where slapd is missing the test is skipped; in CI (CI=true) that is a failure.
    """
    if words := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"required in CI: {words}")
        pytest.skip(words)
    (folder / "db").mkdir(parents=True)
    config = folder / "slapd.conf"
    config.write_text(
        _CONF.format(
            schema=SCHEMA, modules=MODULES, folder=folder, base=BASE, admin=ADMIN, password=PASSWORD,
            short=SHORT, blind=BLIND, certificate=certificate.certificate, key=certificate.key,
            load_dynlist="moduleload dynlist" if nested else "", dynlist=_DYNLIST if nested else "",
        )
    )  # fmt: skip
    await asyncio.to_thread(_load_blocking, config, "\n".join(ldif))

    def prepare(_: int) -> Launch:
        port, tls_port = ports.any(), ports.any()
        urls = f"ldap://{LOOPBACK}:{port} ldaps://{LOOPBACK}:{tls_port}"
        command = Command(
            name="slapd",
            # -d: stays in the foreground, the child of ours that it is.
            arguments=[_tool("slapd"), "-d", "0", "-h", urls, "-f", str(config)],
            log=folder / "slapd.log",
            environment=os.environ,
            folder=folder,
            stop_s=STOP_S,
        )
        return Launch(command=command, ports=[port, tls_port], ready=_ready, within_s=READY_S)

    child, launched = await launch(prepare)
    try:
        port, tls_port = launched.ports
        yield Slapd(port, tls_port, certificate.certificate, child)
    finally:
        await child.stop()


async def _ready() -> bool:
    return True  # `launch` sees itself whether it listens


def _load_blocking(config: Path, ldif: str) -> None:
    """Operational attributes (entryUUID, modifyTimestamp) as they are given."""
    subprocess.run([_tool("slapadd"), "-q", "-f", str(config)], input=ldif.encode(), check=True, capture_output=True)


def _tool(name: str) -> str:
    found = which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found is not None
    return found
