"""Triton fused renderer. Shapes as in the package docstring."""

import torch
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration

from .gpu_backward import backward_kernel
from .gpu_forward import forward_kernel
from .gpu_launch import Launch, Scene, generation, network_shape
from .gpu_launch import launches as usual
from .reference import Fitted, Rendered


class _RenderRays(torch.autograd.Function):
    @staticmethod
    def forward(ctx, background, density, features, mlp, scene, launches):
        field = scene.field()
        save = any(ctx.needs_input_grad)
        pixels = scene.forward(field, save, launches[0])
        if save:
            ctx.set_materialize_grads(False)
            # The four that may change between the passes are saved by autograd, which notices.
            ctx.save_for_backward(background, density, features, mlp)
            ctx.scene, ctx.pixels, ctx.launch = scene, pixels, launches[1]
        return pixels.colors, pixels.depths, pixels.opacities

    @staticmethod
    @once_differentiable
    def backward(ctx, g_colors, g_depths, g_opacities):
        background, density, features, mlp = ctx.saved_tensors
        scene, pixels = ctx.scene, ctx.pixels
        n, device = scene.n_rays, scene.device
        g_background = None
        if ctx.needs_input_grad[0] and g_colors is not None:
            g_background = (1 - pixels.opacities)[:, None] * g_colors
            if background.dim() == 1:
                g_background = g_background.sum(0)
        if not any(ctx.needs_input_grad[1:4]):
            return g_background, None, None, None, None, None
        if g_colors is None:
            g_colors = torch.zeros(n, 3, device=device)
        if g_depths is None:
            g_depths = torch.zeros(n, device=device)
        if g_opacities is None:
            g_opacities = torch.zeros(n, device=device)
        grads = [torch.zeros_like(x, dtype=torch.float32) for x in (density, features, mlp)]
        if n:
            scene.backward(
                pixels,
                grads,
                ctx.launch,
                torch.zeros(len(density), dtype=torch.uint8, device=device),
                g_colors=g_colors.contiguous(),
                g_depths=g_depths.contiguous(),
                g_opacities=g_opacities.contiguous(),
                peak=g_colors.abs().amax().reshape(1),
            )
        kept = zip(grads, (density, features, mlp), ctx.needs_input_grad[1:4], strict=True)
        return g_background, *(g.to(x.dtype) if n else None for g, x, n in kept), None, None


def render_rays(*args, launches: tuple[Launch, Launch] | None = None, **settings) -> Rendered:
    """Same function as the reference; float32, features in 16 bits if given so."""
    scene = Scene(*args, **settings)
    watched = [scene.tensors[name] for name in ("backgrounds", "density", "features", "mlp")]
    rich = scene.n_pieces is not None
    launches = launches or usual(scene.widths, rich, generation(scene.device))
    return Rendered(*_RenderRays.apply(*watched, scene, launches))


def fit_rays(
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    *field,
    scale: float,
    grad_density: torch.Tensor,
    grad_features: torch.Tensor,
    grad_mlp: torch.Tensor,
    features_touched: torch.Tensor,
    max_weights: torch.Tensor | None,
    launches: tuple[Launch, Launch] | None = None,
    distortion: float = 0.0,
    depths: torch.Tensor | None = None,
    depth_weight: float = 0.0,
    grad_rays: torch.Tensor | None = None,
    **settings,
) -> Fitted:
    """Same function as the reference, float32 only.

    The counts are tensors without dimensions: to read them waits for the device.
    """
    if targets.dtype != torch.float32:
        raise ValueError(f"`targets` must be float32 on backend 'gpu', got {targets.dtype}")
    with torch.no_grad():
        scene = Scene(origins, directions, *field, **settings)
        rich = distortion != 0.0 or depths is not None or grad_rays is not None
        rich = rich or scene.n_pieces is not None
        launches = launches or usual(scene.widths, rich, generation(scene.device))
        pixels = scene.forward(
            *(scene.field(), True, launches[0]),
            world=depths is not None,
            moments=distortion != 0.0,
        )
        squared_errors = torch.empty(scene.n_rays, device=scene.device)
        if scene.n_rays:
            scene.backward(
                pixels,
                (grad_density, grad_features, grad_mlp),
                launches[1],
                features_touched,
                targets=targets.contiguous(),
                scale=float(scale),
                squared=squared_errors,
                max_weights=max_weights,
                spread=float(scale * distortion),
                depth_targets=None if depths is None else depths.contiguous(),
                depth_weight=float(depth_weight),
                grad_rays=grad_rays,
                # colours and targets are in 0..1
                peak=torch.full((1,), 2.0 * abs(scale), device=scene.device),
            )
    return Fitted(squared_errors, *pixels.counts.unbind(), pixels.colors)


