"""Takes a cluster down, or whatever is left of one, and leaves nothing."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from cluster.members import end, remove_groups
from cluster.places import STATE
from cluster.progress import Failed


def down() -> None:
    """Remove it, in whatever state it is: nothing is asked of the cluster itself.

    Its networks and mounts are in namespaces that end with the processes in them.

    Raises:
        Failed: if something does not go.
    """
    end()
    remove_groups()
    if not STATE.exists():
        return
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if below := [mount for mount in mounts if Path(mount).is_relative_to(STATE)]:
        # there should be none: but to remove what is in them would be to remove it elsewhere
        raise Failed(f"mounted below {STATE}: {', '.join(below)}; umount them first")
    with suppress(FileNotFoundError):
        Path((STATE / "kubeconfig").read_text()).unlink()
    shutil.rmtree(STATE)
