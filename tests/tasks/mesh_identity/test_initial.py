"""First weights: names and shapes, bounds, one stream a seed; and the levels that layers work on."""

from dataclasses import replace

import numpy as np
import pytest

from triform.errors import ExperimentError
from triform.tasks.mesh_identity.config import EdgeLayer, MeshIdentity
from triform.tasks.mesh_identity.initial import initial_weights
from triform.tasks.mesh_identity.levels import LayerLevel, levels

SMALL = MeshIdentity(layers=(EdgeLayer(width=4, graph="spatial"), EdgeLayer(width=7)), point_width=5, hidden_widths=(8, 3), embedding_dim=2)


def test_names_and_shapes() -> None:
    shapes = {name: value.shape for name, value in initial_weights(SMALL, 9, 0).items() if "norm" not in name and "neck" not in name}
    assert shapes == {
        "edge.0.linear.weight": (4, 12),
        "edge.1.linear.weight": (7, 8),
        "point.linear.weight": (5, 11),
        "hidden.0.linear.weight": (8, 10),
        "hidden.1.linear.weight": (3, 8),
        "embedding.weight": (2, 3),
        "classifier.weight": (9, 2),
    }


def test_norms_start_as_the_identity() -> None:
    weights = initial_weights(SMALL, 9, 0)
    for norm, channels in (("edge.1.norm", 7), ("point.norm", 5), ("hidden.0.norm", 8), ("neck", 2)):
        for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            assert weights[f"{norm}.{part}"].tolist() == [value] * channels
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}


def test_linear_layers_are_uniform_in_their_bounds() -> None:
    weight = initial_weights(MeshIdentity(), 3, 0)["hidden.0.linear.weight"]
    bound = 1 / np.sqrt(1024)
    assert 0.999 * bound < np.abs(weight).max() <= bound
    assert np.var(weight) == pytest.approx(bound**2 / 3, rel=0.01)


def test_a_seed_is_a_stream() -> None:
    first, again, other = (initial_weights(SMALL, 3, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["edge.0.linear.weight"], other["edge.0.linear.weight"])


def test_coordinates_alone_are_three_features() -> None:
    assert initial_weights(replace(SMALL, features="coordinates"), 3, 0)["edge.0.linear.weight"].shape == (4, 6)


def test_levels_of_the_default() -> None:
    assert levels(MeshIdentity(), 1723) == [
        LayerLevel(0, 1723, False, 20),
        LayerLevel(0, 1723, False, 20),
        LayerLevel(1, 512, True, 20),
        LayerLevel(1, 512, False, 20),
    ]


def test_pooling_to_as_many_as_there_are_begins_no_level_and_k_ends_at_the_vertices() -> None:
    layers = tuple(EdgeLayer(width=2, keep_vertices=keep) for keep in (30, 12, 12, 50, 5))
    found = levels(MeshIdentity(layers=layers, k=20), 30)
    assert [place.level for place in found] == [0, 1, 1, 1, 2]
    assert [place.begins_level for place in found] == [False, True, False, False, True]
    assert [place.num_vertices for place in found] == [30, 12, 12, 12, 5]
    assert [place.k for place in found] == [20, 12, 12, 12, 5]


def test_the_mesh_has_no_edges_on_a_pooled_level() -> None:
    layers = (EdgeLayer(width=2, graph="mesh"), EdgeLayer(width=2, graph="mesh", keep_vertices=8))
    with pytest.raises(ExperimentError, match="Layer 1 wants the mesh's edges, but only 8 of the 30"):
        levels(MeshIdentity(layers=layers), 30)
