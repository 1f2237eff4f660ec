"""Gradients and Adam moments of a field, one training step, and how they follow its octree.

Symbols: V vertices, R rays. The loss is the sum over the channels of the squared error, averaged
over the rays.

The ranks of a node have one set of tables. Each adds the gradients of its rays to them, as threads
do; then each updates its part of the rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.fields.fast import FastField, move
from nerfkit.fields.vertices import BRICK
from nerfkit.kernels.fused_render import FEATURES, Fitted, fit_rays
from nerfkit.kernels.level_sum import level_sum_
from nerfkit.kernels.sparse_adam import adam_step_, sparse_adam_step_
from nerfkit.octree import Octree
from nerfkit.ranks import ALONE, Team
from nerfkit.training.pixels import Batch
from nerfkit.training.smoothness import add_variation_gradient

BETAS = (0.9, 0.99)
EPS = 1e-15
MOMENTS = ("density_mean", "density_square", "features_mean", "features_square")
NETWORK_MOMENTS = ("network_mean", "network_square")


@dataclass(frozen=True)
class Rates:
    """Learning rates of one step."""

    density: float
    features: float
    network: float


class Optimiser:
    """Adam on a field; a vertex that a step's rays do not touch is left alone.

    Attributes:
        moments: running means and mean squares, by the names above.
        max_weights: [V] largest weight of a sample in each finest voxel since the last relayout, at
            the row of the voxel's lowest corner.
        ray_gradient: [R, 6] of the last step's origins and directions, if that was wanted.
    """

    def __init__(self, field: FastField, team: Team = ALONE) -> None:
        self.field, self.team = field, team
        if team.size > 1:
            field.share(team)
        v = len(field.vertices)
        self.moments = {name: torch.zeros_like(field.network) for name in NETWORK_MOMENTS}
        # one mean square for the features of a vertex
        for name in MOMENTS:
            shape = (v, FEATURES) if name == "features_mean" else (v,)
            self.moments[name] = team.zeros(*shape, device=field.device)
        self.network_gradient = torch.zeros_like(field.network)
        self.ray_gradient = torch.zeros(0, 6)
        self._allocate()

    def _allocate(self) -> None:
        v, zeros = len(self.field.vertices), self.team.zeros
        at = {"device": self.field.device}
        self.density_gradient = zeros(v, **at)
        self.features_gradient = zeros(v, FEATURES, **at)
        self.density_touched = zeros(v, dtype=torch.uint8, **at)
        self.features_touched = zeros(v, dtype=torch.uint8, **at)
        self.max_weights = zeros(v, **at)

    def relayout(self, octree: Octree, depths: list[int]) -> None:
        """As `FastField.relayout`, for the field and for what belongs to it here."""
        # none of these outlives a step: free them before the field exists twice
        self.density_gradient = self.features_gradient = self.max_weights = torch.empty(0)
        old = self.field.vertices
        self.field.relayout(octree, depths)
        for name in MOMENTS:
            self.moments[name] = move(self.field.vertices, old, self.moments[name], self.team)
        self._allocate()

    def leaf_weights(self) -> Tensor:
        """Largest weight of a sample in each leaf of the octree, [n_leaves]."""
        return self.max_weights[self.field.vertices.of_leaves(self.field.octree)]

    def step(
        self,
        batch: Batch,
        background: Tensor,
        jitter: Tensor,
        rates: Rates,
        number: int,
        early_stop: float,
        weight_min: float,
        directions: bool = True,
        smoothness: float = 0.0,
        distortion: float = 0.0,
        depth_weight: float = 0.0,
        with_rays: bool = False,
    ) -> Fitted:
        """Render rays on `background` [R, 3], compare with the batch, and take one step.

        Returns what this rank's rays made.

        Args:
            jitter: [R] in [0, 1), shifts the samples of a ray.
            number: of the step, from 1.
            directions: whether the network learns what depends on the direction of view.
            smoothness: weight of the density's total variation.
            distortion: weight of the spread of a ray's weights.
            depth_weight: weight of the relative errors of depths.
            with_rays: leave the gradient of the batch's rays in `ray_gradient`.
        """
        field, team = self.field, self.team
        targets = torch.lerp(background, batch.colors, batch.alphas)
        if with_rays:
            bent = field.bent(batch.origins, batch.directions)
            in_cube, pieces, grad_rays = bent[:2], bent.pieces, torch.zeros_like(bent.rows)
        else:
            in_cube = field.path(batch.origins, batch.directions)[:2]
            pieces, grad_rays = field.pieces(batch.origins, batch.directions), None
        depths = batch.depths
        if depths is not None:
            depths = field.path(batch.origins, batch.directions).cube(depths)
        fitted = fit_rays(
            *(*in_cube, targets),
            *(field.grid, field.summed, field.features, field.network, field.shape.widths),
            scale=1 / max(1, batch.n_all or len(targets)),
            grad_density=self.density_gradient,
            grad_features=self.features_gradient,
            grad_mlp=self.network_gradient,
            features_touched=self.features_touched,
            max_weights=self.max_weights,
            jitter=jitter,
            background=background,
            early_stop=early_stop,
            weight_min=weight_min,
            pieces=pieces,
            grad_rays=grad_rays,
            depths=depths,
            depth_weight=depth_weight,
            distortion=distortion,
            **field.sampling(field.shape.step_voxels),
        )
        if with_rays:
            self.ray_gradient = bent.to_world(grad_rays)
        team.sum_(self.network_gradient)  # by which all ranks of the node have added theirs
        self._sum_nodes()
        if not directions:
            widths = field.shape.widths
            first = self.network_gradient[: widths[0] * widths[1]].view(widths[1], widths[0])
            first[:, FEATURES:] = 0
        if smoothness:
            if team.leads_node:
                add_variation_gradient(
                    *(self.density_gradient, field.summed, field.vertices, smoothness, number)
                )
            team.barrier()
        level_sum_(self.density_gradient, field.vertices, transposed=True, team=team)
        rows = team.rows(len(field.vertices), BRICK)
        touched = self.density_touched[rows].view(torch.bool)
        torch.ne(self.density_gradient[rows], 0, out=touched)
        for name, rate in (("density", rates.density), ("features", rates.features)):
            tensors = (
                getattr(field, name),
                getattr(self, f"{name}_gradient"),
                self.moments[f"{name}_mean"],
                self.moments[f"{name}_square"],
            )
            sparse_adam_step_(
                *(tensor.view(len(field.vertices), -1)[rows] for tensor in tensors),
                getattr(self, f"{name}_touched")[rows],
                lr=rate,
                betas=BETAS,
                eps=EPS,
                step=number,
            )
        adam_step_(
            *(field.network, self.network_gradient),
            *(self.moments[name] for name in NETWORK_MOMENTS),
            lr=rates.network,
            betas=BETAS,
            eps=EPS,
            step=number,
        )
        field.sum_levels()
        return fitted

    def _sum_nodes(self) -> None:
        """Sum the tables of gradients over the nodes."""
        if self.team.nodes == 1:
            return
        rows = self.team.rows(len(self.field.vertices))
        touched = self.density_touched[rows].view(torch.bool)
        torch.ne(self.density_gradient[rows], 0, out=touched)
        self.team.sum_tables_(self.density_gradient, self.density_touched)
        self.team.sum_tables_(self.features_gradient, self.features_touched)
