"""Running HTTP apps inside our own event loop: bound before ready, drained at the end, no signals.

    async with serve_tcp(app, "127.0.0.1:9464", key="listen.metrics"):
        ...

An address that cannot be had is a CannotListen that names its key in the configuration. The unix
socket has its mode, 0600, before anyone can connect, in a directory that no other user can write
to; a socket left by a dead server is replaced, one that still answers is not.
"""

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from admin.connections import HANDSHAKE_SECONDS, PatientProtocol
from admin.peer import MAXIMUM_CONNECTIONS, PeerProtocol, TlsProtocol
from meshca.errors import CannotListen

MAXIMUM_PATH_BYTES = 107  # sun_path of unix(7), less its terminating zero
MAXIMUM_HEAD_BYTES = 32 * 1024
GRACE_SECONDS = 3
KEEP_ALIVE_SECONDS = 10


@asynccontextmanager
async def serve_tcp(
    app: ASGIApp,
    address: str,
    *,
    key: str,
    tls: ssl.SSLContext | None = None,
    most: int = MAXIMUM_CONNECTIONS,
) -> AsyncIterator[str]:
    """Serve `app` on `address` (HOST:PORT) for the duration; yield the address bound.

    `key` is the address's path in the configuration, for CannotListen. With `tls` it is HTTPS. From
    `most` connections on the answer is 503.
    """
    bound = bind_tcp(address, key=key)
    host, port = bound.getsockname()[:2]
    async with _serving(app, bound, PatientProtocol, tls, most=most):
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def serve_admin_tls(
    app: ASGIApp,
    address: str,
    tls: ssl.SSLContext,
    *,
    protocol: type[TlsProtocol] = TlsProtocol,
    handshake_seconds: float = HANDSHAKE_SECONDS,
) -> AsyncIterator[str]:
    """Serve the admin `app` over TLS for the duration; requests know what TLS saw."""
    bound = bind_tcp(address, key="listen.admin")
    host, port = bound.getsockname()[:2]
    async with _serving(app, bound, protocol, tls, handshake_seconds):
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def serve_unix(app: ASGIApp, path: Path, *, mode: int = 0o600) -> AsyncIterator[None]:
    """Serve `app` on the unix socket `path` for the duration; requests know their peer."""
    bound = bind_unix(path, mode=mode)
    inode = path.stat().st_ino
    try:
        async with _serving(app, bound, PeerProtocol):
            yield
    finally:
        _remove(path, inode)


def bind_tcp(address: str, *, key: str) -> socket.socket:
    """Return a socket bound to `address`; raises CannotListen."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise CannotListen(f"{key}: {address}: {_reason(error)}") from error


def bind_unix(path: Path, *, mode: int = 0o600) -> socket.socket:
    """Return a socket bound to `path`; raises CannotListen.

    A `mode` that lets others connect is for doors that look at the peer's uid.
    """
    if len(os.fsencode(path)) > MAXIMUM_PATH_BYTES:
        raise CannotListen(
            f"data_dir: {path}: a unix socket's path has at most {MAXIMUM_PATH_BYTES} bytes"
        )
    _check_directory(path.parent)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        bound.bind(str(path))
        path.chmod(mode)  # nobody can connect before listen()
        bound.listen()
    except OSError as error:
        bound.close()
        raise CannotListen(f"data_dir: {path}: {_reason(error)}") from error
    except CannotListen:
        bound.close()
        raise
    return bound


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use: something else listens there already"
    if error.errno == errno.EACCES:
        return "permission denied"
    return error.strerror or str(error)


def _check_directory(directory: Path) -> None:
    try:
        status = directory.stat()
    except OSError as error:
        raise CannotListen(f"data_dir: {directory}: {_reason(error)}") from error
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotListen(
            f"data_dir: {directory}: other users can write to it, so they could replace the admin "
            "socket; chmod go-w"
        )


def _clear(path: Path) -> None:
    """Remove the socket of a server that is gone; refuse anything else that is there."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise CannotListen(f"data_dir: {path}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise CannotListen(f"data_dir: {path}: another server is already running there")


def _remove(path: Path, inode: int) -> None:
    try:
        if path.stat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        return


@asynccontextmanager
async def _serving(
    app: ASGIApp,
    bound: socket.socket,
    protocol: type[H11Protocol],
    tls: ssl.SSLContext | None = None,
    handshake_seconds: float = HANDSHAKE_SECONDS,
    most: int = MAXIMUM_CONNECTIONS,
) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=most,
        h11_max_incomplete_event_size=MAXIMUM_HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    config.load()
    # Server.serve() would take the process's signals, and Server.startup() wait a minute for a
    # handshake; their parts do not.
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    server.servers = [await _listen(server, bound, tls, handshake_seconds)]
    server.started = True
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown(sockets=[bound])


async def _listen(
    server: uvicorn.Server,
    bound: socket.socket,
    tls: ssl.SSLContext | None,
    handshake_seconds: float,
) -> asyncio.Server:
    config = server.config
    seconds = None if tls is None else handshake_seconds

    def connected() -> asyncio.Protocol:
        protocol: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]  # one of ours
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )
        return protocol

    return await asyncio.get_running_loop().create_server(
        connected,
        sock=bound,
        ssl=tls,
        backlog=config.backlog,
        ssl_handshake_timeout=seconds,
    )
