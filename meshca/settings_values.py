"""Values that several parts of the configuration are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from meshca.strict import File, Strict

# pydantic matches `pattern` with the Rust regex crate, whose `$` never accepts a trailing newline.
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+)):([0-9]{1,5})")


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{value!r} is not HOST:PORT")
    return value


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", value):
        raise ValueError(f"{value!r} is not an http or https URL without user, query and fragment")
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]
Url = Annotated[str, AfterValidator(_http_url)]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class ApiServer(Strict):
    """How to reach a cluster's API server: a kubeconfig, or the pod's own service account."""

    kubeconfig: File | None = None
    context: str | None = None
