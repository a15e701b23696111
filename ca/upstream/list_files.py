"""Revocation lists in files: those that a ceremony signed for the CAs above our intermediate.

Each file holds one list or several, in PEM. They are read anew whenever they are asked for, so that
the list of the next ceremony takes effect by being put in place. At start a file that is wrong is
an error; later what was last good in it stays known, and the error is said once. That a list has
ended is no error at either time: certificates go on, and whoever pushes lists says it loudly.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from ca.upstream.chain import describe
from ca.upstream.issuer_crl import IssuerCrl, check_usable, read_issuer_crl
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

log = get_logger("ca")


def read_lists(path: Path, cas: Sequence[x509.Certificate]) -> tuple[IssuerCrl, ...]:
    """Return the lists in `path`, each signed by one of `cas`.

    Raises AuthorityUnavailable, naming the file and what is wrong with it.
    """
    return own_lists(path, parse_lists(path), cas)


def parse_lists(path: Path) -> list[x509.CertificateRevocationList]:
    """Return what is in `path`, whoever signed it; raises AuthorityUnavailable, naming it."""
    try:
        parsed = [x509.load_pem_x509_crl(block) for block in _LIST.findall(path.read_bytes())]
    except OSError as error:
        raise AuthorityUnavailable(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise AuthorityUnavailable(f"{path} holds no PEM revocation lists") from error
    if not parsed:
        raise AuthorityUnavailable(f"{path} holds no PEM revocation lists")
    return parsed


def own_lists(
    path: Path,
    parsed: Sequence[x509.CertificateRevocationList],
    cas: Sequence[x509.Certificate],
) -> tuple[IssuerCrl, ...]:
    """Return `parsed`, from `path`, as the lists of `cas`; raises AuthorityUnavailable."""
    try:
        found = tuple(_read(crl, cas) for crl in parsed)
        for crl in found:
            check_usable(crl)
    except AuthorityUnavailable as error:
        raise AuthorityUnavailable(f"{path}: {error}") from error
    return found


def _read(crl: x509.CertificateRevocationList, cas: Sequence[x509.Certificate]) -> IssuerCrl:
    """Return `crl` as the list of the one of `cas` that signed it; several may have one name."""
    name = crl.issuer.public_bytes()
    named = [ca for ca in cas if ca.subject.public_bytes() == name]
    if not named:
        known = ", ".join(describe(ca) for ca in cas) or "nothing"
        raise AuthorityUnavailable(
            f"a revocation list of {crl.issuer.rfc4514_string()!r}, which is not above our "
            f"intermediate: that is {known}"
        )
    for ca in named[:-1]:
        try:
            return read_issuer_crl(crl, ca)
        except AuthorityUnavailable:
            continue
    return read_issuer_crl(crl, named[-1])


@dataclass(slots=True)
class ListFiles:
    """The lists in `paths`, as last read."""

    paths: tuple[Path, ...] = ()
    _kept: dict[Path, tuple[IssuerCrl, ...]] = field(default_factory=dict)
    _complaints: dict[Path, str] = field(default_factory=dict)

    def check(self, cas: Sequence[x509.Certificate]) -> None:
        """Read every file; raises AuthorityUnavailable for the first that is wrong."""
        for path in self.paths:
            self._kept[path] = read_lists(path, cas)

    def look(self, cas: Sequence[x509.Certificate]) -> tuple[IssuerCrl, ...]:
        """Return the lists in the files now; of one that is wrong, what was last good in it."""
        for path in self.paths:
            try:
                self._kept[path] = read_lists(path, cas)
            except AuthorityUnavailable as error:
                self._complain(path, str(error))
            else:
                self._complaints.pop(path, None)
        return self.seen

    @property
    def seen(self) -> tuple[IssuerCrl, ...]:
        """Return the lists as last read."""
        return tuple(crl for path in self.paths for crl in self._kept.get(path, ()))

    def _complain(self, path: Path, error: str) -> None:
        if self._complaints.get(path) != error:
            self._complaints[path] = error
            log.error("list_file_not_taken", file=str(path), error=error)