# What is compiled in practice, and the limits that must hold (see kernels/shared/aot.py).
_POINTERS = {
    **dict.fromkeys(("words", "tables", "levels", "last", "last_row", "counter"), "*i32"),
    **{"counts": "*i64", "first_piece": "*i64", "touched": "*u8", "packed": "*fp16"},
}
_INTEGERS = ("back_stride", "n_rays", "n_levels", "finest_offset", "resolution")
_NUMBERS = (
    *("scale", "box_x", "box_y", "box_z", "voxel", "step", "near", "far"),
    *("optical_stop", "weight_min", "density_scale", "density_bias", "depth_weight", "spread"),
)


def _signature(kernel, constants: dict, features: str) -> str:
    types = []
    for name in kernel.arg_names:
        if name in constants:
            continue
        known = _POINTERS.get(name, features if name == "features" else "*fp32")
        types.append("i32" if name in _INTEGERS else "fp32" if name in _NUMBERS else known)
    return " ".join(types)


def _configuration(name, kernel, launch, features, hidden, stack=0, bands=3, archs=(), **constants):
    constants |= {
        **network_shape((16 + bands**2, *hidden, 3), bands),
        **{"DTYPE": tl.float16, "BLOCK": launch.block, "INNER": launch.inner},
        **{"FILL": launch.fill, "REGEN": launch.regen, "HAS_BACK": True},
    }
    shared = 164 * 1024 // launch.programs - 1024  # of an A100
    matrix, wide = r"(HMMA|HGMMA|UTC\w*MMA)", r"LDG\.E\S*\.128"
    signature = _signature(kernel, constants, features)
    return Configuration(
        *(f"fused_render {name}", kernel, signature, constants, launch.warps),
        max_registers=launch.registers,
        max_shared=shared,
        max_stack=stack,
        wanted=(matrix, wide),
        maxnreg=launch.registers,
        archs=archs,
    )


# Bytes of stack a thread, used once a round and never in an inner loop, by hidden layers: of the
# forward, and of the backward on sm_80, where operands of products take registers. The second are
# those of more than straight rays and their colours.
_STACK = {1: (0, 160), 2: (96, 1024)}
_RICH_STACK = {1: (0, 384), 2: (96, 1280)}
_ARCHS = (80, 90)


def _configurations() -> list[Configuration]:
    found = []
    for hidden in ((64,), (64, 64)):
        for rich in (False, True):
            found += _forwards(hidden, rich)
            found += _backwards(hidden, rich)
    return found


def _forwards(hidden: tuple[int, ...], rich: bool) -> list[Configuration]:
    launch = usual((25, *hidden, 3))[0]
    frame = {"features": "*fp16", "HAS_JITTER": False, "SAVE": False}
    fit = {"features": "*fp32", "HAS_JITTER": True, "SAVE": True}
    plain = dict.fromkeys(("PIECES", "WORLD", "MOMENTS"), False)
    bent = {**plain, "PIECES": True}
    variants = {"frame": {**frame, **plain}, "fit": {**fit, **plain}}
    if rich:
        variants = {
            "frame in pieces": {**frame, **bent, "WORLD": True},
            "fit in pieces": {**fit, **bent},
            "fit of all": {**fit, **dict.fromkeys(plain, True)},
        }
    stack = (_RICH_STACK if rich else _STACK)[len(hidden)][0]
    common = {"kernel": forward_kernel, "launch": launch, "hidden": hidden, "stack": stack}
    units = " ".join(map(str, hidden))
    return [_configuration(f"{name} {units}", **common, **v) for name, v in variants.items()]


def _backwards(hidden: tuple[int, ...], rich: bool) -> list[Configuration]:
    plain = dict.fromkeys(("PIECES", "SPREAD", "DEPTH", "RAYS"), False)
    variants = {"gradient": plain}
    if rich:  # an unbounded scene, poses of a bounded one, and all at once
        variants = {
            "gradient in pieces": {**plain, "PIECES": True, "SPREAD": True},
            "gradient of rays": {**plain, "RAYS": True},
            "gradient of all": dict.fromkeys(plain, True),
        }
    stack = (_RICH_STACK if rich else _STACK)[len(hidden)][1]
    common = {"kernel": backward_kernel, "hidden": hidden, "stack": stack, "features": "*fp32"}
    common |= {"HAS_JITTER": True, "FIT": True, "HAS_MAX": True}
    units, found = " ".join(map(str, hidden)), []
    of_arch = {arch: usual((25, *hidden, 3), rich, arch // 10)[1] for arch in _ARCHS}
    for launch in dict.fromkeys(of_arch.values()):
        archs = tuple(arch for arch in _ARCHS if of_arch[arch] == launch)
        # one launch for all of them is that of other cards too
        common |= {"launch": launch, "archs": () if archs == _ARCHS else archs}
        for name, options in variants.items():
            found.append(_configuration(f"{name} {units}", **common, **options))
    return found


AOT = [*_configurations()]
