"""A CSR contributes a public key and proof of possession; whatever else it asks for is refused."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ca import der
from ca.keys import check_public_key, public_key_der
from ca.request import MAXIMUM_CSR_BYTES, from_csr, generate
from meshca.errors import RequestRefused
from tests.builders import KEY_KINDS, ORDERS, csr_builder, make_csr, make_key
from tests.real_parts import require

DER = make_csr(encoding=Encoding.DER)
PEM = make_csr()
CA = x509.BasicConstraints(ca=True, path_length=None)
FOREIGN = "spiffe://example.org/ns/shop/sa/payments"


def openssl(directory: Path, *arguments: str) -> Path:
    """Run openssl in `directory` and return the file `out` that it writes."""
    program = shutil.which("openssl")
    require(program is not None, "openssl", "apt-get install openssl")
    assert program is not None
    command = [program, *arguments, "-out", "out"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "out"


def reason(csr: bytes) -> str:
    """Return why `csr` is refused."""
    with pytest.raises(RequestRefused) as caught:
        from_csr(csr, ORDERS)
    return caught.value.reason


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_takes_the_key_of_a_csr(kind: str, encoding: Encoding) -> None:
    key = make_key(kind)
    request = from_csr(make_csr(key, encoding=encoding), ORDERS)
    assert request.public_key == public_key_der(check_public_key(key.public_key()))
    assert request.is_ec == kind.startswith("p")
    assert request.lifetime is None


def test_takes_nothing_but_the_key() -> None:
    asked = csr_builder(
        uris=[str(ORDERS)],
        extensions=[
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.OCSPNoCheck(), False),
        ],
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]),
    )
    csr = asked.sign(make_key(), hashes.SHA256()).public_bytes(Encoding.PEM)
    assert from_csr(csr, ORDERS) == from_csr(PEM, ORDERS)


def test_hands_on_the_lifetime_that_the_door_read() -> None:
    assert from_csr(PEM, ORDERS, timedelta(minutes=5)).lifetime == timedelta(minutes=5)


@pytest.mark.parametrize(
    "csr",
    [
        b"\n" + PEM + b"\n \r\n",
        PEM.replace(b"\n", b"\r\n"),
        PEM.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"),
        PEM.rstrip(),
    ],
    ids=["space around", "CRLF", "NEW", "no last newline"],
)
def test_accepts_pem_as_it_is_written_in_practice(csr: bytes) -> None:
    assert from_csr(csr, ORDERS) == from_csr(PEM, ORDERS)


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_accepts_every_sound_signature(digest: hashes.SHA256) -> None:
    for kind in KEY_KINDS:
        csr = csr_builder().sign(make_key(kind), digest).public_bytes(Encoding.PEM)
        assert from_csr(csr, ORDERS).public_key
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    key = make_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    csr = csr_builder().sign(key, digest, rsa_padding=pss).public_bytes(Encoding.PEM)
    assert from_csr(csr, ORDERS).public_key


ASKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "to be a CA": ("csr_ca", lambda: make_csr(extensions=[(CA, True)])),
    "to be a CA, not critical": ("csr_ca", lambda: make_csr(extensions=[(CA, False)])),
    "another identity": ("csr_foreign_uri", lambda: make_csr(uris=[FOREIGN])),
    "its identity in other letters": (
        "csr_foreign_uri",
        lambda: make_csr(uris=["SPIFFE://example.org/ns/shop/sa/orders"]),
    ),
    "its identity with a slash": ("csr_foreign_uri", lambda: make_csr(uris=[f"{ORDERS}/"])),
    "the trust domain itself": (
        "csr_foreign_uri",
        lambda: make_csr(uris=["spiffe://example.org"]),
    ),
    "another scheme": ("csr_foreign_uri", lambda: make_csr(uris=["https://example.org/"])),
    "two identities": ("csr_several_uris", lambda: make_csr(uris=[str(ORDERS), FOREIGN])),
    "its identity twice": ("csr_several_uris", lambda: make_csr(uris=[str(ORDERS), str(ORDERS)])),
}


@pytest.mark.parametrize("name", ASKS)
def test_refuses_a_csr_that_asks_for(name: str) -> None:
    wanted, make = ASKS[name]
    assert reason(make()) == wanted


def signed_by_another_key() -> bytes:
    """Return a CSR whose key is not the one that signed it."""
    tbs, algorithm, signature = der.items(DER)
    parts = der.items(tbs)
    parts[2] = public_key_der(check_public_key(make_key("p256", 7).public_key()))
    return der.encode(0x30, der.encode(0x30, *parts), algorithm, signature)


def with_signature(change: Callable[[bytes], bytes]) -> bytes:
    tbs, algorithm, signature = der.items(DER)
    return der.encode(0x30, tbs, algorithm, der.encode(0x03, change(der.contents(signature))))


SIGNATURES: dict[str, Callable[[], bytes]] = {
    "a bit of it is flipped": lambda: with_signature(lambda s: s[:-1] + bytes((s[-1] ^ 1,))),
    "it is empty": lambda: with_signature(lambda s: s[:1]),
    "it is another key's": signed_by_another_key,
    "a bit of the request is flipped": lambda: DER.replace(b"\x30\x00\x30", b"\x31\x00\x30", 1),
}


@pytest.mark.parametrize("name", list(SIGNATURES)[:3])
def test_refuses_a_signature_when(name: str) -> None:
    assert reason(SIGNATURES[name]()) == "csr_signature"


@pytest.mark.parametrize("digest", ["-sha1", "-sha224"])
def test_refuses_a_signature_over_a_weak_hash(tmp_path: Path, digest: str) -> None:
    command = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout k -subj /CN=x"
    csr = openssl(tmp_path, *command.split(), digest).read_bytes()
    assert reason(csr) == "csr_signature"


WEAK: dict[str, Callable[[], object]] = {
    "RSA 1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505  # the weak key of the test
    "RSA 2047": lambda: rsa.generate_private_key(65537, 2047),  # noqa: S505  # as above
    "RSA exponent 3": lambda: rsa.generate_private_key(3, 2048),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
}


@pytest.mark.parametrize("name", WEAK)
def test_refuses_a_weak_key(name: str) -> None:
    assert reason(make_csr(WEAK[name]())) == "weak_key"


@pytest.mark.parametrize("kind", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey])
def test_refuses_an_edwards_key(kind: type[ed25519.Ed25519PrivateKey]) -> None:
    csr = csr_builder().sign(kind.generate(), None).public_bytes(Encoding.PEM)
    assert reason(csr) == "weak_key"


def spelled_out_curve(directory: Path) -> tuple[bytes, bytes]:
    """Return a DER CSR whose key spells P-256 out, and the key's usual form."""
    command = "ecparam -name prime256v1 -genkey -param_enc explicit -noout"
    openssl(directory, *command.split()).rename(directory / "key")
    command = "req -new -key key -subj /CN=x -outform DER"
    csr = openssl(directory, *command.split()).read_bytes()
    key = load_pem_private_key((directory / "key").read_bytes(), None).public_key()
    return csr, public_key_der(check_public_key(key))


