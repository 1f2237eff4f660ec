"""`python -m nerfkit` is the same as `nerfkit`."""

import sys

from nerfkit.cli import main

sys.exit(main())
