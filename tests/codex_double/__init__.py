"""A double of Codex: nodes with its recorded REST API that move real bytes, block by block, between processes."""

from codex_double.install import install as install