def test_a_curve_that_is_spelled_out_is_certified_by_its_name(tmp_path: Path) -> None:
    csr, usual = spelled_out_curve(tmp_path)
    assert usual not in csr
    assert from_csr(csr, ORDERS).public_key == usual


def test_refuses_a_curve_with_another_generator(tmp_path: Path) -> None:
    csr, _ = spelled_out_curve(tmp_path)
    generator = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
    assert reason(csr.replace(generator, generator[:-1] + b"\x00")) == "weak_key"


def test_a_compressed_point_is_certified_as_the_usual_one(tmp_path: Path) -> None:
    command = "ecparam -name prime256v1 -genkey -conv_form compressed -noout"
    openssl(tmp_path, *command.split()).rename(tmp_path / "key")
    csr = openssl(tmp_path, "req", "-new", "-key", "key", "-subj", "/CN=x").read_bytes()
    key = load_pem_private_key((tmp_path / "key").read_bytes(), None).public_key()
    assert from_csr(csr, ORDERS).public_key == public_key_der(check_public_key(key))


def pem(block: bytes, label: str) -> bytes:
    return PEM.replace(b"CERTIFICATE REQUEST", label.encode()) + block


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "a word": b"hello",
    "zeros": bytes(300),
    "DER cut off": DER[:-1],
    "DER with an octet more": DER + b"\x00",
    "DER inside out": der.items(DER)[0],
    "PEM cut off": PEM[:-40],
    "PEM without an end": PEM.partition(b"-----END")[0],
    "PEM with junk after it": PEM + b"junk",
    "PEM with junk before it": b"Certificate Request:\n" + PEM,
    "PEM with another block after it": PEM + PEM,
    "PEM that is not base64": PEM.replace(b"M", b"!", 1),
    "PEM with padding inside": PEM.replace(b"\n", b"\n====", 1),
    "PEM of something else": PEM.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
    "PEM around nothing": (
        b"-----BEGIN CERTIFICATE REQUEST-----\n\n-----END CERTIFICATE REQUEST-----\n"
    ),
    "another version": DER.replace(b"\x02\x01\x00", b"\x02\x01\x01", 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_what_is_no_csr(name: str) -> None:
    assert reason(MALFORMED[name]) == "csr_malformed"


def test_refuses_extensions_that_do_not_parse() -> None:
    san = x509.SubjectAlternativeName.oid
    for oid, broken in (
        (x509.BasicConstraints.oid, "0500"),
        (x509.BasicConstraints.oid, "30030101000000"),
        (san, "3002a300"),  # an X.400 address
        (san, "30048602ff00"),  # a URI that is not ASCII
    ):
        unknown = x509.UnrecognizedExtension(oid, bytes.fromhex(broken))
        assert reason(make_csr(extensions=[(unknown, True)])) == "csr_malformed"


@pytest.mark.parametrize("size", [MAXIMUM_CSR_BYTES + 1, 1 << 20, 16 << 20])
def test_refuses_a_huge_csr_before_it_is_parsed(size: int) -> None:
    assert reason(b"\x30" * size) == "csr_too_large"


def test_the_message_is_safe_to_show_and_says_what_to_do() -> None:
    with pytest.raises(RequestRefused) as caught:
        from_csr(make_csr(WEAK["P-224"]()), ORDERS)
    assert caught.value.public_message == "curve secp224r1 is not accepted: use P-256"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
@example(b"-----BEGIN")
@example(b"-----BEGIN CERTIFICATE REQUEST-----=-----END CERTIFICATE REQUEST-----")
def test_nothing_but_a_refusal_comes_of_any_octets(octets: bytes) -> None:
    with pytest.raises(RequestRefused):
        from_csr(octets, ORDERS)


_VICTIMS = [DER, make_csr(make_key("rsa2048"), encoding=Encoding.DER, uris=[str(ORDERS)]), PEM]


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(_VICTIMS),
    st.lists(
        st.tuples(
            st.sampled_from(["set", "cut", "insert", "copy"]),
            st.floats(0, 1, exclude_max=True),
            st.binary(min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_nothing_but_a_refusal_comes_of_any_mutation(
    csr: bytes, changes: list[tuple[str, float, bytes]]
) -> None:
    mutated = csr
    for kind, place, octets in changes:
        at = int(place * len(mutated))
        end = at if kind in ("insert", "copy") else at + len(octets)
        new = {"cut": b"", "copy": mutated[at : at + 40]}.get(kind, octets)
        mutated = mutated[:at] + new + mutated[end:]
    try:
        request = from_csr(mutated, ORDERS)
    except RequestRefused:
        return
    assert request == from_csr(csr, ORDERS), "what is accepted is what its key has signed"


def test_a_generated_key_is_not_shown() -> None:
    made = generate()
    assert made.request.is_ec
    assert b"PRIVATE KEY" in made.private_pem
    assert "PRIVATE" not in repr(made)
    key = load_pem_private_key(made.private_pem, None).public_key()
    assert public_key_der(check_public_key(key)) == made.request.public_key
