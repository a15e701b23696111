"""The `self_signed` upstream: a development root whose key lies in plain text beside the server.

It is the `disk` upstream with a root that `meshca init` made, and it warns each time it is built:
whoever reads the directory is the trust domain.
"""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ca_certificate import make_bridge, make_root
from ca.keys import PrivateKey, generate_key, load_private_key, write_private_key
from ca.upstream.bridges import CAS_BELOW_ISSUER
from ca.upstream.chain import certificate_of, read_certificates
from ca.upstream.disk import DiskRoot
from ca.upstream.root_list import RootList, list_file_of
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

    root.pem holds both, bridge.pem the new one cross-signed by the old; root.key is the new one's,
    and the old key is gone once it has signed a last revocation list. A server takes it up by
    itself: nothing is signed under it before every proxy has it. Raises FileNotFoundError when
    there is no root yet, and AuthorityUnavailable when its key cannot be loaded.
    """
    pki = directory / DIRECTORY
    before = (pki / "root.pem").read_bytes()
    old_key = load_private_key(pki / "root.key")
    old = certificate_of(old_key, read_certificates(pki / "root.pem"))
    if old is not None:
        _sign_last_list(pki / "root.pem", old, old_key, now)
    key = generate_key()
    root = make_root(key, trust_domain=trust_domain, now=now, lifetime=ROOT_LIFETIME)
    if old is not None and _has_room(old):
        bridge = make_bridge(
            root, issuer=old, issuer_key=old_key, trust_domain=trust_domain, now=now
        )
        _replace(pki / "bridge.pem", bridge.public_bytes(Encoding.PEM))
    write_private_key(pki / "root.key.new", key)
    _replace(pki / "root.pem", root.public_bytes(Encoding.PEM) + before)  # before the key changes
    (pki / "root.key.new").replace(pki / "root.key")
    return root


def _sign_last_list(path: Path, root: x509.Certificate, key: PrivateKey, now: datetime) -> None:
    """Have a list of `root` that holds until its end: its key goes now."""
    roots = read_certificates(path)
    RootList(path=list_file_of(path)).sign(roots, root, key, now=now, valid=ROOT_LIFETIME)


def _has_room(root: x509.Certificate) -> bool:
    """Return whether another root and an intermediate may stand below `root`."""
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    return constraints.path_length is None or constraints.path_length >= CAS_BELOW_ISSUER


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


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
        bridge=pki / "bridge.pem",
    )
