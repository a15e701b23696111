"""The `self_signed` upstream: a development root whose key lies in plain text beside the server.

It is the `disk` upstream with a root that `meshca init` made, and it warns each time it is built:
whoever reads the directory is the trust domain.
"""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ca_certificate import make_root
from ca.keys import generate_key, write_private_key
from ca.upstream.disk import DiskRoot
from meshca.logs import get_logger

ROOT_LIFETIME = timedelta(days=3650)
DIRECTORY = "pki"

log = get_logger("ca")


def create(directory: Path, *, trust_domain: str, now: datetime) -> None:
    """Make a development root in `directory`/pki (root.pem, root.key).

    Raises FileExistsError when there is one.
    """
    pki = directory / DIRECTORY
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = generate_key()
    write_private_key(pki / "root.key", key)
    root = make_root(key, trust_domain=trust_domain, now=now, lifetime=ROOT_LIFETIME)
    with (pki / "root.pem").open("xb") as file:
        file.write(root.public_bytes(Encoding.PEM))


def add_root(directory: Path, *, trust_domain: str, now: datetime) -> x509.Certificate:
    """Make another development root beside the one in `directory`/pki, to sign from now on.

    root.pem holds both; root.key is the new one's, and the old key is gone. A server takes it up
    by itself: nothing is signed under it before every proxy has it. Raises FileNotFoundError when
    there is no root yet.
    """
    pki = directory / DIRECTORY
    before = (pki / "root.pem").read_bytes()
    key = generate_key()
    root = make_root(key, trust_domain=trust_domain, now=now, lifetime=ROOT_LIFETIME)
    write_private_key(pki / "root.key.new", key)
    (pki / "root.pem.new").write_bytes(root.public_bytes(Encoding.PEM) + before)
    (pki / "root.pem.new").replace(pki / "root.pem")  # both are known before the key changes
    (pki / "root.key.new").replace(pki / "root.key")
    return root


def unsafe_self_signed(directory: Path, *, trust_domain: str, lifetime: timedelta) -> DiskRoot:
    """Return the upstream of the development root in `directory`/pki; for development only."""
    pki = directory / DIRECTORY
    log.warning(
        "unsafe_self_signed_root",
        directory=str(pki),
        hint="whoever reads this directory owns the trust domain; use upstream disk or vault",
    )
    return DiskRoot(
        root=pki / "root.pem",
        root_key=pki / "root.key",
        passphrase_file=None,
        trust_domain=trust_domain,
        lifetime=lifetime,
    )
