"""The revocation list of a root whose key is here: signed by us, kept in a file beside the root.

The file is the record: its list has everything that was ever revoked under the root. Every new list
is made from the one before, linted against it, and takes its place whole; one that cannot be read
or does not verify stops that rather than be forgotten. Where the directory cannot be written, a
list is signed and kept in memory; nothing can be revoked there.

A list is valid for so long, and signed again so early, that no intermediate outlives the list that
was in force when it was signed. So a root whose key has gone needs no other one. Each replica signs
its own: whatever one of them revoked is on the list of that one (docs/revocation.md).
"""

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from ca.ca_certificate import signing_hash
from ca.ceremony import crl_lint
from ca.ceremony.crl_builder import list_builder
from ca.crl import BACKDATE, VALID
from ca.keys import PrivateKey, check_public_key
from ca.pem import crl_pem
from ca.upstream.chain import spki
from ca.upstream.issuer_crl import IssuerCrl, read_issuer_crl, same_ca
from ca.upstream.list_files import own_lists, parse_lists
from meshca.errors import AuthorityUnavailable, IssuanceFault
from meshca.logs import get_logger

_MODE: Final = 0o644

log = get_logger("ca")


def list_file_of(root: Path) -> Path:
    """Return the file of the lists of the roots in `root`: `root.crl.pem` for `root.pem`."""
    return root.with_suffix(".crl.pem")


def validity_for(lifetime: timedelta) -> timedelta:
    """Return how long a list is valid under which intermediates of `lifetime` are signed.

    With a third of it gone another is signed: two thirds must be longer than an intermediate lives.
    """
    return max(VALID, lifetime * 3 / 2 + timedelta(days=1))


@dataclass(slots=True, kw_only=True)
class RootList:
    """The lists in `path`, of roots of which we hold the key of one; for several threads."""

    path: Path
    _kept: dict[bytes, IssuerCrl] = field(default_factory=dict)
    _given_up: set[bytes] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def seen(self) -> tuple[IssuerCrl, ...]:
        """Return the lists as last read or signed."""
        return tuple(self._kept.values())

    def look(self, roots: Sequence[x509.Certificate]) -> tuple[IssuerCrl, ...]:
        """Return the lists in the file; raises AuthorityUnavailable, naming it."""
        with self._lock:
            self._read(roots)
            return self.seen

    def is_due(self, root: x509.Certificate, now: datetime) -> bool:
        """Return whether a list of `root` must be signed: a third of the last one is gone."""
        if _name(root) in self._given_up:
            return False
        last = self._last(root)
        if last is None or now < last.this_update:
            return True
        ends_with_root = last.next_update >= root.not_valid_after_utc
        return now >= last.next_update if ends_with_root else now >= _third(last)

    def give_up(self, roots: Sequence[x509.Certificate]) -> None:
        """Sign no list of `roots`, whose keys are not here, until the next start."""
        self._given_up.update(_name(root) for root in roots)

    def sign(
        self,
        roots: Sequence[x509.Certificate],
        root: x509.Certificate,
        key: PrivateKey,
        *,
        now: datetime,
        valid: timedelta,
    ) -> None:
        """Sign the next list of `root`, one of `roots`, with what is on the last one.

        Raises AuthorityUnavailable.
        """
        with self._lock:
            self._read(roots)
            crl = self._next(root, key, {}, now, now + valid)
            self._kept[_name(root)] = crl
            try:
                self._write()
            except OSError as error:
                log.warning("root_list_not_kept", file=str(self.path), error=error.strerror)

    def revoke(
        self,
        roots: Sequence[x509.Certificate],
        root: x509.Certificate,
        key: PrivateKey,
        serial: int,
        *,
        now: datetime,
        valid: timedelta,
    ) -> None:
        """Put `serial` on the list of `root`, for good; again is nothing.

        Raises AuthorityUnavailable where it cannot be written down: then it is not revoked.
        """
        with self._lock:
            self._read(roots)
            last = self._last(root)
            if last and last.parsed.get_revoked_certificate_by_serial_number(serial) is not None:
                return
            before = dict(self._kept)
            self._kept[_name(root)] = self._next(root, key, {serial: None}, now, now + valid)
            try:
                self._write()
            except OSError as error:
                self._kept = before
                raise AuthorityUnavailable(
                    f"{self.path} cannot be written, so nothing was revoked: {error.strerror}"
                ) from error

    def _read(self, roots: Sequence[x509.Certificate]) -> None:
        """Take what is in the file: the newest list of each root, and of those that are there."""
        if self.path.is_file():
            names = {root.subject.public_bytes() for root in roots}
            parsed = [c for c in parse_lists(self.path) if c.issuer.public_bytes() in names]
            for crl in own_lists(self.path, parsed, roots):
                last = self._kept.get(_name(crl.issuer))
                if last is None or _number(crl) > _number(last):
                    self._kept[_name(crl.issuer)] = crl
        known = [crl for crl in self._kept.values() if any(same_ca(crl.issuer, r) for r in roots)]
        self._kept = {_name(crl.issuer): crl for crl in known}

    def _last(self, root: x509.Certificate) -> IssuerCrl | None:
        return self._kept.get(_name(root))

    def _next(
        self,
        root: x509.Certificate,
        key: PrivateKey,
        more: Mapping[int, x509.ReasonFlags | None],
        now: datetime,
        until: datetime,
    ) -> IssuerCrl:
        now = now.replace(microsecond=0)
        begin = max(now - BACKDATE, root.not_valid_before_utc)
        last = self._last(root)
        previous = last.parsed if last is not None and last.this_update <= begin else None
        known = {} if last is None else crl_lint.revocations(last.parsed)
        expected = crl_lint.Expectation(
            issuer=root,
            number=max(0 if last is None else _number(last) + 1, int(now.timestamp())),
            this_update=begin,
            next_update=min(until.replace(microsecond=0), root.not_valid_after_utc),
            revoked={**{s: crl_lint.Revocation(begin, why) for s, why in more.items()}, **known},
            previous=previous,
        )
        made = list_builder(expected).sign(key, signing_hash(check_public_key(key.public_key())))
        try:
            crl_lint.LINT.check_signed(made, expected)
        except IssuanceFault as error:
            raise AuthorityUnavailable(f"{self.path}: {error}") from error
        log.info("root_list_signed", number=expected.number, entries=len(expected.revoked))
        return read_issuer_crl(made, root)

    def _write(self) -> None:
        """Put the lists in place of the file, whole; raises OSError."""
        content = b"".join(crl_pem(crl.der) for crl in self._kept.values())
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), _MODE)
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _third(crl: IssuerCrl) -> datetime:
    return crl.this_update + (crl.next_update - crl.this_update) / 3


def _number(crl: IssuerCrl) -> int:
    return crl_lint.crl_number(crl.parsed)


def _name(root: x509.Certificate) -> bytes:
    return root.subject.public_bytes() + spki(root)
