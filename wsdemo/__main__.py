"""``python -m wsdemo``: see wsdemo.cli."""

import sys

from wsdemo.cli import main

if __name__ == "__main__":
    sys.exit(main())
