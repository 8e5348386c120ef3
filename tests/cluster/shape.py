#!/usr/bin/env python3
"""CNI plugin: Debian's `bandwidth`, with a burst of 50 ms.

A Pod asks for a rate by the annotations kubernetes.io/ingress-bandwidth and egress-bandwidth. containerd, of every
version, passes it on with a burst of 2^32-1 bits: on an ordinary cluster the first 512 MB of each Pod pass unshaped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

PLUGIN = "/usr/lib/cni/bandwidth"
BURST_S = 0.05
# 64 kB: at low rates less would be no more than a few packets, and hold a Pod below its rate
LEAST_BURST_BITS = 2**19


def shaped(config: dict[str, Any]) -> dict[str, Any]:
    """The plugin's configuration, with each burst in proportion to its rate."""
    asked = config.get("runtimeConfig", {}).get("bandwidth")
    if not asked:
        return config
    # containerd spells these keys with a capital letter, the plugin's own documentation without; both mean the same
    limits = {key[0].lower() + key[1:]: value for key, value in asked.items()}
    for way in ("ingress", "egress"):
        if rate := limits.get(f"{way}Rate"):
            limits[f"{way}Burst"] = max(int(rate * BURST_S), LEAST_BURST_BITS)
    return {**config, "runtimeConfig": {**config["runtimeConfig"], "bandwidth": limits}}


if __name__ == "__main__":
    text = json.dumps(shaped(json.load(sys.stdin)))
    # a plugin's standard input, output and exit status are its interface, so these are handed through
    sys.exit(subprocess.run([PLUGIN], input=text, text=True, check=False, env=os.environ).returncode)
