"""Preparing and signing: what a leaf's dates are, and that only what was linted is signed."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from ca import issuer
from ca.authority import Authority, Signer
from ca.issuer import Svid
from ca.keys import PrivateKeySigner
from ca.profile import Profile
from identity.caller import Caller
from meshca.errors import (
    AuthorityUnavailable,
    IssuanceFault,
    MeshcaError,
    RequestRefused,
    Unavailable,
)
from meshca.spiffe_id import SpiffeId
from tests.builders import (
    KEY_KINDS,
    NOW,
    make_authority,
    make_caller,
    make_key,
    make_pki,
    make_profile,
    make_request,
)

HOUR = timedelta(hours=1)


def prepared(
    *,
    authority: Authority | None = None,
    profile: Profile | None = None,
    caller: Caller | None = None,
    now: datetime = NOW,
    lifetime: timedelta | None = None,
    kind: str = "p256",
    dns_names: tuple[str, ...] = (),
) -> issuer.Prepared:
    """Return a prepared certificate; override the one thing that matters."""
    return issuer.prepare(
        caller or make_caller(),
        make_request(kind, lifetime),
        authority=authority or make_authority(),
        profile=profile or make_profile(),
        now=now,
        dns_names=dns_names,
    )


def issued(what: issuer.Prepared) -> Svid:
    signed = issuer.sign(what)
    return issuer.finish(what, issuer.compare(what, signed), signed)


def test_lives_as_long_as_the_profile_says_from_a_minute_ago() -> None:
    svid = issued(prepared(now=NOW + timedelta(microseconds=999_999)))
    assert svid.not_before == NOW - timedelta(seconds=60)
    assert svid.not_after == NOW + HOUR
    leaf = svid.chain[0]
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (
        svid.not_before,
        svid.not_after,
    )


def test_lives_as_long_as_was_asked() -> None:
    assert issued(prepared(lifetime=timedelta(minutes=5))).not_after == NOW + timedelta(minutes=5)


@pytest.mark.parametrize("lifetime", [timedelta(hours=24, seconds=1), timedelta(seconds=-1)])
def test_refuses_a_lifetime_that_nobody_gets(lifetime: timedelta) -> None:
    with pytest.raises(RequestRefused, match="was asked; at most 1 day") as caught:
        prepared(lifetime=lifetime)
    assert caught.value.reason == "lifetime"


@pytest.mark.parametrize(
    ("intermediate", "root"),
    [(timedelta(minutes=30), timedelta(days=1)), (timedelta(days=7), timedelta(minutes=30))],
    ids=["intermediate", "root"],
)
def test_refuses_to_outlive_its_chain(intermediate: timedelta, root: timedelta) -> None:
    authority = make_authority(lifetime=intermediate, root_lifetime=root)
    svid = issued(prepared(authority=authority))
    assert svid.not_after == NOW + timedelta(minutes=30)
    for above in (*svid.chain[1:], authority.root):
        assert svid.not_after <= above.not_valid_after_utc


def test_refuses_to_begin_before_its_chain() -> None:
    svid = issued(prepared(profile=make_profile(backdate=HOUR)))
    assert svid.not_before == NOW - timedelta(seconds=60)


def test_an_hour_before_the_intermediates_end_leaves_are_cut_short() -> None:
    late = NOW + timedelta(days=7) - timedelta(minutes=10)
    assert issued(prepared(now=late)).not_after == NOW + timedelta(days=7)


def test_in_the_last_second_of_the_chain_nothing_is_prepared() -> None:
    with pytest.raises(AuthorityUnavailable, match="has expired"):
        prepared(now=NOW + timedelta(days=7))


def test_serials_are_128_random_bits() -> None:
    authority = make_authority()
    serials = {int(prepared(authority=authority).intent.serial, 16) for _ in range(200)}
    assert len(serials) == 200
    assert all(serial.bit_length() > 100 for serial in serials)
    for bit in range(128):
        assert 40 < sum(serial >> bit & 1 for serial in serials) < 160


def test_dns_names_are_what_the_caller_of_issuance_allows() -> None:
    svid = issued(prepared(dns_names=("localhost", "meshca.meshca.svc")))
    san = svid.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["localhost", "meshca.meshca.svc"]
    assert len(san.get_values_for_type(x509.UniformResourceIdentifier)) == 1


def test_urls_name_the_authority() -> None:
    authority = make_authority()
    svid = issued(prepared(profile=make_profile(public_url="http://ca:8081"), authority=authority))
    points = svid.chain[0].extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = points[0].full_name or []
    assert name.value == f"http://ca:8081/crl/{authority.authority_id}.crl"
    access = svid.chain[0].extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    responder, issuer = access.value
    assert responder.access_method == AuthorityInformationAccessOID.OCSP
    assert responder.access_location.value == "http://ca:8081/ocsp"
    assert issuer.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    assert issuer.access_location.value == f"http://ca:8081/ca/{authority.authority_id}.der"


@pytest.mark.parametrize("name", ["spiffe://example.com/ns/shop/sa/orders", "spiffe://example.org"])
def test_an_identity_that_is_not_ours_to_give_is_our_own_fault(name: str) -> None:
    with pytest.raises(IssuanceFault, match="identity_is_a_leaf_of_the_trust_domain"):
        prepared(caller=make_caller(SpiffeId.parse(name)))


def test_lint_runs_before_the_key_is_touched() -> None:
    class Untouchable:
        signature_algorithm = PrivateKeySigner(make_key()).signature_algorithm

        def sign(self, message: bytes) -> bytes:
            raise AssertionError("the key was touched")

    with pytest.raises(IssuanceFault, match="lint refused"):
        prepared(
            authority=make_authority(signer=Untouchable()),
            caller=make_caller(SpiffeId.parse("spiffe://example.org")),
        )


def test_the_intent_says_what_the_certificate_says() -> None:
    what = prepared()
    svid = issued(what)
    assert int(what.intent.serial, 16) == svid.chain[0].serial_number
    assert what.intent.serial == svid.serial == f"{svid.chain[0].serial_number:x}"
    assert what.intent.evidence == make_caller().evidence
    assert what.intent.authority_id == svid.authority_id == make_authority().authority_id


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_the_chain_is_leaf_first_without_the_root(kind: str) -> None:
    authority = make_authority(kind)
    svid = issued(prepared(authority=authority, kind=kind))
    assert svid.chain[1:] == authority.chain
    svid.chain[0].verify_directly_issued_by(authority.certificate)
    assert tuple(x509.load_pem_x509_certificates(b"".join(svid.chain_pem))) == svid.chain
    assert svid.der == svid.chain[0].public_bytes(Encoding.DER)


def test_compare_refuses_what_was_not_linted() -> None:
    authority = make_authority()
    one, other = prepared(authority=authority), prepared(authority=authority)
    with pytest.raises(IssuanceFault, match="not those linted"):
        issuer.compare(one, issuer.sign(other))


def test_compare_refuses_what_does_not_parse() -> None:
    with pytest.raises(IssuanceFault, match="does not parse"):
        issuer.compare(prepared(), b"\x30\x00")


@dataclass(frozen=True)
class Remote:
    """A signer outside of this process: it does what it is told to do with real signatures."""

    inner: Signer
    flip: bool = False
    error: Exception | None = None

    @property
    def signature_algorithm(self) -> bytes:
        """Return the algorithm of the real one."""
        return self.inner.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Return the real signature, a spoilt one, or fail."""
        if self.error is not None:
            raise self.error
        signature = self.inner.sign(message)
        return signature[:-1] + bytes((signature[-1] ^ 1,)) if self.flip else signature


