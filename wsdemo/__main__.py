"""``python -m wsdemo``: see wsdemo.cli.main."""

import sys


def run() -> int:
    """Runs one command; Ctrl-C while it still starts ends it as quietly as later."""
    try:
        from wsdemo.cli.main import main
    except KeyboardInterrupt:
        print("Interrupted: it had not begun.", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
