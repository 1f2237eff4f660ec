"""nerfstudio's nerfacto, with its PyTorch layers where there is no tiny-cuda-nn.

Its own model, samplers, losses and rates (nerfstudio 1.1, `method_configs["nerfacto"]`); poses are
exact here, so they are not refined, and there is no appearance of single photographs.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from .peer import Fit, not_installed
from .task import Task

RAYS, CHUNK = 4096, 4096
ANNEALED = 1000  # steps over which the proposals' weights sharpen, and 10 how much (its defaults)


class Nerfacto:
    name = "nerfstudio nerfacto"
    module = "nerfstudio"

    def absent(self, place: torch.device) -> str | None:
        return not_installed(self.module)

    def fit(self, task: Task, deadline: float) -> Fit:
        from nerfstudio.data.scene_box import SceneBox

        generator = task.start()
        config = self.config(task)
        model = config.setup(scene_box=SceneBox(self.box(task)), num_train_data=len(task.pixels))
        model.to(task.place).train()
        optimiser = torch.optim.Adam(
            [*model.field.parameters(), *model.proposal_networks.parameters()], lr=1e-2, eps=1e-15
        )
        steps = 0
        while steps == 0 or time.monotonic() < deadline:
            progress = min(steps / ANNEALED, 1.0)
            model.proposal_sampler.set_anneal(10 * progress / (9 * progress + 1))
            origins, directions, wanted = task.draw(RAYS, generator)
            outputs = model(self.bundle(task, origins, directions))
            batch = {"image": wanted}
            metrics = model.get_metrics_dict(outputs, batch)
            loss = sum(model.get_loss_dict(outputs, batch, metrics).values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            model.proposal_sampler.step_cb(steps)
            steps += 1
        model.eval()

        @torch.no_grad()
        def render(origins: Tensor, directions: Tensor) -> Tensor:
            pieces = zip(origins.split(CHUNK), directions.split(CHUNK), strict=True)
            return torch.cat([model(self.bundle(task, o, d))["rgb"] for o, d in pieces])

        return Fit(steps, steps * RAYS, render)

    def config(self, task: Task) -> Any:
        from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
        from nerfstudio.models.nerfacto import NerfactoModelConfig

        has_tcnn = task.place.type == "cuda" and not_installed("tinycudann") is None
        return NerfactoModelConfig(
            implementation="tcnn" if has_tcnn else "torch",
            background_color="white",
            disable_scene_contraction=True,
            near_plane=task.near,
            far_plane=task.far,
            average_init_density=0.01,
            use_appearance_embedding=False,
            camera_optimizer=CameraOptimizerConfig(mode="off"),
        )

    def box(self, task: Task) -> Tensor:
        """A cube: the hash grid is one."""
        middle, half = task.box.mean(0), (task.box[1] - task.box[0]).max() / 2
        return torch.stack([middle - half, middle + half])

    def bundle(self, task: Task, origins: Tensor, directions: Tensor) -> Any:
        from nerfstudio.cameras.rays import RayBundle

        one = torch.ones_like(origins[:, :1])
        return RayBundle(
            origins=origins,
            directions=directions,
            pixel_area=one / float(task.pixels.cameras.fx.median()) ** 2,
            camera_indices=torch.zeros_like(one, dtype=torch.long),
            nears=one * task.near,
            fars=one * task.far,
        )
