"""`python -m maesil`."""

import sys

from maesil.cli import main

sys.exit(main())
