"""A cluster whose network limits bandwidth the way that most do: with a burst that lets a whole file pass."""

from __future__ import annotations

import pytest
from clusters import Swarms


@pytest.mark.up("--usual-burst")
def test_a_limit_with_the_usual_burst_is_refused(swarms: Swarms) -> None:
    """An error in set-up, which says how much passes and what would help; nothing is measured, nothing left."""
    run = swarms.run(
        'shapes = [[2, 1]]\nsizes = ["25MB"]\nrounds = 1\nlinks = ["100mbit"]\n[systems.http]\n', "-k", "n02"
    )

    run.assert_outcomes(errors=1, deselected=1)
    run.stdout.fnmatch_lines(["*links of 100mbit are asked for, but 5?? MB pass them at once before the limit holds*"])
    assert [] == swarms.rounds()
    assert [] == swarms.kube.left()
