"""Whether the lists of the CAs above are complete."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ca.ca_certificate import authority_key_identifier, make_bridge
from ca.revocation.upper import MARGIN, cas_above, find_upper
from ca.upstream.issuer_crl import IssuerCrl, read_issuer_crl
from tests.builders import NOW, TRUST_DOMAIN, Pki, make_pki

OLD, NEW = make_pki(number=71), make_pki(number=72)
CHAIN = (OLD.intermediate,)
DAY = timedelta(days=1)


def listed(
    pki: Pki = OLD,
    *,
    begin: timedelta = -timedelta(minutes=10),
    end: timedelta = 30 * DAY,
    number: int = 1,
    key_id: Pki | None = None,
) -> IssuerCrl:
    """Return a list of the root of `pki`, by default current."""
    builder = (
        x509.CertificateRevocationListBuilder(pki.root.subject)
        .last_update(NOW + begin)
        .next_update(NOW + end)
        .add_extension(authority_key_identifier((key_id or pki).root), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    assert isinstance(pki.root_key, ec.EllipticCurvePrivateKey)
    return read_issuer_crl(builder.sign(pki.root_key, hashes.SHA256()), pki.root)


def test_with_a_list_of_every_ca_above_all_are_there() -> None:
    lists = [listed(), listed(NEW)]

    upper = find_upper([CHAIN, (NEW.intermediate,)], [OLD.root, NEW.root], lists, NOW)

    assert upper.missing == ()
    assert upper.pem is not None
    assert upper.pem.count(b"BEGIN X509 CRL") == 2


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ([], "is not there"),
        ([listed(NEW)], "is not there"),
        ([listed(end=-DAY, begin=-3 * DAY)], "ends at"),
        ([listed(end=MARGIN)], "ends at"),
        ([listed(begin=DAY)], "begins at"),
        ([listed(key_id=NEW)], "names another key"),
    ],
)
def test_with_one_missing_there_is_none(lists: list[IssuerCrl], reason: str) -> None:
    upper = find_upper([CHAIN], [OLD.root], lists, NOW)

    assert upper.pem is None
    assert len(upper.missing) == 1
    assert reason in upper.missing[0]


def test_one_list_of_two_is_none() -> None:
    chains = [CHAIN, (NEW.intermediate,)]

    upper = find_upper(chains, [OLD.root, NEW.root], [listed()], NOW)

    assert len(upper.lists) == len(upper.missing) == 1
    assert upper.pem is None


def test_a_ca_that_may_not_sign_lists_has_none() -> None:
    """OpenSSL and BoringSSL refuse everybody under such a list (RFC 5280 6.3.3 f)."""
    key = OLD.root_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder(OLD.root.subject, OLD.root.subject, key.public_key())
    builder = builder.serial_number(5).not_valid_before(NOW).not_valid_after(NOW + 9 * DAY)
    for extension in OLD.root.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage):
            usages = [number == 5 for number in range(9)]  # keyCertSign alone
            value = x509.KeyUsage(*usages)
        builder = builder.add_extension(value, extension.critical)
    crippled = builder.sign(key, hashes.SHA256())
    crl = read_issuer_crl(listed().parsed, crippled)

    (why,) = find_upper([CHAIN], [crippled], [crl], NOW).missing

    assert "may not sign revocation lists" in why


def test_a_list_that_holds_for_more_than_the_margin_will_do() -> None:
    lists = [listed(end=MARGIN + timedelta(seconds=1))]

    assert find_upper([CHAIN], [OLD.root], lists, NOW).pem


def test_without_any_authority_there_is_nothing() -> None:
    assert find_upper([], [OLD.root], [listed()], NOW).pem is None


def test_the_newest_of_several_that_have_begun_is_taken() -> None:
    newer, future = listed(begin=timedelta(0), number=2), listed(begin=DAY, number=3)

    assert find_upper([CHAIN], [OLD.root], [newer, listed(), future], NOW).lists == (newer,)


def test_a_root_that_nothing_chains_to_needs_none_and_brings_its_own_if_it_has_one() -> None:
    roots = [OLD.root, NEW.root]

    alone = find_upper([CHAIN], roots, [listed()], NOW)
    both = find_upper([CHAIN], roots, [listed(), listed(NEW)], NOW)

    assert alone.missing == both.missing == ()
    assert (len(alone.spare), len(both.spare)) == (0, 1)
    assert both.pem is not None
    assert both.pem.count(b"BEGIN X509 CRL") == 2


def test_a_bridge_is_the_ca_of_its_root() -> None:
    bridge = make_bridge(
        NEW.root, issuer=OLD.root, issuer_key=OLD.root_key, trust_domain=TRUST_DOMAIN, now=NOW
    )

    assert len(cas_above([(NEW.intermediate, bridge)], [NEW.root])) == 1


def test_a_list_ends_soon_when_an_eighth_of_it_is_left() -> None:
    crl = listed(begin=timedelta(0), end=8 * DAY)
    upper = find_upper([CHAIN], [OLD.root], [crl], NOW)

    assert upper.ending(NOW + 7 * DAY - timedelta(seconds=1)) == ()
    assert upper.ending(NOW + 7 * DAY) == (crl,)
