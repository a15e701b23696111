"""The configuration of revocation."""

from typing import Annotated

from pydantic import Field

from meshca.strict import Strict


class RevocationConfig(Strict):
    """To revoke more than `confirm_above` certificates at once, say how many are meant."""

    confirm_above: Annotated[int, Field(ge=0, le=1_000_000)] = 10
