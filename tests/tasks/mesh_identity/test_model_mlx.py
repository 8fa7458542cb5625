"""DT-GCNN in MLX: the algebra of EdgeConv against its equation, neighbours, normalisation, levels, names."""

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from mlx.nn.utils import value_and_grad  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

from triform.errors import ExperimentError  # noqa: E402
from triform.tasks.mesh_identity import model_mlx  # noqa: E402
from triform.tasks.mesh_identity.config import ArcFaceHead, EdgeLayer, MeshIdentity  # noqa: E402
from triform.tasks.mesh_identity.initial import initial_weights  # noqa: E402
from triform.tasks.mesh_identity.model_mlx import BatchNorm, EdgeConv, IdentityNet, leaky_relu, nearest, rows  # noqa: E402

NUM_VERTICES = 30
CONFIG = MeshIdentity(
    k=4,
    layers=(EdgeLayer(width=5, graph="spatial"), EdgeLayer(width=6, keep_vertices=12), EdgeLayer(width=7, graph="spatial")),
    point_width=9,
    hidden_widths=(8, 7),
    embedding_dim=6,
    dropout=0.0,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def array(values, dtype=None):
    return mx.array(values, dtype=dtype or (mx.float64 if values.dtype.kind == "f" else None))


def make_batch(size=3, seed=0):
    generator = np.random.default_rng(seed)
    spatial = np.stack([np.concatenate([[i], generator.permutation(NUM_VERTICES)[:3]]) for i in range(NUM_VERTICES)])
    return {
        "coordinates": array(normal(size, NUM_VERTICES, 3, seed=seed)),
        "normals": array(normal(size, NUM_VERTICES, 3, seed=seed + 1)),
        "spatial_0": array(np.stack([spatial] * size).astype(np.int32)),
        "pool_1": array(np.stack([generator.permutation(NUM_VERTICES)[:12] for _ in range(size)]).astype(np.int32)),
        "spatial_1": array(generator.integers(0, 12, (size, 12, 4)).astype(np.int32)),
    }


def make_net(config=CONFIG, seed=1):
    net = IdentityNet(config, 4, seed)
    net.set_dtype(mx.float64)
    return net


def edge_layer(seed=0):
    """3 channels to 8, some scales negative."""
    layer = EdgeConv((8, 6))
    layer.set_dtype(mx.float64)
    scale = np.array([1.5, -0.7, 0.3, -2.0, 0.4, 1.0, -0.1, 0.8])
    layer.linear.weight, layer.norm.weight, layer.norm.bias = array(normal(8, 6, seed=seed)), array(scale), array(normal(8, seed=seed + 1))
    layer.norm.running_mean, layer.norm.running_var = array(normal(8, seed=seed + 2)), array(np.abs(normal(8, seed=seed + 3)))
    return layer


def by_the_equation(layer, x, neighbors):
    """max_j LeakyReLU(BatchNorm(W [x_j - x_i; x_i])) with every edge feature written out."""
    far = rows(x, neighbors)
    own = mx.broadcast_to(x[:, :, None], far.shape)
    edges = mx.concatenate([far - own, own], axis=-1) @ layer.linear.weight.T
    return mx.max(leaky_relu(layer.norm(edges)), axis=2)


def differentiated(function, layer, x, neighbors, weights):
    """Output, gradients of its weighted sum, and the running statistics afterwards."""
    output, grad = value_and_grad(layer, lambda x: mx.sum(weights * function(layer, x, neighbors)))(x)
    to_x = mx.grad(lambda x: mx.sum(weights * function(layer, x, neighbors)))(x)
    return {"sum": output, "x": to_x, **dict(tree_flatten(grad)), "mean": layer.norm.running_mean, "var": layer.norm.running_var}


@pytest.mark.parametrize("training", [True, False])
def test_edge_conv_is_its_equation_without_the_edges(training):
    x, neighbors = array(normal(2, 20, 3)), array(np.random.default_rng(1).integers(0, 20, (2, 20, 5)).astype(np.int32))
    weights = array(normal(2, 20, 8, seed=5))
    results = []
    for function in (by_the_equation, lambda layer, x, neighbors: layer(x, neighbors)):
        layer = edge_layer().train(training)
        output = function(layer, x, neighbors)
        results.append({"output": output, **differentiated(function, layer, x, neighbors, weights)})
    for name, wanted in results[0].items():
        np.testing.assert_allclose(np.array(results[1][name]), np.array(wanted), rtol=1e-11, atol=1e-11, err_msg=name)
    assert not training or not np.allclose(np.array(results[1]["mean"]), normal(8, seed=2))


def test_batch_norm_takes_all_rows_and_remembers_an_unbiased_variance():
    norm, x = BatchNorm(2), np.array([[[0.0, 1], [2, 1]], [[4, 5], [6, 1]]], np.float32)
    out = np.array(norm(mx.array(x)))
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(out.reshape(-1, 2), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(np.array(norm.running_mean), 0.1 * flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(np.array(norm.running_var), 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-6)
    norm.eval()
    wanted = (flat - 0.1 * flat.mean(0)) / np.sqrt(0.9 + 0.1 * flat.var(0, ddof=1) + 1e-5)
    np.testing.assert_allclose(np.array(norm(mx.array(x))).reshape(-1, 2), wanted, rtol=1e-6)


def test_batch_norm_refuses_one_row_in_training_only():
    norm = BatchNorm(2)
    with pytest.raises(ExperimentError, match="raise batch_size"):
        norm(mx.zeros((1, 2)))
    assert norm.eval()(mx.zeros((1, 2))).shape == (1, 2)


def test_batch_norms_statistics_are_exact_over_many_rows():
    """A million rows off zero: one running sum in float32 would be wrong in the fourth digit."""
    x = np.random.default_rng(0).normal(3, 1, (32, 1600, 20, 1)).astype(np.float32)
    norm = BatchNorm(1)
    norm(mx.array(x))
    np.testing.assert_allclose(np.array(norm.running_mean), 0.1 * x.mean(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(np.array(norm.running_var), 0.9 + 0.1 * x.var(dtype=np.float64, ddof=1), rtol=1e-6)


def sorted_distances(x, neighbors):
    far = np.take_along_axis(x[:, None], neighbors[..., None], axis=2)
    return np.sort(((far - x[:, :, None]) ** 2).sum(-1), axis=-1)


@pytest.mark.parametrize("offset", [0, 300])
def test_the_nearest_are_those_of_a_full_search(offset):
    """Off the origin too, where |x|^2 - 2 x.y alone would leave two digits."""
    x = (normal(2, 200, 16) + offset).astype(np.float32)
    exact = x.astype(np.float64)
    wanted = np.sort(((exact[:, :, None] - exact[:, None]) ** 2).sum(-1), axis=-1)[..., :10]
    np.testing.assert_allclose(sorted_distances(exact, np.array(nearest(mx.array(x), 10)).astype(int)), wanted, rtol=1e-4, atol=1e-6)
    chosen = np.argsort(((exact[:, :, None] - exact[:, None]) ** 2).sum(-1), axis=-1)[..., :10]
    assert np.array_equal(np.sort(np.array(nearest(array(exact), 10)), axis=-1), np.sort(chosen, axis=-1))


@pytest.mark.parametrize("k", [2, 3, 8])
def test_a_vertex_is_its_own_neighbour_even_among_copies(k):
    found = np.array(nearest(mx.zeros((1, 8, 3)), k))[0]
    assert all(i in row and len(set(row)) == k for i, row in enumerate(found.tolist()))


def test_no_gradient_flows_through_the_choice_of_neighbours():
    x = array(normal(1, 6, 3))
    chosen = nearest(x, 2)
    given = mx.grad(lambda x: mx.sum(rows(x, chosen)))(x)
    assert mx.array_equal(mx.grad(lambda x: mx.sum(rows(x, nearest(x, 2))))(x), given)


def test_a_net_has_the_first_weights_of_both_frameworks():
    own, wanted = dict(tree_flatten(IdentityNet(CONFIG, 4, seed=3).parameters())), initial_weights(CONFIG, 4, 3)
    assert own.keys() == wanted.keys()
    assert all(np.array_equal(np.array(own[name]), wanted[name]) and own[name].dtype == mx.float32 for name in wanted)
    trained = dict(tree_flatten(IdentityNet(CONFIG, 4).trainable_parameters()))
    assert wanted.keys() - trained.keys() == {name for name in wanted if "running" in name}


def test_a_net_gives_unit_embeddings_and_moves_its_statistics_in_training_only():
    net, batch = make_net(), make_batch()
    before = {name: np.array(value) for name, value in tree_flatten(net.parameters())}
    embedding, neck, logits = net.eval()(batch)
    assert (embedding.shape, neck.shape, logits.shape) == ((3, 6), (3, 6), (3, 4))
    np.testing.assert_allclose((np.array(embedding) ** 2).sum(1), 1, rtol=1e-6)
    assert all(np.array_equal(np.array(value), before[name]) for name, value in tree_flatten(net.parameters()))
    net.train()(batch)
    moved = {name for name, value in tree_flatten(net.parameters()) if not np.array_equal(np.array(value), before[name])}
    assert moved == {name for name in before if "running" in name}


def test_pooling_keeps_what_earlier_layers_gave_at_the_kept_vertices(monkeypatch):
    """An EdgeConv that gives the running number of each vertex: after pooling all outputs name the pool's vertices."""
    given = []

    def number(self, x, neighbors):
        given.append(x)
        width = self.norm.weight.shape[0]
        return mx.broadcast_to(mx.arange(x.shape[1], dtype=mx.float64)[None, :, None], (*x.shape[:2], width))

    monkeypatch.setattr(model_mlx.EdgeConv, "__call__", number)
    batch = make_batch()
    joined = np.array(make_net()._vertices(batch))
    pool = np.array(batch["pool_1"])
    assert [x.shape for x in given] == [(3, 30, 6), (3, 12, 5), (3, 12, 6)]
    assert np.array_equal(joined[..., :5], np.broadcast_to(pool[..., None], (3, 12, 5)))
    assert np.array_equal(joined[..., 5:], np.broadcast_to(np.arange(12)[None, :, None], (3, 12, 13)))


def test_the_order_of_vertices_changes_nothing():
    """With graphs in the features alone: what makes unregistered meshes possible."""
    layers = (EdgeLayer(width=5), EdgeLayer(width=6))
    net, batch = make_net(MeshIdentity(k=4, layers=layers, point_width=9, hidden_widths=(8,), embedding_dim=6)).eval(), make_batch()
    order = mx.array(np.random.default_rng(2).permutation(NUM_VERTICES))
    shuffled = {"coordinates": batch["coordinates"][:, order], "normals": batch["normals"][:, order]}
    np.testing.assert_allclose(np.array(net(shuffled)[0]), np.array(net(batch)[0]), atol=1e-12)


def test_arcface_logits_are_scaled_cosines():
    net = make_net(MeshIdentity(k=4, layers=CONFIG.layers, embedding_dim=6, point_width=9, head=ArcFaceHead(scale=20.0)))
    _, neck, logits = net.eval()(make_batch())
    neck, rows_ = np.array(neck), np.array(net.classifier.weight)
    cosines = neck @ rows_.T / np.linalg.norm(neck, axis=1)[:, None] / np.linalg.norm(rows_, axis=1)
    np.testing.assert_allclose(np.array(logits), 20 * cosines, rtol=1e-6)


def test_products_in_half_precision_leave_weights_and_results_in_float32():
    batch = {name: value.astype(mx.float32) if value.dtype == mx.float64 else value for name, value in make_batch().items()}
    net = IdentityNet(CONFIG, 4, 1).eval()
    exact = np.array(net(batch)[0])
    net.set_products(mx.bfloat16)
    rounded = net(batch)[0]
    assert rounded.dtype == mx.float32
    assert all(value.dtype == mx.float32 for _, value in tree_flatten(net.parameters()))
    assert 1e-5 < np.abs(np.array(rounded) - exact).max() < 0.1


def test_edges_that_cancel_have_no_variance_rather_than_less() -> None:
    layer = EdgeConv((16, 12))
    weight = normal(16, 12).astype(np.float32)
    weight[:, 6:] = 0
    layer.linear.weight = mx.array(weight)
    loops = np.tile(np.arange(200)[:, None], (2, 1, 8)).astype(np.int32)
    found = layer.train()(mx.array((100 * normal(2, 200, 6)).astype(np.float32)), mx.array(loops))
    assert np.isfinite(np.array(found)).all()
    assert np.array(layer.norm.running_var).min() >= 0.9
