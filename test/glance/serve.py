"""Debian's Glance on loopback, for tests.

serve.py DIR makes one, by what is in DIR/glance-api.conf, unless it is there, and
serves it until its standard input ends. Nothing of the system's is read or written.
"""
import os
import sys
import threading

directory = sys.argv[1]
sys.argv = ["glance-api", "--config-file", os.path.join(directory, "glance-api.conf")]


def die_with_the_test():
    os.read(0, 1)
    os._exit(0)


# Before eventlet makes threads its own: this one has to wait where no other runs.
threading.Thread(target=die_with_the_test, daemon=True).start()

from glance.cmd import api  # noqa: E402  (it patches the modules that come after)
from glance.cmd import manage  # noqa: E402
from glance.common import config  # noqa: E402


if not os.path.exists(os.path.join(directory, "glance.db")):
    config.parse_args()
    manage.DbCommands().sync()
api.main()
