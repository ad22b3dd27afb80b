"""Debian's Keystone on loopback, for tests.

serve.py DIR PORT makes one in DIR, unless it is there, and serves it until its
standard input ends. It says at which port on standard output. PORT may be 0.
Nothing of the system's is read or written.
"""
import base64
import contextlib
import datetime
import os
import socketserver
import sqlite3
import sys
import threading
import urllib.parse
import wsgiref.simple_server

directory, port = sys.argv[1], int(sys.argv[2])
sys.argv = ["keystone"]  # whose options are not ours
fresh = not os.path.exists(os.path.join(directory, "keystone.db"))
conf = os.path.join(directory, "keystone.conf")
with open(conf, "w") as f:
    f.write("""
[DEFAULT]
log_file = {0}/keystone.log
[database]
connection = sqlite:///{0}/keystone.db
sqlite_synchronous = false
[fernet_tokens]
key_repository = {0}/fernet
[fernet_receipts]
key_repository = {0}/fernet
[credential]
key_repository = {0}/credential
[cache]
enabled = true
backend = oslo_cache.dict
[token]
expiration = 86400
[identity]
password_hash_rounds = 4
""".format(directory))


def die_with_the_test():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=die_with_the_test, daemon=True).start()

from keystone.cmd import bootstrap  # noqa: E402
from keystone.common import fernet_utils  # noqa: E402
from keystone.common import provider_api  # noqa: E402
from keystone.common.sql import upgrades  # noqa: E402
from keystone.server.flask import core  # noqa: E402
from keystone.token import token_formatters  # noqa: E402


def make():
    """What keystone-manage does: db_sync, fernet_setup and credential_setup."""
    if not fresh:
        return
    upgrades.offline_sync_database_to_version()
    with contextlib.closing(sqlite3.connect(os.path.join(directory, "keystone.db"))) as db:
        db.execute("PRAGMA journal_mode=WAL")  # who reads holds up nobody who writes
    for name in ("fernet", "credential"):
        keys = fernet_utils.FernetUtils(os.path.join(directory, name), 3, name)
        keys.create_key_directory()
        keys.initialize_key_repository()


application = core.initialize_application("public", make, [conf])


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = 60

    def log_message(self, *args):
        pass


def expired(query):
    """A token as Keystone would have made it, of which the time is over."""
    asked = urllib.parse.parse_qs(query)
    ends = datetime.datetime.utcnow() - datetime.timedelta(minutes=10)
    return token_formatters.TokenFormatter().create_token(
        asked["user"][0], ends.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
        [base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()],
        token_formatters.ProjectScopedPayload, methods=["password"], project_id=asked["project"][0])


def serve(environ, start_response):
    if environ["PATH_INFO"] != "/expired":
        return application(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [expired(environ["QUERY_STRING"]).encode()]


server = wsgiref.simple_server.make_server("127.0.0.1", port, serve, Server, Handler)
port = server.server_port
if fresh:
    url = "http://127.0.0.1:%d/v3" % port
    first = bootstrap.Bootstrapper.__new__(bootstrap.Bootstrapper)  # the application has loaded the back ends
    first.__dict__.update(
        admin_password="the admin's password", admin_username="admin", project_id=None, project_name="admin",
        reader_role_id=None, reader_role_name="reader", member_role_id=None, member_role_name="member",
        admin_role_id=None, admin_role_name="admin", region_id="RegionOne", service_name="keystone",
        public_url=url, internal_url=url, admin_url=url, endpoints={}, default_domain_id=None, admin_user_id=None,
        immutable_roles=True)
    first.bootstrap()
print(port, flush=True)
server.serve_forever()
