"""The Dockerfile as instructions: enough of its grammar for the one we have."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.real_parts import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of one stage (from 0; -1 before the first FROM)."""

    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Return the arguments; those of the exec form without their brackets."""
        return list(json.loads(self.text)) if self.is_exec_form else self.text.split()

    @property
    def is_exec_form(self) -> bool:
        """Whether the arguments are a JSON list, which no shell reads."""
        return self.text.startswith("[")


def instructions(path: Path = DOCKERFILE) -> list[Instruction]:
    """Return the instructions of the Dockerfile at `path` in order."""
    lines = (line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    result: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, text = line.partition(" ")
        stage += name == "FROM"
        result.append(Instruction(stage, name, text.strip()))
    return result


def named(name: str, stage: int | None = None) -> list[Instruction]:
    """Return the instructions called `name`, of one stage or of all."""
    return [i for i in instructions() if i.name == name and stage in (None, i.stage)]
