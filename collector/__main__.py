"""`python -m collector` is `pai-collector`."""

import sys

from collector.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
