"""Shapes, what the encoder ignores, its algebra against the textbook form, and equal bits from equal starts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from triform.errors import Diverged
from triform.kernels.ball_query_torch import ball_query
from triform.tasks.point_autoencoder.config import (
    AbstractionLevel,
    FoldingDecoder,
    MlpDecoder,
    MultiScaleEncoder,
    MultiScaleLevel,
    PointAutoencoder,
    Scale,
    SingleScaleEncoder,
)
from triform.tasks.point_autoencoder.model_torch import BallGroup, Fold

SINGLE = SingleScaleEncoder(
    levels=(
        AbstractionLevel(num_centers=32, radius=0.5, num_neighbors=8, widths=(8, 12)),
        AbstractionLevel(num_centers=8, radius=1.0, num_neighbors=6, widths=(16,)),
    ),
    global_widths=(24, 20),
)
MULTI = MultiScaleEncoder(
    levels=(
        MultiScaleLevel(
            num_centers=16,
            scales=(Scale(radius=0.3, num_neighbors=4, widths=(4, 6)), Scale(radius=0.6, num_neighbors=9, widths=(5, 5, 7))),
        ),
    ),
    global_widths=(16,),
)
SMALL = PointAutoencoder(latent_dim=10, encoder=SINGLE, decoder=MlpDecoder(widths=(16,)))


def spheres(batch: int, num_points: int, dtype: torch.dtype = torch.float32) -> Tensor:
    points = torch.randn(batch, num_points, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return nn.functional.normalize(points, dim=2).to(dtype)


def build(config: PointAutoencoder, num_points: int = 128) -> nn.Module:
    torch.manual_seed(0)
    return config.build().build_torch({"num_points": num_points}, 0)


@pytest.mark.parametrize("encoder", [SINGLE, MULTI], ids=["single", "multi"])
@pytest.mark.parametrize(
    ("decoder", "drawn"),
    [(MlpDecoder(widths=(16,)), 128), (MlpDecoder(widths=()), 128), (FoldingDecoder(grid_size=5, widths=(8, 6)), 25)],
    ids=["mlp", "linear", "folding"],
)
def test_shapes_in_training_and_for_one_cloud_in_evaluation(encoder, decoder, drawn) -> None:
    config = replace(SMALL, encoder=encoder, decoder=decoder)
    model = build(config)
    batch = {"points": spheres(3, 128)}
    loss, scalars = config.build().loss_torch(model, batch)
    loss.backward()
    assert set(scalars) == {"cd_l2", "cd_squared"}
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    prediction = config.build().predict_torch(model, {"points": batch["points"][:1]})
    assert prediction["reconstruction"].shape == (1, drawn, 3)
    assert prediction["embedding"].shape == (1, 10)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch() -> None:
    model = build(SMALL).double().eval()
    points = spheres(3, 128, torch.float64)
    torch.testing.assert_close(model(points)[1][1:2], model(points[1:2])[1], rtol=1e-12, atol=1e-12)


def test_the_latent_ignores_the_order_of_points_where_no_ball_is_full() -> None:
    levels = tuple(replace(level, num_neighbors=128) for level in SINGLE.levels)
    model = build(replace(SMALL, encoder=replace(SINGLE, levels=levels))).double().eval()
    points = spheres(2, 128, torch.float64)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.encoder(points[:, order]), model.encoder(points), rtol=1e-12, atol=1e-12)


def test_a_ball_group_is_the_textbook_form_of_set_abstraction() -> None:
    """In training, with its running statistics, and then in evaluation."""
    torch.manual_seed(0)
    group = BallGroup(4, Scale(radius=0.7, num_neighbors=9, widths=(6, 5))).double()
    nn.init.normal_(group.shared.layers[-1].weight)  # some below zero, where the max must still come after BatchNorm
    points, features = spheres(2, 50, torch.float64), torch.randn(2, 50, 4, dtype=torch.float64)
    centers = points[:, :10]
    neighbors = ball_query(points, centers, radius=0.7, num_neighbors=9)
    chosen = torch.arange(2)[:, None, None], neighbors
    grouped = torch.cat([points[chosen] - centers[:, :, None], features[chosen]], dim=-1)
    hidden = torch.einsum("bskc,oc->bosk", grouped, group.first.weight[:, :, 0])
    for layer in group.shared.layers:
        hidden = layer(hidden.flatten(2)).unflatten(2, (10, 9))
    expected = hidden.relu().max(dim=3).values.transpose(1, 2)
    running = {name: buffer.clone() for name, buffer in group.named_buffers()}
    for layer in group.shared.layers:
        if isinstance(layer, nn.BatchNorm1d):
            layer.reset_running_stats()
    torch.testing.assert_close(group(points, features, centers), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dict(group.named_buffers()), running, rtol=1e-12, atol=1e-12)
    group.eval()
    hidden = torch.einsum("bskc,oc->bosk", grouped, group.first.weight[:, :, 0])
    for layer in group.shared.layers:
        hidden = layer(hidden.flatten(2)).unflatten(2, (10, 9))
    expected = hidden.relu().max(dim=3).values.transpose(1, 2)
    torch.testing.assert_close(group(points, features, centers), expected, rtol=1e-10, atol=1e-10)


def test_names_and_shapes_of_the_state_dict_stay() -> None:
    """Runs of older versions go on."""
    state = {name: tuple(value.shape) for name, value in build(SMALL).encoder.state_dict().items() if "latent" not in name}
    norm = {"weight", "bias", "running_mean", "running_var"}
    wanted = {
        "levels.0.groups.0.first.weight": (8, 3, 1),
        "levels.0.groups.0.shared.layers.2.weight": (12, 8, 1),
        "levels.1.groups.0.first.weight": (16, 15, 1),
        "shared.layers.0.weight": (24, 19, 1),
        "shared.layers.3.weight": (20, 24, 1),
    }
    widths = {"levels.0.groups.0.shared.layers.0": 8, "levels.0.groups.0.shared.layers.3": 12, "levels.1.groups.0.shared.layers.0": 16}
    widths |= {"shared.layers.1": 24, "shared.layers.4": 20}
    wanted |= {f"{name}.{part}": (width,) for name, width in widths.items() for part in norm}
    wanted |= {f"{name}.num_batches_tracked": () for name in widths}
    assert state == wanted


def test_a_fold_is_a_perceptron_of_latent_and_place_side_by_side() -> None:
    torch.manual_seed(0)
    fold = Fold(4, 2, (6, 5), dropout=0.0).double()
    latent, places = torch.randn(3, 4, dtype=torch.float64), torch.randn(1, 7, 2, dtype=torch.float64)
    together = torch.cat([latent[:, None].expand(3, 7, 4), places.expand(3, 7, 2)], dim=2)
    weight = torch.cat([fold.code.weight, fold.place.weight], dim=1)
    expected = fold.out(fold.hidden((together @ weight.T + fold.code.bias).relu()))
    torch.testing.assert_close(fold(latent, places), expected)


def train(config: PointAutoencoder, steps: int) -> list[Tensor]:
    task, model = config.build(), build(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        task.loss_torch(model, {"points": spheres(4, 128)})[0].backward()
        optimizer.step()
    return list(model.state_dict().values())


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, dropout=0.2),
        replace(SMALL, encoder=MULTI, decoder=FoldingDecoder(grid_size=6, widths=(8, 8)), loss="cd_squared"),
    ],
    ids=["single", "multi"],
)
def test_three_steps_give_equal_bits_each_time(config) -> None:
    first = train(config, 3)
    for _ in range(3):
        assert all(one.equal(other) for one, other in zip(first, train(config, 3), strict=True))


def test_it_learns_one_cloud() -> None:
    task, model, batch = SMALL.build(), build(SMALL), {"points": spheres(2, 128)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = task.loss_torch(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.35 * losses[0]


def test_a_drawing_that_is_not_finite_is_divergence() -> None:
    model = build(SMALL)
    nn.init.constant_(model.decoder.out.bias, float("nan"))
    with pytest.raises(Diverged, match="not finite"):
        SMALL.build().loss_torch(model, {"points": spheres(2, 128)})
    drawn = {"reconstruction": np.full((1, 4, 3), np.inf, np.float32)}
    with pytest.raises(Diverged, match="not finite"):
        SMALL.build().validation_metrics({"points": np.zeros((1, 4, 3), np.float32)}, drawn)
