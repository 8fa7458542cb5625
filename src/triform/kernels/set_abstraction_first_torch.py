"""The first layer of set abstraction over all edges, on the CPU: as it is linear, its moments and gradients follow from sums over points.

With offsets o_e = x_n - x_i of the edges e from centre i to point n, and projected features p_n, the layer is h_e = W o_e + p_n. Let S_n be
the sum of o_e over the edges that end at n, and m_n their number. Then over all edges

    sum h = W sum o + sum_n m_n p_n        sum h^2 = diag(W (sum o o^T) W^T) + sum_n (2 p_n (W S_n) + m_n p_n^2)

and with BatchNorm's gradient dz_e = scale d_e - constant - slope (h_e - mean) of what arrives behind ReLU, d_e,

    sum dz_e over the edges that end at n = scale sum d_e - m_n (constant + slope (p_n - mean)) - slope W S_n
    sum dz_e o_e^T = scale sum d_e o_e^T - constant sum o^T - slope (W sum o o^T + sum_n (p_n - mean) S_n^T)

so that h itself is needed nowhere but under its activation, which is computed again for each block.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from triform.kernels import set_abstraction_first as loops
from triform.kernels.set_abstraction import CHUNKS
from triform.kernels.set_abstraction_plain_torch import Centers, Neighbors, Norm, Points, Projected, Rows

_POINTS = 1024
"""Points at once in float64."""

Sums = np.ndarray
"""(chunk, 4, channel) of `through_first_relu`."""


class FirstGradients(NamedTuple):
    """What `First.gradients` finds. That of `projected` is 0 where there is none, those of gamma and beta are in float64."""

    points: Tensor
    centers: Tensor
    weight: Tensor
    gamma: Tensor
    beta: Tensor
    projected: Tensor


class First:
    """The first layer. Blocks are slices of groups, a group being the edges of one centre."""

    def __init__(self, points: Points, centers: Centers, projected: Projected, weight: Tensor, neighbors: Neighbors) -> None:
        self.batch, self.num_centers, self.k = neighbors.shape
        self.num_edges, self.dtype, self.weight = neighbors.numel(), points.dtype, weight.detach()
        given = points.new_empty(1, 0, len(weight)) if projected is None else projected
        whole = (each.detach().contiguous().flatten(0, 1) for each in (points, centers, given, neighbors))
        self._points, self._centers, self._projected, self._neighbors = (each.numpy() for each in whole)
        self._place = self._points, self._centers, self._neighbors
        at_points, at_centers = np.zeros((len(self._points), 4)), np.zeros((len(self._centers), 3))
        products = np.zeros((self.batch, 3, 3))
        loops.sum_offsets(*self._place, at_points, at_centers, products)
        self._offsets, self._degrees = torch.split(torch.from_numpy(at_points), [3, 1], dim=1)
        self._offsets_at_centers, self._products = torch.from_numpy(at_centers), torch.from_numpy(products).sum(0)

    def moments(self) -> Tensor:
        """Mean and biased variance over all edges, (2, channel) in float64, around the features of one point."""
        wide, origin = self.weight.double(), next(self._points_at_once())[0][0]
        first, square = wide @ self._offsets.sum(0), (wide @ self._products * wide).sum(1)
        for features, offsets, degrees in self._points_at_once():
            near = features - origin
            first += (degrees * near).sum(0)
            square += (near * (2 * (offsets @ wide.t()) + degrees * near)).sum(0)
        mean = first / self.num_edges
        return torch.stack([mean + origin, (square / self.num_edges - mean.square()).clamp_(min=0)])

    def activated(self, norm: Norm, block: slice, out: Rows) -> Rows:
        """The block's rows after BatchNorm and ReLU, written to `out`."""
        points, centers, neighbors = self._place
        given = points, centers, self._projected, self.weight.t().contiguous().numpy(), neighbors, block.start, self.num_centers
        scale, shift = norm.affine(self.dtype)
        loops.activate_first(*given, scale.numpy(), shift.numpy(), out.numpy())
        return out

    def no_sums(self) -> Sums:
        return np.zeros((CHUNKS, 4, len(self.weight)))

    def through_relu(self, d: Rows, r: Rows, block: slice, out: Rows, sums: Sums) -> None:
        """Write the block's gradients where the activation r is not 0, else 0, to `out`, which is not d, and add them to the sums."""
        loops.through_first_relu(d.numpy(), r.numpy(), *self._place, block.start, self.num_centers, out.numpy(), sums)

    def needs_rows(self, *, coordinates: bool) -> bool:
        """Whether `gradients` reads every row, or only their sums."""
        return coordinates or len(self._projected) > 0

    def gradients(self, norm: Norm, d: Rows, sums: Sums, share: float, *, coordinates: bool) -> FirstGradients:
        """From what `through_relu` wrote for all blocks, and its sums.

        Args:
            share: as in `Norm.dense`; 0 where the moments are known.
            coordinates: whether to find the gradients of points and centers, else 0.
        """
        wide, (by_offsets, d_beta) = self.weight.double(), torch.split(torch.from_numpy(sums.sum(0)), [3, 1])
        scattered = self._scattered(d, coordinates=coordinates)
        centered, spread = (by_offsets.t() * wide).sum(1), wide @ self._products
        for features, offsets, _, at in self._points_at_once(scattered[0] if len(self._projected) else d_beta):
            near = features - norm.mean
            centered += (near * at).sum(0)
            spread += near.t() @ offsets
        d_gamma = centered * norm.inverse_std
        constant, slope = dense = norm.dense(d_gamma, d_beta[0], share)
        d_weight = norm.scale[:, None] * by_offsets.t() - torch.outer(constant, self._offsets.sum(0)) - slope[:, None] * spread
        d_points, d_centers, d_projected = self._at_places(norm, dense, *scattered)
        return FirstGradients(d_points, d_centers, d_weight.to(self.dtype).contiguous(), d_gamma, d_beta[0], d_projected)

    def _at_places(
        self, norm: Norm, dense: tuple[Tensor, Tensor], at_points: Tensor, at_centers: Tensor, features_at_centers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of points, centers and projected features, from what `_scattered` found; 0 where that is empty."""
        wide, (constant, slope) = self.weight.double(), dense

        def normed(d: Tensor, count: Tensor | int, features: Tensor, offsets: Tensor) -> Tensor:
            """The sums of dz over some edges, from those of d, 1, p and o."""
            return norm.scale * d.double() - count * constant - slope * (offsets @ wide.t() + features - count * norm.mean)

        found = self._zeros(self._points, 3), self._zeros(self._centers, 3), self._zeros(self._points, len(wide))
        if len(at_points):
            whole = (torch.split(each, _POINTS) for each in (at_points, self._degrees, self._features(), self._offsets, found[2]))
            for at, degrees, features, offsets, out in zip(*whole, strict=True):
                out.copy_(normed(at, degrees, degrees * features, offsets))
        if len(at_centers):
            found[0].copy_(found[2].double() @ wide)
            found[1].copy_(-(normed(at_centers, self.k, features_at_centers, self._offsets_at_centers) @ wide))
        d_points, d_centers, d_projected = (each.view(self.batch, -1, each.shape[1]) for each in found)
        return d_points, d_centers, d_projected

    def _features(self) -> Tensor:
        """Those of all points, (batch * point, channel)."""
        given = torch.from_numpy(self._projected)
        return given if len(given) else given.new_zeros(1, 1).expand(len(self._points), len(self.weight))

    def _zeros(self, places: np.ndarray, width: int) -> Tensor:
        return torch.zeros(len(places), width, dtype=self.dtype)

    def _points_at_once(self, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Features, offsets, degrees and others of some points at a time, in float64: their copies are small. Without features of one
        point, at which all edges end and whose features are 0."""
        if len(self._projected):
            whole = torch.from_numpy(self._projected), self._offsets, self._degrees, *others
        else:
            one = self._offsets.new_zeros(1, len(self.weight))
            whole = one, self._offsets.sum(0, keepdim=True), self._degrees.sum(0, keepdim=True), *others
        for parts in zip(*(torch.split(each, _POINTS) for each in whole), strict=True):
            yield tuple(each.double() for each in parts)

    def _scattered(self, d: Rows, *, coordinates: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of d over the edges that end at each point and, for coordinates, that begin at each centre, and the sum of the features
        at the ends of the latter; empty where nobody asks for them."""
        width = len(self.weight)
        at_points = np.zeros((len(self._points) if self.needs_rows(coordinates=coordinates) else 0, width), d.numpy().dtype)
        at_centers, features = np.zeros((2, len(self._centers) if coordinates else 0, width), d.numpy().dtype)
        if len(at_points):
            loops.scatter(d.numpy(), self._projected, self._neighbors, at_points, at_centers, features, self.batch)
        return torch.from_numpy(at_points), torch.from_numpy(at_centers), torch.from_numpy(features)
