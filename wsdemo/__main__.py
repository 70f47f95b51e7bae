"""``python -m wsdemo``: see wsdemo.cli.main."""

import sys

from wsdemo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
