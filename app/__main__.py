"""`python -m app`: the dashboard from a clone. See `adadpo_mini/cli/serve.py` for the options."""

import sys

from adadpo_mini.cli.flags import Parser
from adadpo_mini.cli.serve import add_app_arguments

from .serving import run

PROGRAM = "python -m app"


def main() -> int:
    """Serve until interrupted. Returns 2 if the page cannot be served."""
    parser = Parser(prog=PROGRAM, description="Serve the dashboard.")
    add_app_arguments(parser)
    arguments = parser.parse_args()
    return run(arguments.host, arguments.port, arguments.runs, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
