"""`python -m app`: the dashboard from a clone. See `adadpo_mini/cli/serve.py` for the options."""

import argparse
import sys
from typing import NoReturn

from adadpo_mini.cli.serve import add_app_arguments

from .serving import run

PROGRAM = "python -m app"


class Parser(argparse.ArgumentParser):
    """Rejects a wrong argument with one line, as `adadpo-mini` does."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see `{self.prog} --help`.\n")


def main() -> int:
    """Serve until interrupted. Returns 2 if the page cannot be served."""
    parser = Parser(prog=PROGRAM, description="Serve the dashboard.")
    add_app_arguments(parser)
    arguments = parser.parse_args()
    return run(arguments.host, arguments.port, arguments.runs, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
