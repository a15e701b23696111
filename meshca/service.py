"""The life of one process: start in order, serve, drain, stop.

Start: database, policies, authority, own certificate, doors; a problem on the way is one message
and exit code 1, and nothing has been half opened. Stop (SIGTERM, Ctrl-C): not ready any more,
streams end, calls under way finish, the log gets its last entry. Proxies keep what they have, so
no handshake is lost. A loop that fails for a reason nobody foresaw is logged, counted, and started
again: one bad file or answer must not stop certificates.
"""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import grpc
import uvloop

from admin.api import create_app
from admin.errors import LastResort
from admin.health import create_health_app
from admin.public import create_bundle_app, create_public_app
from admin.serve import serve_tcp, serve_unix
from admin.tls import CertificateFiles, ServerTls
from audit.refusals import FLUSH_SECONDS
from meshca import logs
from meshca.clock import Clock, SystemClock
from meshca.database import open_engine
from meshca.errors import CannotListen, MeshcaError, Unavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.policy_audit import missed_change
from meshca.process_entries import start_entries, stop_entry
from meshca.readiness import Readiness
from meshca.schema import migrate
from meshca.settings import BundleEndpoint, Settings
from meshca.wiring import Service, admin_state, build, own_caller
from meshca.wiring_audit import Loop
from sds.grpc_server import OPTIONS, handlers

DRAIN_SECONDS: Final = 5.0
FIRST_CERTIFICATE_SECONDS: Final = 30.0
SWEEP_SECONDS: Final = 1.0
RESTART_SECONDS: Final = 1.0
SWITCH_SECONDS: Final = 0.0005

log = get_logger("meshca")


def run(settings: Settings) -> int:
    """Run the service until a signal ends it; return the exit code."""
    logs.configure()
    raise_file_limit()
    share_interpreter()
    try:
        return uvloop.run(_main(settings, SystemClock(), Metrics()))
    except MeshcaError as error:
        log.error("not_started", error=str(error))
        return 1


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each proxy is a socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def calm_collector() -> None:
    """Let the garbage collector look little by little, and not at what was made before.

    Streams live for an hour: going through thousands of them as often as is the default takes a
    quarter of a push to all, so what has survived is seldom looked at. What is young costs as much
    in all however often that is; a thousand objects at a time hold up a call for a millisecond at
    most, twenty thousand for up to twenty.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 400, 50)


def share_interpreter() -> None:
    """Let the event loop have the interpreter soon after it asks for it.

    Threads index the log, word records and fill groups of writes. By default one that computes
    gives way after 5 ms, and a call comes back to the loop several times until it is answered.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


async def _main(settings: Settings, clock: Clock, metrics: Metrics) -> int:
    _prepare_directory(settings.data_dir)
    engine = await asyncio.to_thread(open_engine, settings.database_url)
    try:
        await asyncio.to_thread(migrate, engine)
        service = build(settings, clock=clock, metrics=metrics, engine=engine)
        async with service.writer:
            try:
                return await serve(service)
            finally:
                await service.intermediates.members.leave()
    finally:
        engine.dispose()


def _prepare_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"data_dir {directory} cannot be made: {error.strerror}") from error


async def serve(service: Service) -> int:
    """Run `service`, whose writer is running, until a signal ends it; return the exit code.

    Raises MeshcaError when it does not start.
    """
    await service.audit.retention.prepare()
    await service.audit.clock_watch.look()  # what follows has the times of our clock
    await asyncio.to_thread(service.policies.start)
    await service.writer.submit(
        *await asyncio.to_thread(
            missed_change, service.policies, service.writer.engine, service.clock
        )
    )
    await service.staging.load()
    await service.revocation.load()
    await service.intermediates.load()
    await service.upper.look()  # before any proxy asks: it would get none of the lists
    await service.journal.record()
    await service.federation.load()
    await service.revocation.operations.resume()
    stopping = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as loops, _doors(service, loops, stopping):
            await _record_start(service)
            calm_collector()
            log.info("ready", version=version("meshca"), trust_domain=service.settings.trust_domain)
            await stopping.wait()
            log.info("draining", streams=service.ledger.streams)
    except* MeshcaError as group:
        raise group.exceptions[0] from group
    finally:
        service.authenticator.close()
    await service.decisions.close()
    await service.refusals.flush()
    await service.gaps.flush()
    stop = stop_entry(service.settings, service.policies, service.clock.now())
    await service.writer.submit(stop)
    await service.audit.close()
    log.info("stopped")
    return 0


async def _record_start(service: Service) -> None:
    """Write down that we began, and what differs from the start before."""
    now = service.clock.now()
    entries = await asyncio.to_thread(
        start_entries, service.settings, service.policies, service.engine, now
    )
    await service.writer.submit(*entries)


