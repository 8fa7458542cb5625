"""The network against its definition written out plainly, order of vertices, precision, equal bits, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from triform.errors import Diverged, ExperimentError
from triform.tasks.mesh_identity.config import ArcFaceHead, EdgeLayer, MeshIdentity
from triform.tasks.mesh_identity.initial import initial_weights
from triform.tasks.mesh_identity.model_torch import EdgeConv, IdentityNet

SMALL = MeshIdentity(
    k=5,
    layers=(EdgeLayer(width=8, graph="spatial"), EdgeLayer(width=12, keep_vertices=16), EdgeLayer(width=10)),
    point_width=20,
    hidden_widths=(14,),
    embedding_dim=6,
    dropout=0.0,
)


def batch_of(num_meshes: int = 4, num_vertices: int = 40, k: int = 5) -> dict[str, Tensor]:
    generator = np.random.default_rng(0)
    coordinates = generator.normal(size=(num_meshes, num_vertices, 3))
    normals = generator.normal(size=(num_meshes, num_vertices, 3))
    nearest = ((coordinates[:, :, None] - coordinates[:, None]) ** 2).sum(3).argsort(2)[:, :, :k]
    pool = np.stack([generator.permutation(num_vertices)[:16] for _ in range(num_meshes)])
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    arrays = {"coordinates": coordinates.astype(np.float32), "normals": normals.astype(np.float32)}
    arrays |= {"spatial_0": nearest.astype(np.int32), "pool_1": pool.astype(np.int32)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def plainly(config: MeshIdentity, net: IdentityNet, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, edge by edge, with the batch's statistics."""
    w = net.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        var, mean = torch.var_mean(x.flatten(0, -2), 0, correction=0)
        return (x - mean) / (var + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv(x: Tensor, neighbors: Tensor, i: int) -> Tensor:
        there = torch.stack([sample[graph.long()] for sample, graph in zip(x, neighbors, strict=True)])
        edges = torch.cat([there - x[:, :, None], x[:, :, None].expand_as(there)], 3) @ w[f"edge.{i}.linear.weight"].T
        return F.leaky_relu(norm(edges, f"edge.{i}.norm"), 0.2).amax(2)

    def nearest(x: Tensor) -> Tensor:
        return (x[:, :, None] - x[:, None]).square().sum(3).topk(config.k, dim=2, largest=False).indices

    def kept(x: Tensor) -> Tensor:
        return torch.stack([sample[rows.long()] for sample, rows in zip(x, batch["pool_1"], strict=True)])

    x = torch.cat([batch["coordinates"], batch["normals"]], 2).double()
    first = kept(conv(x, batch["spatial_0"], 0))
    second = conv(first, nearest(first), 1)
    third = conv(second, nearest(second), 2)
    x = F.leaky_relu(norm(torch.cat([first, second, third], 2) @ w["point.linear.weight"].T, "point.norm"), 0.2)
    x = torch.cat([x.amax(1), x.mean(1)], 1)
    x = F.leaky_relu(norm(x @ w["hidden.0.linear.weight"].T, "hidden.0.norm"), 0.2)
    z = x @ w["embedding.weight"].T
    neck = norm(z, "neck")
    if isinstance(config.head, ArcFaceHead):
        return F.normalize(z), neck, config.head.scale * F.normalize(neck) @ F.normalize(w["classifier.weight"]).T
    return F.normalize(z), neck, neck @ w["classifier.weight"].T


@pytest.mark.parametrize("head", [SMALL.head, ArcFaceHead()], ids=["softmax", "arcface"])
def test_it_is_its_definition(head) -> None:
    config = replace(SMALL, head=head)
    net = IdentityNet(config, 3, seed=1).double()
    with torch.no_grad():
        net.edge[1].norm.weight.mul_(torch.tensor([1.0, -1.0] * 6))
    found = net(batch_of())
    for ours, reference in zip(found, plainly(config, net, batch_of()), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_parameters_have_the_agreed_names_and_first_values() -> None:
    net = IdentityNet(SMALL, 3, seed=5)
    first = initial_weights(SMALL, 3, 5)
    state = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert state.keys() == first.keys()
    assert all(np.array_equal(value.numpy(), first[name]) for name, value in state.items())
    assert [name for name, _ in net.named_buffers() if "running" not in name] == []


def test_the_order_of_the_vertices_does_not_matter() -> None:
    net, batch = IdentityNet(SMALL, 3).double().eval(), batch_of()
    order = torch.from_numpy(np.random.default_rng(1).permutation(40))
    place = order.argsort()
    turned = {"coordinates": batch["coordinates"][:, order], "normals": batch["normals"][:, order]}
    turned |= {"spatial_0": place[batch["spatial_0"][:, order].long()], "pool_1": place[batch["pool_1"].long()]}
    torch.testing.assert_close(net(turned), net(batch), rtol=1e-12, atol=1e-12)


def test_embeddings_are_unit_vectors_and_evaluation_takes_one_mesh() -> None:
    embedding, neck, logits = IdentityNet(SMALL, 3).eval()(batch_of(1))
    assert (embedding.shape, neck.shape, logits.shape) == ((1, 6), (1, 6), (1, 3))
    assert embedding.square().sum().item() == pytest.approx(1)


def test_evaluation_uses_the_running_statistics_which_training_moves() -> None:
    net, batch = IdentityNet(SMALL, 3), batch_of()
    net(batch)
    moved = {name: value for name, value in net.state_dict().items() if "running_mean" in name}
    assert all(bool((value != 0).any()) for value in moved.values())
    net.eval()
    one = {name: value[:1] for name, value in batch.items()}
    torch.testing.assert_close(net(one)[0], net(batch)[0][:1], rtol=1e-5, atol=1e-6)


def test_autocast_stays_near_float32_and_gives_float32_statistics() -> None:
    net = IdentityNet(replace(SMALL, layers=SMALL.layers[:1]), 3).eval()
    whole = net(batch_of())[0]
    with torch.autocast("cpu", torch.bfloat16):
        embedding, neck, _ = net(batch_of())
    assert embedding.dtype == neck.dtype == torch.float32
    torch.testing.assert_close(embedding, whole, rtol=0, atol=0.03)
    assert not torch.equal(embedding, whole)


def test_three_steps_twice_give_equal_bits() -> None:
    def three_steps() -> list[Tensor]:
        net = IdentityNet(replace(SMALL, dropout=0.3), 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            embedding, _, logits = net(batch_of())
            (embedding[0] @ embedding[1] + logits.logsumexp(1).sum()).backward()
            optimizer.step()
        return list(net.state_dict().values())

    torch.use_deterministic_algorithms(True)
    try:
        assert all(torch.equal(a, b) for a, b in zip(three_steps(), three_steps(), strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_dropout_only_in_training() -> None:
    net, batch = IdentityNet(replace(SMALL, dropout=0.5), 3), batch_of()
    assert not torch.equal(net(batch)[0], net(batch)[0])
    net.eval()
    assert torch.equal(net(batch)[0], net(batch)[0])


def test_every_parameter_gets_a_gradient() -> None:
    net = IdentityNet(SMALL, 3)
    embedding, _, logits = net(batch_of())
    (embedding[:, 0].sum() + logits.logsumexp(1).sum()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not bool((p.grad != 0).any())] == []


@pytest.mark.parametrize("hidden", [(14,), ()])
def test_one_mesh_to_train_on_is_refused(hidden) -> None:
    with pytest.raises(ExperimentError, match="raise batch_size"):
        IdentityNet(replace(SMALL, hidden_widths=hidden), 3)(batch_of(1))


def test_an_edge_convs_running_statistics_are_those_of_batch_norm_over_the_edges() -> None:
    conv, x = EdgeConv((7, 6)).double(), torch.from_numpy(np.random.default_rng(0).normal(size=(2, 30, 3)))
    neighbors = torch.from_numpy(np.random.default_rng(1).integers(0, 30, (2, 30, 4)))
    with torch.no_grad():
        conv.linear.weight.normal_()
    norm = torch.nn.BatchNorm1d(7).double()
    for scale in (1.0, 3.0):
        conv(x * scale, neighbors)
        there = torch.stack([sample[graph] for sample, graph in zip(x * scale, neighbors, strict=True)])
        here = (x * scale)[:, :, None].expand_as(there)
        norm((torch.cat([there - here, here], 3) @ conv.linear.weight.T).flatten(0, 2))
    torch.testing.assert_close((conv.norm.running_mean, conv.norm.running_var), (norm.running_mean, norm.running_var))
    before = conv.norm.running_mean.clone()
    conv.eval()(x, neighbors)
    assert torch.equal(conv.norm.running_mean, before)


def test_an_edge_conv_refuses_features_that_are_not_finite() -> None:
    with pytest.raises(Diverged, match="x must be finite"):
        EdgeConv((7, 6))(torch.full((1, 4, 3), np.nan), torch.zeros(1, 4, 2, dtype=torch.int64))


def test_a_neighbour_that_is_no_vertex_is_no_divergence() -> None:
    with pytest.raises(ValueError, match="neighbors must be 0 to 3"):
        EdgeConv((7, 6))(torch.zeros(1, 4, 3), torch.full((1, 4, 2), 4))


def test_features_that_are_not_finite_mean_divergence() -> None:
    net = IdentityNet(SMALL, 3)
    with torch.no_grad():
        net.edge[0].linear.weight[0, 0] = np.nan
    with pytest.raises(Diverged, match="x must be finite"):
        net(batch_of())


def test_a_profile_tells_the_parts_apart() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        IdentityNet(SMALL, 3)(batch_of())
    assert {"knn", "edge_conv", "point", "head"} <= {event.key for event in profile.key_averages()}


def test_more_neighbours_than_edge_conv_counts_are_refused_beforehand() -> None:
    settings = TypeAdapter(MeshIdentity)
    assert settings.validate_python({"k": 255}).k == 255
    with pytest.raises(ValidationError, match="255"):
        settings.validate_python({"k": 256})
