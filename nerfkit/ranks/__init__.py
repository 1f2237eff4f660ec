"""Several processes that work on one thing: on one machine by memory they share, else by messages.

Symbols: S processes in all ("ranks" 0..S-1, rank 0 leads), N machines ("nodes"), L ranks a node.
"""

from nerfkit.ranks.claims import Claims
from nerfkit.ranks.processes import joined
from nerfkit.ranks.team import ALONE, Team

__all__ = ["ALONE", "Claims", "Team", "joined"]
