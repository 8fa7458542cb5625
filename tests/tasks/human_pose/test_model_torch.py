"""The nets against their definition written out plainly, what reaches the encoder, equal bits, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triform.errors import ExperimentError
from triform.tasks.human_pose.config import Alternating, DualStream, FrameTokens, MaskedAutoencoder
from triform.tasks.human_pose.model_torch import Encoder, EncoderConfig, LiftNet, MaskedAutoencoderNet, attention_maps

FACTS = {"num_frames": 6, "num_joints": 17}
SIZES = {"depth": 2, "width": 12, "heads": 3, "mlp_ratio": 1.5, "dropout": 0.0}
SMALL: dict[str, EncoderConfig] = {config.kind: config for config in (DualStream(**SIZES), Alternating(**SIZES), FrameTokens(**SIZES))}
every_encoder = pytest.mark.parametrize("config", SMALL.values(), ids=list(SMALL))


@pytest.fixture(autouse=True)
def only_deterministic_operators() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def clips(batch: int = 3, frames: int = 6, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, frames, 17, 3)))


def lift_net(config: EncoderConfig, *, spread: float = 0.3) -> LiftNet:
    """Weights so large that every part tells, norms and biases too."""
    torch.manual_seed(0)
    net = LiftNet(config, FACTS).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return net


def masked_net(config: EncoderConfig) -> MaskedAutoencoderNet:
    torch.manual_seed(0)
    net = MaskedAutoencoderNet(config, MaskedAutoencoder(decoder_width=9), FACTS).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


def masked_batch() -> dict[str, Tensor]:
    """Two frames of six are seen, others in each clip; joints 3 and 8 are hidden in frame 4."""
    visible = torch.tensor([[1, 4], [0, 4], [4, 5]])
    restore = torch.full((3, 6), 2).scatter(1, visible, torch.arange(2).expand(3, 2))
    mask = torch.zeros(3, 6, 17)
    mask[:, 4, [3, 8]] = 1
    return {"joints_2d": clips(), "visible": visible, "restore": restore, "joint_mask": mask}


def plainly(net: Encoder, config: EncoderConfig, x: Tensor) -> Tensor:
    """An encoder's definition, head by head."""
    w = net.state_dict()

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(x: Tensor, name: str) -> Tensor:
        query, key, value = (linear(x, f"{name}.{part}").chunk(config.heads, -1) for part in ("query", "key", "value"))
        scale = (config.width // config.heads) ** -0.5
        mixed = [(q @ k.transpose(-2, -1) * scale).softmax(-1) @ v for q, k, v in zip(query, key, value, strict=True)]
        return linear(torch.cat(mixed, -1), f"{name}.out")

    def block(x: Tensor, name: str, over: str) -> Tensor:
        name = f"{name}.{over}"
        y = norm(x, f"{name}.attention_norm")
        y = attention(y, f"{name}.attention") if over == "joints" else attention(y.transpose(1, 2), f"{name}.attention").transpose(1, 2)
        x = x + y
        return x + linear(F.gelu(linear(norm(x, f"{name}.mlp_norm"), f"{name}.expand")), f"{name}.contract")

    def layer(x: Tensor, name: str) -> Tensor:
        if isinstance(config, FrameTokens):
            return block(x, name, "frames")
        if isinstance(config, Alternating):
            return block(block(x, name, "joints"), name, "frames")
        one = block(block(x, f"{name}.joints_first", "joints"), f"{name}.joints_first", "frames")
        other = block(block(x, f"{name}.frames_first", "frames"), f"{name}.frames_first", "joints")
        share = linear(torch.cat([one, other], -1), f"{name}.fusion").softmax(-1)
        return one * share[..., :1] + other * share[..., 1:]

    x = x.flatten(2)[:, :, None] if isinstance(config, FrameTokens) else x
    x = linear(x, "embed") + w["positions.frame"][: x.shape[1], None] + w.get("positions.joint", 0)
    for i in range(config.depth):
        x = layer(x, f"layers.{i}")
    return norm(x, "norm")


@every_encoder
def test_the_encoder_is_its_definition(config: EncoderConfig) -> None:
    net = lift_net(config)
    torch.testing.assert_close(net.encoder(clips()), plainly(net.encoder, config, clips()), rtol=1e-9, atol=1e-9)


@every_encoder
def test_lifting_gives_every_frame_relative_to_the_root(config: EncoderConfig) -> None:
    net = lift_net(config)
    found = net(clips())
    plain = (net.encoder(clips()) @ net.head.weight.T + net.head.bias).view(3, 6, 17, 3)
    assert found.shape == (3, 6, 17, 3)
    assert (found[:, :, 0] == 0).all()
    torch.testing.assert_close(found, plain - plain[:, :, :1], rtol=1e-12, atol=1e-12)


@every_encoder
def test_clips_do_not_see_each_other_and_frames_and_joints_do(config: EncoderConfig) -> None:
    net, x = lift_net(config), clips()
    torch.testing.assert_close(net(x[[2, 0, 1]]), net(x)[[2, 0, 1]], rtol=1e-9, atol=1e-12)
    x[0, 2, 5] += 1
    moved = (net(x) - net(clips())).abs().amax(-1)
    assert (moved[0, :, 1:] > 1e-9).all()
    assert (moved[1:] == 0).all()


@every_encoder
def test_frames_pick_their_own_positions(config: EncoderConfig) -> None:
    """A part of the clip at its places is not the same part at the beginning, unless it is the beginning."""
    net, x = lift_net(config).encoder, clips()
    first, later = torch.arange(3).expand(3, 3), torch.arange(3).expand(3, 3) + 2
    assert torch.equal(net(x[:, :3], first), net(x[:, :3]))
    assert (net(x[:, :3], later) - net(x[:, :3])).abs().max() > 1e-3
    with torch.no_grad():
        net.positions.frame.copy_(net.positions.frame.roll(-2, 0))
    moved = net(x[:, :3])
    with torch.no_grad():
        net.positions.frame.copy_(net.positions.frame.roll(2, 0))
    assert torch.equal(net(x[:, :3], later), moved)


def test_both_streams_count_the_same_at_first() -> None:
    torch.manual_seed(0)
    layer, x = LiftNet(SMALL["dual_stream"], FACTS).encoder.layers[0], torch.randn(2, 6, 17, 12)
    torch.testing.assert_close(layer(x), (layer.joints_first(x) + layer.frames_first(x)) / 2)


@every_encoder
def test_what_is_hidden_never_reaches_the_encoder(config: EncoderConfig) -> None:
    net, batch = masked_net(config), masked_batch()
    told = net(batch)
    shut = batch["restore"] == 2
    hidden = shut[..., None] | (batch["joint_mask"] > 0)
    other = torch.where(hidden[..., None], clips(seed=5), batch["joints_2d"])
    assert torch.equal(net(batch | {"joints_2d": other}), told)
    for clip, frame, joint in ((0, 1, 3), (1, 4, 2), (2, 5, 16)):
        moved = batch["joints_2d"].clone()
        moved[clip, frame, joint] += 1
        assert (net(batch | {"joints_2d": moved})[clip] - told[clip]).abs().amax((1, 2)).min() > 1e-9


@every_encoder
def test_the_masked_net_is_its_definition(config: EncoderConfig) -> None:
    """Clip by clip and frame by frame: tokens for hidden joints, the encoder on visible frames, its features put back."""
    net, batch = masked_net(config), masked_batch()
    decoder, rows = net.decoder, []
    for clip, visible in enumerate(batch["visible"]):
        x = torch.stack([
            torch.stack([decoder.joint_token[j] if batch["joint_mask"][clip, t, j] else batch["joints_2d"][clip, t, j] for j in range(17)])
            for t in visible
        ])  # fmt: skip
        features = decoder.embed(net.encoder(x[None], visible[None]))[0]
        empty = decoder.frame_token.expand(features.shape[1], -1)
        whole = torch.stack([features[visible.tolist().index(t)] if t in visible else empty for t in range(6)])
        whole = whole + decoder.positions.frame[:, None] + (0 if decoder.positions.joint is None else decoder.positions.joint)
        rows.append(net.head(decoder.norm(decoder.layers(whole[None]))).view(6, 17, 2))
    torch.testing.assert_close(net(batch), torch.stack(rows), rtol=1e-9, atol=1e-9)


def test_the_decoder_is_half_as_wide_unless_told() -> None:
    config = DualStream(depth=1, width=16, heads=4)
    half, told = (MaskedAutoencoderNet(config, MaskedAutoencoder(decoder_width=width), FACTS) for width in (0, 12))
    assert (half.decoder.embed.out_features, told.decoder.embed.out_features) == (8, 12)
    assert len(half.decoder.layers) == 2
    assert [name for name, _ in half.decoder.layers[0].named_children()] == ["joints", "frames"]


@pytest.mark.parametrize("kind", ["lifting", "masked"])
@every_encoder
def test_training_gives_equal_bits_and_every_weight_learns(config: EncoderConfig, kind: str) -> None:
    def trained() -> dict[str, Tensor]:
        torch.manual_seed(3)
        wanted = replace(config, dropout=0.2)
        net = LiftNet(wanted, FACTS) if kind == "lifting" else MaskedAutoencoderNet(wanted, MaskedAutoencoder(decoder_width=9), FACTS)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
        batch = masked_batch() | {"joints_2d": clips().float()}
        first = {name: value.clone() for name, value in net.state_dict().items()}
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            output = net(batch["joints_2d"]) if kind == "lifting" else net(batch)
            (output - 1).square().mean().backward()
            optimizer.step()
        # A key's bias adds the same to every score of a row, so that softmax takes it out again.
        assert all(not torch.equal(value, first[name]) for name, value in net.state_dict().items() if not name.endswith("key.bias"))
        return net.state_dict()

    one, other = trained(), trained()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_first_weights_come_from_torchs_seed_and_have_their_spread() -> None:
    def first(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return LiftNet(DualStream(depth=1, width=64), FACTS).state_dict()

    one, same, other = first(1), first(1), first(2)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert all("norm" in name or "fusion" in name for name in one if torch.equal(one[name], other[name]))
    assert one["encoder.embed.weight"].std().item() == pytest.approx(1.0, rel=0.15)
    positions = torch.cat([one[f"encoder.positions.{name}"].flatten() for name in ("frame", "joint")])
    assert positions.std().item() == pytest.approx(0.5, rel=0.05)


def test_parameters_have_the_agreed_names() -> None:
    lift, masked = LiftNet(SMALL["alternating"], FACTS), masked_net(SMALL["alternating"])
    tops = {".".join(name.split(".")[:2]) for name, _ in lift.named_parameters()}
    assert tops == {"encoder.embed", "encoder.positions", "encoder.layers", "encoder.norm", "head.weight", "head.bias"}
    encoder = {name: value.shape for name, value in lift.named_parameters() if name.startswith("encoder.")}
    assert encoder == {name: value.shape for name, value in masked.named_parameters() if name.startswith("encoder.")}
    assert {name.split(".")[0] for name, _ in masked.named_parameters()} == {"encoder", "decoder", "head"}


def test_sizes_beside_published_ones() -> None:
    """MotionBERT-lite has 16.0 M; the small one is to have about 2 M."""
    facts = {"num_frames": 243, "num_joints": 17}
    count = {kind().kind: sum(p.numel() for p in LiftNet(kind(), facts).parameters()) for kind in (DualStream, Alternating, FrameTokens)}
    assert count["dual_stream"] == pytest.approx(16.0e6, rel=0.02)
    assert count["alternating"] == pytest.approx(2.1e6, rel=0.05)
    assert count["frame_tokens"] == pytest.approx(2.2e6, rel=0.02)


@every_encoder
def test_attention_maps_are_those_of_the_definition(config: EncoderConfig) -> None:
    net, x = lift_net(config), clips()
    maps = attention_maps(net, x)
    streams = {"dual_stream": ["joints_first.joints", "joints_first.frames", "frames_first.frames", "frames_first.joints"]}
    within = streams.get(config.kind, ["frames"] if config.kind == "frame_tokens" else ["joints", "frames"])
    assert list(maps) == [f"{i}.{name}" for i in range(2) for name in within]
    for name, found in maps.items():
        assert found.shape == ((3, 17, 17) if name.endswith("joints") else (3, 6, 6))
        assert not found.requires_grad
        torch.testing.assert_close(found.sum(2), torch.ones_like(found[..., 0]), rtol=1e-9, atol=1e-9)
    assert not any(module._forward_pre_hooks for module in net.modules())
    block = net.encoder.layers[0].get_submodule(within[0])
    tokens = x.flatten(2)[:, :, None] if config.kind == "frame_tokens" else x
    tokens = block.attention_norm(net.encoder.positions(net.encoder.embed(tokens)))
    if not within[0].endswith("joints"):
        tokens = tokens.transpose(1, 2)
    query, key = (part(tokens).unflatten(-1, (3, 4)).transpose(2, 3) for part in (block.attention.query, block.attention.key))
    shares = (query @ key.transpose(-2, -1) / 2).softmax(-1).mean((0, 1))
    torch.testing.assert_close(maps[f"0.{within[0]}"], shares, rtol=1e-9, atol=1e-12)


@every_encoder
def test_half_precision_stays_near(config: EncoderConfig) -> None:
    net, x = lift_net(config, spread=0.05).float(), clips().float()
    whole = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        half, masked = net(x), masked_net(config).float()(masked_batch() | {"joints_2d": x})
    assert (half.float() - whole).abs().max() < 0.05 * whole.abs().max()
    assert torch.isfinite(masked).all()


@pytest.mark.long
def test_one_graph_holds_the_whole_net() -> None:
    """As torch.compile takes it: nothing in it falls back to Python, for another batch size neither."""
    net, masked = lift_net(SMALL["dual_stream"]).float(), masked_net(SMALL["alternating"]).float()
    lifted, filled = (torch.compile(module, backend="aot_eager", fullgraph=True) for module in (net, masked))
    for batch in (3, 2):
        whole = {name: value[:batch] for name, value in (masked_batch() | {"joints_2d": clips().float()}).items()}
        torch.testing.assert_close(lifted(whole["joints_2d"]), net(whole["joints_2d"]))
        torch.testing.assert_close(filled(whole), masked(whole))


def test_it_refuses_uneven_heads_and_clips_that_are_too_long() -> None:
    with pytest.raises(ExperimentError, match="5 heads for 12 channels"):
        LiftNet(Alternating(width=12, heads=5), FACTS)
    with pytest.raises(ExperimentError, match="7 frames"):
        lift_net(SMALL["alternating"])(clips(frames=7))
    assert lift_net(SMALL["alternating"])(clips(frames=4)).shape == (3, 4, 17, 3)