def with_signer(signer: Signer) -> issuer.Prepared:
    return prepared(authority=make_authority(signer=signer))


OURS = PrivateKeySigner(make_pki().intermediate_key)


def test_a_remote_signature_that_verifies_is_accepted() -> None:
    assert issued(with_signer(Remote(OURS))).serial


def test_a_spoilt_signature_of_a_remote_signer_does_not_leave() -> None:
    what = with_signer(Remote(OURS, flip=True))
    with pytest.raises(IssuanceFault, match="the signature does not verify"):
        issuer.compare(what, issuer.sign(what))


def test_a_remote_signer_whose_key_has_changed_is_noticed() -> None:
    what = with_signer(Remote(PrivateKeySigner(make_key("p256", 55))))
    with pytest.raises(IssuanceFault, match="the signature does not verify"):
        issuer.compare(what, issuer.sign(what))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (Unavailable("sealed"), Unavailable),
        (OSError("connection reset"), IssuanceFault),
        (ValueError("nonsense"), IssuanceFault),
    ],
)
def test_a_signer_that_fails_is_an_error_of_ours(
    error: Exception, raised: type[MeshcaError]
) -> None:
    with pytest.raises(raised) as caught:
        issuer.sign(with_signer(Remote(OURS, error=error)))
    assert str(error) in str(caught.value)


def test_what_is_prepared_shows_no_certificate_in_its_repr() -> None:
    what = prepared()
    assert "tbs" not in repr(what)
    assert "der=" not in repr(issued(what))
    assert replace(what) == what


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime": timedelta(0)},
        {"lifetime": timedelta(hours=25)},
        {"maximum_lifetime": timedelta(minutes=59)},
        {"backdate": timedelta(seconds=-1)},
    ],
)
def test_a_profile_that_cannot_be_kept_is_not_built(changes: dict[str, timedelta]) -> None:
    with pytest.raises(ValueError, match=r"lifetime must be positive|backdate is negative"):
        make_profile(**changes)
