"""What a TLS client that is no Envoy, `openssl s_client`, says of the chain that a proxy shows."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tests.real_parts import require

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


@dataclass(frozen=True)
class Handshake:
    """The chain as it was sent, and whether it was accepted."""

    chain: list[x509.Certificate]
    is_accepted: bool


def handshake(port: int, roots: Path) -> Handshake:
    """Connect to 127.0.0.1:`port` as a client that knows nothing but the certificates in a file."""
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-showcerts"),
            *("-CAfile", str(roots), "-no-CApath", "-no-CAstore"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    shown = _CERTIFICATE.findall(done.stdout.partition(b"\nServer certificate\n")[0])
    assert shown, done.stderr
    is_accepted = b"Verify return code: 0 (ok)" in done.stdout
    return Handshake([x509.load_pem_x509_certificate(pem) for pem in shown], is_accepted)
