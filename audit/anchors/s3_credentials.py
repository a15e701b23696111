"""Where credentials of an object store are from: a shared credentials file, or the environment.

The file is what AWS tools call so: INI, with `aws_access_key_id`, `aws_secret_access_key` and maybe
`aws_session_token` in a section. Without a file it is AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN. It is read anew for each request: whoever rotates the file needs no restart.
"""

import configparser
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from audit.anchors.sigv4 import Credentials
from meshca.errors import Unavailable

_MAXIMUM_BYTES: Final = 64 * 1024
_NAMES: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """The file and its section; without a file, `environment`."""

    file: Path | None = None
    section: str = "default"
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def read(self) -> Credentials:
        """Return the credentials as they are now; raises Unavailable, naming what is missing."""
        values = self._file_values(self.file) if self.file else self._environment_values()
        found = [values.get(name, "") for name in _NAMES]
        missing = [name for name, value in zip(_NAMES[:2], found, strict=False) if not value]
        if missing:
            place = f"[{self.section}] of {self.file}" if self.file else "the environment"
            raise Unavailable(f"{' and '.join(missing)} missing in {place}")
        return Credentials(*found)

    def _environment_values(self) -> dict[str, str]:
        return {name: self.environment.get(name.upper(), "") for name in _NAMES}

    def _file_values(self, path: Path) -> dict[str, str]:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(_read(path))
        except configparser.Error as error:  # its message would quote the file
            raise Unavailable(f"{path} is no credentials file: {type(error).__name__}") from None
        return dict(parser[self.section]) if self.section in parser else {}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o007:
                raise Unavailable(f"{path} is no plain file, or everybody can read it")
            return file.read(_MAXIMUM_BYTES).decode()
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Unavailable(f"{path} is no text") from None
