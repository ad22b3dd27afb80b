"""Debian's Glance on loopback, for tests.

serve.py DIR makes one, by what is in DIR/glance-api.conf, unless it is there, and
serves it until its standard input ends. Nothing of the system's is read or written.
"""
import os
import sys

directory = sys.argv[1]
sys.argv = ["glance-api", "--config-file", os.path.join(directory, "glance-api.conf")]

import eventlet.tpool  # noqa: E402

from glance.cmd import api  # noqa: E402  (it patches the modules that come after)
from glance.cmd import manage  # noqa: E402
from glance.common import config  # noqa: E402


def die_with_the_test():
    eventlet.tpool.execute(sys.stdin.read)
    os._exit(0)


if not os.path.exists(os.path.join(directory, "glance.db")):
    config.parse_args()
    manage.DbCommands().sync()
eventlet.spawn_n(die_with_the_test)
api.main()
