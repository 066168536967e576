"""`python -m gui [PANEL]` opens the operator's window."""

import sys

from gui.main import main

sys.exit(main(sys.argv[1:]))
