"""`python -m adadpo_mini` is `adadpo-mini`."""

import sys

from adadpo_mini.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
