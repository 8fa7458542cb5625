"""Multiply-adds: those of the published plain DGCNN, and the bound that the default keeps."""

from dataclasses import replace

from triform.tasks.mesh_identity.config import EdgeLayer, MeshIdentity
from triform.tasks.mesh_identity.cost import macs

PLAIN = MeshIdentity(layers=tuple(EdgeLayer(width=width) for width in (64, 64, 128, 256)), point_width=1024, hidden_widths=(512, 256))


def test_plain_dgcnn_by_hand() -> None:
    """1723 vertices, search in 6, 64, 64 and 128 channels: 0.78, 0.16 and 0.90 GMAC, 1.84 in all."""
    found = macs(PLAIN, 1723, 40)
    assert found["knn"] == 1723**2 * (6 + 64 + 64 + 128)
    assert found["edge_conv"] == 1723 * 2 * (6 * 64 + 64 * 64 + 64 * 128 + 128 * 256)
    assert found["point"] == 1723 * 512 * 1024
    assert found["head"] == 2048 * 512 + 512 * 256 + 256 * 256 + 256 * 40
    assert [round(found[part] / 1e9, 2) for part in ("knn", "edge_conv", "point")] == [0.78, 0.16, 0.90]


def test_the_default_keeps_the_bound_by_hand() -> None:
    found = macs(MeshIdentity(), 1723, 60)
    assert found["knn"] == 3 * 1723**2 + 3 * 1723 * 512 + 512**2 * (64 + 128)
    assert found["edge_conv"] == 1723 * 2 * (6 * 64 + 64 * 64) + 512 * 2 * (64 * 128 + 128 * 256)
    assert found["point"] == 512 * 512 * 512
    assert sum(found.values()) <= 0.9e9


def test_a_mesh_graph_needs_no_search_and_a_spatial_one_is_shared() -> None:
    mesh = replace(PLAIN, layers=(EdgeLayer(width=4, graph="mesh"), EdgeLayer(width=4, graph="mesh")))
    spatial = replace(PLAIN, layers=(EdgeLayer(width=4, graph="spatial"), EdgeLayer(width=4, graph="spatial")))
    assert macs(mesh, 100, 3)["knn"] == 0
    assert macs(spatial, 100, 3)["knn"] == 3 * 100**2
