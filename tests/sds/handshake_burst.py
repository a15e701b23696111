"""A server whose certificate changes while many clients shake hands with it, in its own process.

Run by test_server_identity.py: what goes wrong here ends the process without an exception. Writes
how many handshakes were made and how many different certificates they saw.
"""

import asyncio
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca.keys import generate_key, private_key_pem
from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from sds.grpc_server import OPTIONS
from sds.server_identity import ServerIdentity

CLIENTS = 16
CERTIFICATES = 8


def pair() -> tuple[bytes, bytes]:
    """Return a new key and a certificate for it."""
    key, name, now = generate_key(), x509.Name([]), SystemClock().now()
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    made = builder.sign(key, hashes.SHA256())
    return private_key_pem(key), made.public_bytes(Encoding.PEM)


async def main(handshakes: int) -> None:
    """Serve, shake hands `handshakes` times, and change the certificate meanwhile."""
    identity = ServerIdentity(lambda: b"")
    identity.replace(*pair())
    server = grpc.aio.server(options=OPTIONS)
    port = server.add_secure_port(
        f"127.0.0.1:{free_port()}", identity.credentials(require_client_certificate=False)
    )
    await server.start()
    seen: set[str] = set()
    done = 0

    def shake(_number: int) -> None:
        nonlocal done
        seen.add(ssl.get_server_certificate(("127.0.0.1", port), timeout=30))
        done += 1

    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in range(CERTIFICATES):
            burst = [clients.submit(shake, n) for n in range(handshakes // CERTIFICATES)]
            await asyncio.gather(*map(asyncio.wrap_future, burst[: len(burst) // 2]))
            identity.replace(*pair())
            await asyncio.gather(*map(asyncio.wrap_future, burst))
    await server.stop(None)
    sys.stdout.write(f"{done} {len(seen)}\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