@contextlib.asynccontextmanager
async def _doors(
    service: Service, loops: asyncio.TaskGroup, stopping: asyncio.Event
) -> AsyncIterator[None]:
    """Open every door, in an order in which the first answer can already be right."""
    settings = service.settings
    running = [
        loops.create_task(_kept_running(service.metrics, name, loop))
        for name, loop in _loops(service).items()
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        release = await _own_certificate(service)
        stack.callback(release)
        readiness = Readiness(service, stopping)
        metrics_app = create_health_app(service.metrics.registry, readiness.problems)
        await stack.enter_async_context(
            serve_tcp(metrics_app, settings.listen.metrics, key="listen.metrics")
        )
        if settings.listen.public is not None:
            await stack.enter_async_context(
                serve_tcp(_public(service), settings.listen.public, key="listen.public")
            )
        if settings.bundle_endpoint is not None:
            await stack.enter_async_context(
                _bundle_endpoint(service, settings.bundle_endpoint, loops)
            )
        admin = replace(admin_state(service, readiness.problems), stopping=stopping)
        admin_app = create_app(admin)
        mode = service.admin.socket_mode
        await stack.enter_async_context(serve_unix(admin_app, settings.admin_socket, mode=mode))
        if settings.listen.admin is not None:
            await stack.enter_async_context(
                service.admin.serve_tls(admin_app, settings.listen.admin, service.identity)
            )
        await stack.enter_async_context(_grpc(service, settings.listen.mesh, "mesh"))
        if settings.listen.renew is not None:
            await stack.enter_async_context(
                _grpc(service, settings.listen.renew, "renew", mutual_tls=True)
            )
        yield
        stopping.set()
    for task in running:
        task.cancel()


def _loops(service: Service) -> Mapping[str, Loop]:
    """Return what runs for as long as the service does, by name."""
    return {
        "leaves": service.leaves.run,
        "intermediates": service.intermediates.run,
        "taints": service.intermediates.run_bars,
        "changes": service.feed.run,
        "revocation": service.revocation.state.run,
        "lists": service.revocation.lists.run,
        "upper lists": service.upper.run,
        "ocsp": service.revocation.signers.run,
        "ocsp colleagues": service.revocation.colleagues.run,
        "interrupted": service.revocation.operations.run,
        "effects": service.effects.run,
        "keys": service.authenticator.run,
        "policies": service.policies.run,
        "policy history": service.history.run,
        "pods": service.pods.run,
        "token keys": service.token_keys.run,
        "decisions": service.decisions.recorder.run,
        "old decisions": service.decisions.retention.run,
        "staging": service.staging.live.run,
        "canary": service.staging.watch.run,
        "bundle": service.journal.run,
        "federation": service.federation.run,
        "publication": service.publisher.run,
        **service.admin.loops(),
        **service.audit.loops(),
        "sweep": lambda: _sweep(service),
        "flush": lambda: _flush(service),
    }


def _public(service: Service) -> LastResort:
    """Return what is served at the public door."""
    return create_public_app(
        service.journal.current,
        lambda name: service.intermediates.standings.get(name).chain[0],
        service.revocation.lists.get,
        service.revocation.responder,
        lambda: service.upper.current().pem,
        service.audit.outside.witness,
    )


async def _kept_running(metrics: Metrics, name: str, loop: Loop) -> None:
    """Run `loop` until cancelled, again and again if it fails."""
    while True:
        try:
            await loop()
        except Exception as error:  # the outermost loop of each part
            metrics.loop_failures.labels(name).inc()
            log.error("loop_failed", loop=name, exc_info=error)
        await asyncio.sleep(RESTART_SECONDS)


async def _own_certificate(service: Service) -> Callable[[], None]:
    """Hold a certificate for our own listeners; it is renewed like any other."""
    arrived = asyncio.Event()
    names = tuple(service.settings.server_names)

    def take() -> None:
        credential = holding.credential
        if credential is not None:
            chain = b"".join(credential.svid.chain_pem)
            service.identity.replace(credential.private_key_pem, chain)
            arrived.set()

    holding, release = service.leaves.hold(own_caller(service), take, dns_names=names)
    take()
    try:
        async with asyncio.timeout(FIRST_CERTIFICATE_SECONDS):
            await arrived.wait()
    except TimeoutError as error:
        raise Unavailable(
            f"no certificate for our own listeners: {holding.last_error or 'nothing happened'}"
        ) from error
    return release


@contextlib.asynccontextmanager
async def _grpc(
    service: Service, address: str, key: str, *, mutual_tls: bool = False
) -> AsyncIterator[None]:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers(service.doors, mutual_tls=mutual_tls))
    credentials = service.identity.credentials(require_client_certificate=mutual_tls)
    try:
        server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise CannotListen(
            f"listen.{key}: {address}: cannot listen there; is the port in use, or not ours?"
        ) from error
    await server.start()
    log.info("listening", door=key, address=address)
    try:
        yield
    finally:
        service.ledger.end_all()
        service.decisions.access_logs.end_all()
        await server.stop(DRAIN_SECONDS)


@contextlib.asynccontextmanager
async def _bundle_endpoint(
    service: Service, settings: BundleEndpoint, loops: asyncio.TaskGroup
) -> AsyncIterator[None]:
    """Serve our bundle over TLS, with the operator's certificate or with our own SVID."""
    tls = ServerTls()
    watching: asyncio.Task[None] | None = None
    if settings.certificate is not None and settings.key is not None:
        files = CertificateFiles(settings.certificate, settings.key, tls)
        files.load()
        watching = loops.create_task(_kept_running(service.metrics, "certificate", files.run))
    else:
        service.identity.follow(tls.replace)
    app = create_bundle_app(service.journal.current)
    key = "bundle_endpoint.listen"
    async with serve_tcp(app, settings.listen, key=key, tls=tls.context) as address:
        log.info("listening", door="bundle", address=address, profile=settings.profile)
        yield
    if watching is not None:
        watching.cancel()


async def _sweep(service: Service) -> None:
    """End the streams whose proof has expired."""
    while True:
        service.ledger.end_expired(service.clock.now())
        await asyncio.sleep(SWEEP_SECONDS)


async def _flush(service: Service) -> None:
    """Write down how much was counted instead of recorded."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await service.refusals.flush()
        await service.gaps.flush()
