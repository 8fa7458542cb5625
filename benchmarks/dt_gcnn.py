"""How fast DT-GCNN learns, beside itself with the usual formulation of its searches and EdgeConvs.

    python benchmarks/dt_gcnn.py [--quick] [--json] [--heap default|kept|both]

A training step (forward, cross-entropy, backward, AdamW) of the network as `MeshIdentity()` has it, on 32 meshes of 1723 vertices
(--quick: 2); the graphs of its spatial layers come with the batch. The usual formulation is that of `edge_conv.py` beside this file.
Agreement is that of the logits and of the first layer's gradient in float64.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_conv import NUM_VERTICES, meshes, usual_edges, usual_search
from interleaved import Case, Run, main
from triform.kernels.k_nearest_torch import k_nearest
from triform.tasks.mesh_identity import model_torch
from triform.tasks.mesh_identity.config import MeshIdentity

NUM_CLASSES, KEPT = 100, 512


def usual_edge_conv(
    x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, *_: None, eps: float, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """In place of `triform.kernels.edge_conv_torch.edge_conv`, in training."""
    mean, var = torch.zeros_like(gamma), torch.zeros_like(gamma)
    edges = F.conv2d(usual_edges(x, neighbors), weight[:, :, None, None])
    normalized = F.batch_norm(edges, mean, var, gamma, beta, True, momentum=1.0, eps=eps)
    out = F.leaky_relu(normalized, negative_slope).max(dim=-1).values.transpose(1, 2)
    return out, mean, var * (neighbors.numel() - 1) / neighbors.numel()


def network(way: str, dtype: torch.dtype) -> model_torch.IdentityNet:
    """Puts this way's functions where the model looks for them."""
    own = (k_nearest, OUR_CONV) if way == "ours" else (usual_search, usual_edge_conv)
    model_torch.k_nearest, model_torch.edge_conv = own  # type: ignore[assignment]
    return model_torch.IdentityNet(MeshIdentity(), NUM_CLASSES).to(dtype)


OUR_CONV = model_torch.edge_conv


def batch_of(batch: int, num_vertices: int, dtype: torch.dtype) -> dict[str, Tensor]:
    coordinates, normals = meshes(batch, num_vertices, dtype).split(3, dim=2)
    pool = torch.arange(min(KEPT, num_vertices)).expand(batch, -1).contiguous()
    spatial = k_nearest(coordinates, MeshIdentity().k)
    return {"coordinates": coordinates, "normals": normals, "pool_1": pool, "spatial_0": spatial, "label": torch.arange(batch)}


def gradients(net: model_torch.IdentityNet, batch: dict[str, Tensor]) -> Tensor:
    """Fill the gradients; returns the logits."""
    torch.manual_seed(0)
    logits = net(batch)[2]
    F.cross_entropy(logits, batch["label"]).backward()
    return logits.detach()


def setup(way: str, quick: bool) -> Run:
    net, inputs = network(way, torch.float32), batch_of(2 if quick else 32, NUM_VERTICES, torch.float32)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    gradients(net, batch_of(2, 600, torch.float32))  # what is compiled is not measured

    def run() -> None:
        optimizer.zero_grad()
        gradients(net, inputs)
        optimizer.step()

    return run


def agree() -> bool:
    """Of the two ways in float64, on small meshes."""
    found = []
    for way in ("ours", "usual"):
        net = network(way, torch.float64)
        logits = gradients(net, batch_of(3, 600, torch.float64))
        found.append((logits, net.edge[0].linear.weight.grad))
    return all(bool(torch.allclose(ours, usual, rtol=1e-7, atol=1e-9)) for ours, usual in zip(*found, strict=True))


CASES = [
    Case(
        name="DT-GCNN, training step",
        ours=lambda quick: setup("ours", quick),
        reference=lambda quick: setup("usual", quick),
        agree=lambda _quick: agree(),
        turns=(3, 3),
    )
]

if __name__ == "__main__":
    main(CASES, __doc__)
