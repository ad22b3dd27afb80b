"""The openstack client as Debian has it, many commands in one process.

Each line of standard input is a list, in JSON: the arguments of one openstack
command. Each line of output is an object: its status, output and errors.
"""
import contextlib
import io
import json
import sys

from openstackclient import shell

out = sys.stdout
for line in sys.stdin:
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            app = shell.OpenStackShell()
            app.stdout, app.stderr = said, complained
            status = app.run(json.loads(line))
        except SystemExit as e:
            status = e.code
        except Exception as e:
            status, _ = 1, complained.write(repr(e))
    json.dump({"status": status or 0, "output": said.getvalue(), "errors": complained.getvalue()}, out)
    out.write("\n")
    out.flush()
