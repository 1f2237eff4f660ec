"""Other radiance-field programs on the same rays and images in the same run.

One adapter a file, all with the interface of `peer.Peer`. A program that is not installed, or that
cannot run on this device, is listed as absent, with the reason; no figure of it is filled in from
elsewhere.
"""

from .nerfacc_grid import NerfaccGrid
from .nerfacto import Nerfacto
from .nerfkit_fast import NerfkitFast
from .peer import Peer
from .torch_nerf import TorchNerf

PEERS: tuple[Peer, ...] = (NerfkitFast(), TorchNerf(), Nerfacto(), NerfaccGrid())
