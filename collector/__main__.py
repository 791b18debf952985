"""`python -m collector` is `pai-collector`."""

import sys

from collector.cli.process import handle_signals, repair_streams


def main() -> int:
    """Run the process's command line and return its exit status."""
    handle_signals()
    repair_streams()
    try:
        from collector.cli import app
    except KeyboardInterrupt:
        return 130
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
