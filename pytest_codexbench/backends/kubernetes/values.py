"""What a cluster's shape is in the values of its system's chart."""

from __future__ import annotations

from typing import Any

from pytest_codexbench.backends.kubernetes.release import SHARED
from pytest_codexbench.matrix import Shape, rate_text

# Settings of a variant that are the chart's own values, or mean nothing in a Pod.
NOT_FOR_AGENTS = ("bin", "image", "generation")


def values_of(shape: Shape, largest: int) -> dict[str, Any]:
    """The values for a cluster of that shape whose largest file has ``largest`` bytes."""
    values: dict[str, Any] = {
        "nodes": shape.nodes,
        "data": {"size": f"{largest}B", "files": 1},
        "settings": {key: value for key, value in shape.variant.settings if key not in NOT_FOR_AGENTS},
    }
    if shape.variant.system in SHARED:
        # the suite wires them itself
        values |= {"implementation": shape.variant.system, "join": False}
    if shape.link is not None:
        values["link"] = {"rate": rate_text(shape.link)}
    if generation := shape.variant.setting("generation"):
        values["generation"] = generation
    if image := shape.variant.setting("image"):
        values["image"] = image_values(image)
    return values


def image_values(text: str) -> dict[str, str]:
    """The values of an image that is written as a registry writes it."""
    named, _, digest = text.partition("@")
    repository, colon, tag = named.rpartition(":")
    image = {"repository": repository, "tag": tag} if colon and "/" not in tag else {"repository": named}
    return {**image, "digest": digest} if digest else image
