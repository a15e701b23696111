"""Key usages by what they allow."""

from typing import Final

from cryptography import x509

_USES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key_usage(**allowed: bool) -> x509.KeyUsage:
    """Return the key usage that allows what is named, and nothing else."""
    return x509.KeyUsage(**{**dict.fromkeys(_USES, False), **allowed})
