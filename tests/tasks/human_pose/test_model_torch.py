"""The nets against their definition written out plainly, what reaches the encoder, equal bits, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triform.errors import ExperimentError
from triform.tasks.human_pose.config import Alternating, DualStream, FrameTokens, MaskedAutoencoder
from triform.tasks.human_pose.model_torch import EncoderConfig, LiftNet, MaskedAutoencoderNet, attention_maps, centred, fused_attention

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
    """One joint in five is not seen, though it has a place, and nothing at all in the last clip's frame 5."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(batch, frames, 17, 3))
    x[..., 2] = generator.uniform(0.1, 0.9, x.shape[:3]) * (generator.random(x.shape[:3]) > 0.2)
    x[-1, 5:, :, 2] = 0
    return torch.from_numpy(x)


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


def tokens_by_hand(x: Tensor, mask: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
    """What a joint brings to its token, joint by joint. Args: mask: 1 where a joint is hidden, and `stand_in` (joint, 3) in its place."""
    mask = torch.zeros(x.shape[:3]) if mask is None else mask
    found = torch.zeros(*x.shape[:3], 6, dtype=x.dtype)
    for clip, shut, out in zip(x, mask, found, strict=True):
        shown = [[j for j in range(17) if clip[t, j, 2] > 0 and not shut[t, j]] for t in range(len(clip))]
        centers = [sum(clip[t, j, :2] for j in joints) / max(len(joints), 1) + torch.zeros(2) for t, joints in enumerate(shown)]
        squares = [(clip[t, j, :2] - centers[t]).square().sum() for t, joints in enumerate(shown) for j in joints]
        size = (sum(squares) / len(squares)) ** 0.5
        for t, j in np.ndindex(*clip.shape[:2]):
            out[t, j, :2] = (clip[t, j, :2] - centers[t]) / size if j in shown[t] else 0
            out[t, j, 2] = clip[t, j, 2]
            if stand_in is not None and shut[t, j]:
                out[t, j, :3] = stand_in[j]
            out[t, j, 3:5], out[t, j, 5] = centers[t], size
    return found


class ByHand:
    """The parts of a net from its weights, head by head."""

    def __init__(self, net: nn.Module, config: EncoderConfig) -> None:
        self.weights, self.config = net.state_dict(), config

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, x: Tensor, name: str) -> Tensor:
        heads = self.config.heads
        query, key, value = (self.linear(x, f"{name}.{part}").chunk(heads, -1) for part in ("query", "key", "value"))
        scale = (x.shape[-1] // heads) ** -0.5
        mixed = [(q @ k.transpose(-2, -1) * scale).softmax(-1) @ v for q, k, v in zip(query, key, value, strict=True)]
        return self.linear(torch.cat(mixed, -1), f"{name}.out")

    def block(self, x: Tensor, name: str, over: str) -> Tensor:
        name = f"{name}.{over}"
        y = self.norm(x, f"{name}.attention_norm")
        y = y if over == "joints" else y.transpose(1, 2)
        y = self.attention(y, f"{name}.attention")
        x = x + (y if over == "joints" else y.transpose(1, 2))
        return x + self.linear(F.gelu(self.linear(self.norm(x, f"{name}.mlp_norm"), f"{name}.expand")), f"{name}.contract")

    def layer(self, x: Tensor, name: str) -> Tensor:
        if isinstance(self.config, FrameTokens):
            return self.block(x, name, "frames")
        if isinstance(self.config, Alternating):
            return self.block(self.block(x, name, "joints"), name, "frames")
        one = self.block(self.block(x, f"{name}.joints_first", "joints"), f"{name}.joints_first", "frames")
        other = self.block(self.block(x, f"{name}.frames_first", "frames"), f"{name}.frames_first", "joints")
        share = self.linear(torch.cat([one, other], -1), f"{name}.fusion").softmax(-1)
        return one * share[..., :1] + other * share[..., 1:]

    def placed(self, x: Tensor, frames: Tensor) -> Tensor:
        return x + self.weights["positions.frame"][frames][..., None, :] + self.weights.get("positions.joint", 0)

    def encoder(self, tokens: Tensor, frames: Tensor) -> Tensor:
        tokens = tokens.flatten(2)[:, :, None] if isinstance(self.config, FrameTokens) else tokens
        x = self.placed(self.linear(tokens, "embed"), frames)
        for i in range(self.config.depth):
            x = self.layer(x, f"layers.{i}")
        return self.norm(x, "norm")

    def decoder(self, features: Tensor, visible: Tensor) -> Tensor:
        """Frame by frame: a visible one's features, or the token that stands for one."""
        rows = []
        for row, shown in zip(self.linear(features, "embed"), visible.tolist(), strict=True):
            empty = self.weights["frame_token"].expand(row.shape[1], -1)
            rows.append(torch.stack([row[shown.index(t)] if t in shown else empty for t in range(6)]))
        x = self.placed(torch.stack(rows), torch.arange(6))
        for i in range(2):
            x = self.block(x, f"layers.{i}", "frames")
        return self.norm(x, "norm")


def test_a_token_holds_its_place_in_the_person_and_the_persons_in_the_picture() -> None:
    x, token = clips(), torch.randn(17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = (clips(seed=7)[..., 0] > 0.8).double()
    mask[0, 3] = 1
    torch.testing.assert_close(centred(x, None), tokens_by_hand(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(centred(x, (mask[..., None], token)), tokens_by_hand(x, mask, token), rtol=1e-12, atol=1e-12)


def moved_and_scaled(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """What is seen; the rest keeps its place."""
    seen = x[..., 2:] > 0
    return torch.cat([torch.where(seen, x[..., :2] * factor + shift, x[..., :2]), x[..., 2:]], -1)


@pytest.mark.parametrize("share", [0.0, 0.3], ids=["all", "some hidden"])
def test_tokens_do_not_tell_where_and_how_large_but_in_their_last_numbers(share: float) -> None:
    x, generator = clips(), torch.Generator().manual_seed(0)
    mask = (torch.rand(3, 6, 17, 1, generator=generator) < share).double()
    hidden = (mask, torch.randn(17, 3, dtype=torch.float64, generator=generator))
    factor, shift = torch.tensor([0.2, 3.0, 1.5]).double().view(3, 1, 1, 1), torch.randn(3, 6, 1, 2, generator=generator).double()
    one, other = centred(x, hidden), centred(moved_and_scaled(x, factor, shift), hidden)
    torch.testing.assert_close(other[..., :3], one[..., :3], rtol=1e-12, atol=1e-12)
    shown = ((x[..., 2:] > 0) & (mask == 0)).any(2, keepdim=True)
    torch.testing.assert_close(other[..., 3:5], torch.where(shown, factor * one[..., 3:5] + shift, 0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other[..., 5:], factor * one[..., 5:], rtol=1e-12, atol=1e-12)


@every_encoder
def test_a_joint_that_is_not_seen_has_no_place(config: EncoderConfig) -> None:
    net, masked, batch = lift_net(config), masked_net(config), masked_batch()
    x, unseen = clips(), clips()[..., 2:] == 0
    assert unseen.double().mean() > 0.15
    elsewhere = torch.cat([torch.where(unseen, 9 * clips(seed=5)[..., :2], x[..., :2]), x[..., 2:]], -1)
    assert torch.equal(centred(elsewhere, None), centred(x, None))
    assert torch.equal(net(elsewhere), net(x))
    assert torch.equal(masked(batch | {"joints_2d": elsewhere}), masked(batch))
    hidden = (batch["joint_mask"][..., None].double(), masked.decoder.joint_token)
    assert torch.equal(centred(torch.where(hidden[0] > 0, clips(seed=5), x), hidden), centred(x, hidden))


@every_encoder
def test_a_clip_in_which_nothing_is_seen_is_finite_and_so_is_its_gradient(config: EncoderConfig) -> None:
    """A clip of one joint a frame, whose person has no size, too."""
    x, batch = clips(), masked_batch()
    x[0, ..., 2] = 0
    x[1, :, 1:, 2], x[1, :, 0, 2] = 0, 0.5
    x.requires_grad_()
    lift, masked = lift_net(config), masked_net(config)
    for net, output in ((lift, lift(x)), (masked, masked(batch | {"joints_2d": x}))):
        assert torch.isfinite(output).all()
        wanted = [x, *net.parameters()]
        assert all(torch.isfinite(part).all() for part in torch.autograd.grad(output.square().sum(), wanted))
    torch.testing.assert_close(lift(x)[2:], lift(x[2:]), rtol=1e-9, atol=1e-12)


@every_encoder
def test_the_encoder_is_its_definition(config: EncoderConfig) -> None:
    net, x = lift_net(config).encoder, clips()
    torch.testing.assert_close(net(x), ByHand(net, config).encoder(tokens_by_hand(x), torch.arange(6)), rtol=1e-9, atol=1e-9)


@every_encoder
def test_lifting_gives_every_frame_relative_to_the_root(config: EncoderConfig) -> None:
    net = lift_net(config)
    found = net(clips())
    plain = (net.encoder(clips()) @ net.head.weight.T + net.head.bias).view(3, 6, 17, 3)
    assert found.shape == (3, 6, 17, 3)
    assert (found[:, :, 0] == 0).all()
    torch.testing.assert_close(found, plain - plain[:, :, :1], rtol=1e-12, atol=1e-12)


def surer(x: Tensor, clip: int, frame: int, joint: int) -> None:
    """Change one token alone: another place would move the centre and the size, and with them every token."""
    assert 0 < x[clip, frame, joint, 2] < 0.9
    x[clip, frame, joint, 2] += 0.5


@every_encoder
def test_clips_do_not_see_each_other_and_frames_and_joints_do(config: EncoderConfig) -> None:
    net, x = lift_net(config), clips()
    torch.testing.assert_close(net(x[[2, 0, 1]]), net(x)[[2, 0, 1]], rtol=1e-9, atol=1e-12)
    surer(x, 0, 2, 5)
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
    for clip, frame, joint in ((0, 1, 3), (1, 4, 2), (2, 4, 16)):
        moved = batch["joints_2d"].clone()
        surer(moved, clip, frame, joint)
        assert (net(batch | {"joints_2d": moved})[clip] - told[clip]).abs().amax((1, 2)).min() > 1e-9


def seen_of(batch: dict[str, Tensor], name: str) -> Tensor:
    return torch.stack([clip[shown] for clip, shown in zip(batch[name], batch["visible"], strict=True)])


@every_encoder
def test_the_masked_net_is_its_definition(config: EncoderConfig) -> None:
    """The encoder on visible frames, its features put back; places about the mean of the centres that there are, in units of the size."""
    net, batch = masked_net(config), masked_batch()
    x, mask = seen_of(batch, "joints_2d"), seen_of(batch, "joint_mask")
    tokens = tokens_by_hand(x, mask, net.state_dict()["decoder.joint_token"])
    features = ByHand(net.encoder, config).encoder(tokens, batch["visible"])
    decoded = ByHand(net.decoder, config).decoder(features, batch["visible"])
    places = ByHand(net, config).linear(decoded, "head").view(3, 6, 17, 2)
    anything = ((x[..., 2] > 0) & (mask == 0)).any(2)
    assert anything.tolist() == [[True, True], [True, True], [True, False]]
    for clip in range(3):
        center = torch.stack([tokens[clip, t, 0, 3:5] for t in range(2) if anything[clip, t]]).mean(0)
        torch.testing.assert_close(net(batch)[clip], center + tokens[clip, 0, 0, 5] * places[clip], rtol=1e-9, atol=1e-9)


@every_encoder
def test_what_the_masked_net_finds_moves_and_grows_with_what_it_sees(config: EncoderConfig) -> None:
    """Exactly so once its encoder is not told where and how large the person is; a frame in which nothing is seen has no say."""
    net, batch = masked_net(config), masked_batch()
    with torch.no_grad():
        net.encoder.embed.weight.unflatten(1, (-1, 6))[..., 3:] = 0
    factor, shift = torch.tensor([0.2, 3.0, 1.5]).double().view(3, 1, 1, 1), clips(seed=5)[:, :1, :1, :2]
    found = net(batch | {"joints_2d": moved_and_scaled(batch["joints_2d"], factor, shift)})
    torch.testing.assert_close(found, factor * net(batch) + shift, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["dual_stream", "alternating"])
def test_the_decoder_never_mixes_joints(kind: str) -> None:
    """Or it could find a hidden joint by itself, and the encoder would only have to copy."""
    decoder, batch = masked_net(SMALL[kind]).decoder, masked_batch()
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 17, 12)))
    before = decoder(features, batch["restore"])
    features[:, 1, 5] += 1
    moved = (decoder(features, batch["restore"]) - before).abs().amax(-1)
    assert (moved[:, :, 5] > 1e-9).all()
    assert (moved[:, :, [joint for joint in range(17) if joint != 5]] == 0).all()


def test_the_decoder_is_half_as_wide_unless_told() -> None:
    config = DualStream(depth=1, width=16, heads=4)
    half, told = (MaskedAutoencoderNet(config, MaskedAutoencoder(decoder_width=width), FACTS) for width in (0, 12))
    assert (half.decoder.embed.out_features, told.decoder.embed.out_features) == (8, 12)
    assert len(half.decoder.layers) == 2
    assert [[name for name, _ in layer.named_children()] for layer in half.decoder.layers] == [["frames"], ["frames"]]


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
    assert one["encoder.embed.weight"].std().item() == pytest.approx(0.5, rel=0.15)
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
    tokens = tokens_by_hand(x)
    tokens = tokens.flatten(2)[:, :, None] if config.kind == "frame_tokens" else tokens
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


@pytest.mark.parametrize("mixed", [False, True], ids=["as it is", "autocast"])
def test_attention_in_half_precision_is_that_of_float32(mixed: bool) -> None:
    """Bit for bit on the same rounded numbers, its gradient too, rounded once; near that of numbers that were not rounded."""
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(4, 3, 17, 8, generator=generator) for _ in range(3)]
    half = [part.bfloat16().requires_grad_() for part in exact]
    rounded = [part.detach().float().requires_grad_() for part in half]
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        found = fused_attention(*half)
    expected = F.scaled_dot_product_attention(*rounded)
    assert torch.equal(found.float(), expected)
    gradients = (torch.autograd.grad(output.float().square().sum(), inputs) for output, inputs in ((found, half), (expected, rounded)))
    assert all(torch.equal(one, other.bfloat16()) for one, other in zip(*gradients, strict=True))
    torch.testing.assert_close(found.float(), fused_attention(*exact), rtol=2**-6, atol=2**-6)


def test_attention_in_double_precision_stays_so() -> None:
    query, key, value = (torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 3, 17, 8))) for seed in range(3))
    found = fused_attention(query, key, value)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, (query @ key.transpose(-2, -1) / 8**0.5).softmax(-1) @ value, rtol=1e-12, atol=1e-12)


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
