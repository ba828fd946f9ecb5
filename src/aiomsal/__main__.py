"""`python -m aiomsal` is the command `aiomsal`."""

import sys

from aiomsal.cli import main

if __name__ == "__main__":
    sys.exit(main())
