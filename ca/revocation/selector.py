"""Which certificates, or which callers: by what was recorded of them. All fields must agree.

The same words select what is revoked, what is banned, and what `meshca svid list` shows. An empty
selector selects nothing: it is refused, never "everything".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from identity.caller import Caller, Evidence
from meshca.errors import MeshcaError, RequestRefused
from meshca.spiffe_id import SpiffeId

MAXIMUM_TEXT: Final = 2_048
_HEX: Final = re.compile(r"[0-9a-f]{1,64}")
OF_ONE_CERTIFICATE: Final = ("serial", "fingerprint", "authority_id")
"""Fields that speak of certificates only: nobody is banned by them."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Empty text means "any". `fingerprint` is the SHA-256 of the DER certificate, in hex."""

    serial: str = ""
    fingerprint: str = ""
    spiffe_id: str = ""
    cluster: str = ""
    namespace: str = ""
    service_account: str = ""
    pod_uid: str = ""
    node: str = ""
    token_id: str = ""
    authority_id: str = ""

    def given(self) -> dict[str, str]:
        """Return the fields that say something."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name))}

    def of_callers(self) -> "Selector":
        """Return what of it speaks of callers.

        Raises RequestRefused when nothing does, or when something else was said besides: a ban
        would then hit more than was meant.
        """
        said = self.given()
        only = [name for name in OF_ONE_CERTIFICATE if name in said]
        if only or not said:
            raise RequestRefused(
                "ban",
                "a ban needs who is banned: spiffe_id, namespace, service_account, pod_uid, node, "
                f"cluster or token_id{'' if not only else f', and not {only[0]}'}",
            )
        return self

    def admits(self, caller: Caller) -> bool:
        """Return whether `caller` is one of those it selects."""
        return self.selects(str(caller.spiffe_id), caller.evidence)

    def selects(self, spiffe_id: str, evidence: Evidence) -> bool:
        """Return whether it selects whoever has that identity on that evidence."""
        said = self.given()
        if not said or any(name in said for name in OF_ONE_CERTIFICATE):
            return False
        return all(
            (spiffe_id if name == "spiffe_id" else getattr(evidence, name)) == value
            for name, value in said.items()
        )


def parse_selector(values: Mapping[str, str]) -> Selector:
    """Return the selector that `values` say; serials and fingerprints with or without colons.

    Raises RequestRefused for an unknown field, text that no field can have, an empty one, and when
    nothing is said.
    """
    known = {f.name for f in fields(Selector)}
    said = {name: value.strip() for name, value in values.items()}
    for name, value in said.items():
        if not value:  # a variable that was not set must not select more than was meant
            raise RequestRefused("selector", f"{name[:64]} is empty: say which, or leave it out")
        if name not in known:
            raise RequestRefused("selector", f"unknown field {name[:64]!r}")
        if len(value) > MAXIMUM_TEXT:
            raise RequestRefused("selector", f"{name} is longer than {MAXIMUM_TEXT} characters")
        if not value.isprintable():
            raise RequestRefused("selector", f"{name} has characters that cannot be printed")
    if not said:
        raise RequestRefused("selector", "say which: nothing was selected, and that is not all")
    for name in OF_ONE_CERTIFICATE:
        if name in said:
            said[name] = _hex(name, said[name])
    if "spiffe_id" in said:
        _check_spiffe_id(said["spiffe_id"])
    return Selector(**said)


def _hex(name: str, text: str) -> str:
    value = text.replace(":", "").lower()
    value = (value.lstrip("0") or "0") if name == "serial" else value
    expected = {"serial": None, "fingerprint": 64, "authority_id": 40}[name]
    if not _HEX.fullmatch(value) or (expected is not None and len(value) != expected):
        digits = "hex digits" if expected is None else f"{expected} hex digits"
        raise RequestRefused("selector", f"{name} {text[:80]!r} is not {digits}")
    return value


def _check_spiffe_id(text: str) -> None:
    try:
        SpiffeId.parse(text)
    except (MeshcaError, ValueError) as error:
        raise RequestRefused("selector", f"spiffe_id {text[:80]!r}: {error}") from error
