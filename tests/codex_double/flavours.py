"""What differs between the builds that the double behaves as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings"


@dataclass(frozen=True)
class Flavour:
    """One build: its name, what it calls itself, and which calls it knows."""

    name: str
    word: str
    version: str
    revision: str
    contracts: str = ""
    exists: bool = True

    @property
    def base(self) -> str:
        return f"/api/{self.word}/v1"

    @property
    def second(self) -> bool:
        """Whether it is of the second generation."""
        return self.word == "storage"

    @property
    def help(self) -> str:
        return (RECORDINGS / f"{self.name}-help.txt").read_text()

    @property
    def told(self) -> str:
        """The answer to ``--version``."""
        word = self.word.capitalize()
        return f"{word} version:  {self.version}\n{word} revision: {self.revision}\n"


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        # The recorded June build says "git shim: refused tag" for its version, for want of git when it was compiled.
        Flavour("2025-06", "codex", "v0.2.5", "36f64ad3", "886e8c5b", exists=False),
        Flavour("2025-12", "codex", "v0.2.5", "bd49591f", "a179deb2"),
        Flavour("storage", "storage", "v0.1.7", "0c647d8"),
    )
}
