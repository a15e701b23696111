"""How a command ends when it cannot do what it was asked."""

from meshca.errors import MeshcaError


class CommandFailed(MeshcaError):
    """The command failed; `hint` says what to do next, `exit_status` is 1 or 2."""

    def __init__(self, message: str, *, hint: str = "", exit_status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_status = exit_status
