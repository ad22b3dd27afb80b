"""Runs the Barbican that Debian has, on SQLite and without Keystone: it takes
the project from a header and believes any token.

keymanager.py DIR; prints its port once it listens.
"""
import os
import socketserver
import sys
from wsgiref import simple_server

home = sys.argv[1]
config, paste = os.path.join(home, "barbican.conf"), os.path.join(home, "paste.ini")
with open(config, "w") as f:
    f.write("""[DEFAULT]
sql_connection = sqlite:///%s/barbican.db
connection = sqlite:///%s/barbican.db
db_auto_create = True
log_file = %s/barbican.log
host_href =
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
""" % (home, home, home))
with open(paste, "w") as f:
    f.write("""[composite:main]
use = egg:Paste#urlmap
/v1: api
[pipeline:api]
pipeline = unauthenticated-context microversion app
[app:app]
paste.app_factory = barbican.api.app:create_main_app
[filter:unauthenticated-context]
paste.filter_factory = barbican.api.middleware.context:UnauthenticatedContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
""")
sys.argv = ["barbican-api", "--config-file", config]

from barbican.common import config as options
from paste import deploy

options.parse_args(options.CONF, args=["--config-file", config])
app = deploy.loadapp("config:" + paste, name="main")


class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True  # one that waits for a request holds up no other


server = simple_server.make_server("127.0.0.1", 0, app, server_class=Server, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
