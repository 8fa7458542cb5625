"""How fast and in how much memory the dual-stream encoder of poses learns, beside the network as it is usually written.

    python benchmarks/pose.py [--quick] [--json] [--heap default|kept|both]

A step is forward, lifting losses, backward and AdamW on 2 clips of 243 frames x 17 joints (--quick: 81 frames, 2 layers), by the default
`DualStream`. The usual way is the same network with PyTorch's linear layers and its attention written out from the published equation, so
that all scores are held for the backward pass; "usual layers" is the fused attention with PyTorch's linear layers. Agreement is that of
outputs and gradients in float64, to 1e-9 of the largest number.
"""

import torch
from torch import Tensor, nn

from interleaved import Case, Run, main
from triform.kernels.choice import use_kernels
from triform.tasks.human_pose.config import DualStream, LiftingLosses
from triform.tasks.human_pose.loss_torch import lifting_loss
from triform.tasks.human_pose.model_torch import Block, LiftNet

BATCH, NUM_JOINTS = 2, 17


class ExplicitAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V for every head (Vaswani et al., NeurIPS 2017, equation 1), its scores held for the backward pass.

    The scale is on Q, which is smaller than the scores, and what lies apart in memory is left to the product: the better of the usual ways.
    """

    def __init__(self, width: int, heads: int, over: str) -> None:
        super().__init__()
        self.heads, self.over = heads, over
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        mixed = scores.softmax(-1) @ value
        mixed = mixed.transpose(2, 3) if self.over == "joints" else mixed.permute(0, 3, 1, 2, 4)
        result: Tensor = self.out(mixed.reshape(x.shape))
        return result

    def split(self, x: Tensor) -> Tensor:
        """(batch, frame, head, joint, channel), or (batch, joint, head, frame, channel)."""
        heads = x.view(*x.shape[:3], self.heads, -1)
        return heads.transpose(2, 3) if self.over == "joints" else heads.permute(0, 2, 3, 1, 4)


def network(way: str, config: DualStream, num_frames: int) -> LiftNet:
    """The same weights each time."""
    torch.manual_seed(0)
    net = LiftNet(config, {"num_frames": num_frames, "num_joints": NUM_JOINTS})
    if way == "usual":
        for block in [module for module in net.modules() if isinstance(module, Block)]:
            ours, block.attention = block.attention, ExplicitAttention(config.width, config.heads, block.attention.over)  # type: ignore[assignment]
            block.attention.load_state_dict(ours.state_dict())
    return net


def clips(num_frames: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Arrays of a lifting batch, random."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, num_frames, NUM_JOINTS, 3)
    joints = {name: torch.randn(shape, generator=generator, dtype=dtype) for name in ("joints_2d", "joints_3d", "target_2d")}
    ones = torch.ones(shape[:2], dtype=dtype)
    return {**joints, "weight": ones, "seen": ones}


def setup(way: str, quick: bool) -> Run:
    config, num_frames = (DualStream(depth=2), 81) if quick else (DualStream(), 243)
    use_kernels("auto" if way == "ours" else "reference")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    net, batch = network(way, config, num_frames), clips(num_frames, torch.float32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss, _ = lifting_loss(LiftingLosses(), net(batch["joints_2d"]), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def differences(num_frames: int = 20) -> dict[str, float]:
    """The largest difference in float64, relative to the largest number, of outputs and gradients."""
    config = DualStream(depth=2, width=64)
    found: dict[str, list[Tensor]] = {}
    for way in ("ours", "usual"):
        net, batch = network(way, config, num_frames).double(), clips(num_frames, torch.float64)
        output = net(batch["joints_2d"])
        lifting_loss(LiftingLosses(), output, batch)[0].backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
        found[way] = [output.detach(), torch.cat(gradients)]
    pairs = zip(("outputs", "gradients"), *found.values(), strict=True)
    return {name: float((ours - usual).abs().max() / usual.abs().max()) for name, ours, usual in pairs}


CASES = [
    Case(
        name="dual-stream encoder, training step",
        ours=lambda quick: setup("ours", quick),
        reference=lambda quick: setup("usual", quick),
        others={"usual layers": lambda quick: setup("usual layers", quick)},
        agree=lambda _quick: max(differences().values()) <= 1e-9,
        memory_share=0.9,
        turns=(3, 3),
    )
]

if __name__ == "__main__":
    main(CASES, __doc__)
