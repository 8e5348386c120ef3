"""Several networks in one test, in Pods: real nodes of at least three programs."""

from __future__ import annotations

from clusters import Swarms

MATRIX = """
shapes = [[2, 1]]
sizes = ["4MB"]
rounds = 2
[systems.http]
[systems.bittorrent]
[systems.ipfs]
image = "{kubo}"
[systems.gowaku]
image = "{gowaku}"
"""


def test_networks_meet_in_pods(swarms: Swarms) -> None:
    """The suite's own tests, over real nodes of go-waku, Kubo, libtorrent and HTTP origins, a release each."""
    images = swarms.kube.images
    matrix = MATRIX.format(kubo=images["kubo"], gowaku=images["gowaku"])
    run = swarms.run(matrix, "-k", "not nwaku", tests=["test_heterogeneous.py"])

    run.assert_outcomes(passed=1 + 3 + 3, deselected=run.parseoutcomes().get("deselected", 0))
    found = {meeting.test: meeting for meeting in swarms.story().meetings}
    mesh = found["test_one_mesh[gowaku]"]
    assert 1.0 == mesh.measures["delivery_ratio"]
    assert "pods" == mesh.environment.isolation
    for system in ("http", "bittorrent", "ipfs"):
        assert found[f"test_a_message_carries_a_handle[{system}-gowaku]"].measures["message_to_file_s"] > 0
    assert found["test_side_by_side[bittorrent+ipfs]"].measures["ipfs.together_t100_s"] > 0
    assert [] == swarms.kube.left()
