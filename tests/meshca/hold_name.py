"""A process that takes a name and keeps it until killed; run by tests/meshca/test_name_locks.py."""

import signal
import sys

from meshca.database import open_engine
from meshca.name_locks import open_name_locks

if __name__ == "__main__":
    locks = open_name_locks(open_engine(sys.argv[1]))
    sys.stdout.write(f"{locks.hold(sys.argv[2])}\n")
    sys.stdout.flush()
    signal.pause()
