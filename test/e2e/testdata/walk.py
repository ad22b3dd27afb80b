"""Gives the lines of a file to unmodified openstack and cinder commands, for which
Python starts once: doing it for each takes longer than all that they do.

walk.py FILE [NAME=VALUE...]; who and where is in the environment. A line
"openstack ..." or "cinder@3.59 ..." (a microversion) is a command, in which
{NAME} stands for a value; after "PLACE: " it goes to {PLACE_url} in the region
{PLACE_region}. Indented lines below it say what of its output must hold:
  want REGEX         is in it
  lacks REGEX        is not
  keep NAME REGEX    gives a name to the first group
  until REGEX        the command is repeated until this is in it
  gone REGEX         the command is repeated until this is not, or it fails
  fails REGEX        the command must fail, saying so
What a client itself would print as an error is part of the output.
"""
import contextlib
import importlib
import logging
import os
import pkgutil
import re
import shlex
import sys
import time

from cinderclient import shell as cinder_shell
from openstackclient import shell as openstack_shell
from openstackclient.volume import v2, v3

PATIENCE = 60  # seconds that a command may be repeated


def run(line):
    """Returns what a command printed, and whether it failed. It runs in a process
    of its own, since the one command changes what the other relies on."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(read)
        failed = True
        try:
            failed = given(line)
        except SystemExit as e:
            failed = bool(e.code)
        except BaseException as e:  # what the cinder command prints and ends with
            print(type(e).__name__, e)
        sys.stdout.flush()
        os._exit(failed)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        out = pipe.read()
    return out, os.waitpid(child, 0)[1] != 0


def given(line):
    client, args = line.split(None, 1)
    client, _, version = client.partition("@")
    if client == "openstack":
        where = ["--os-auth-url", os.environ["OS_AUTH_URL"], "--os-region-name", os.environ["OS_REGION_NAME"]]
        version = ["--os-volume-api-version", version or "3"]
        return openstack_shell.main(where + version + shlex.split(args)) != 0
    if client != "cinder":
        raise ValueError("no such client: " + client)
    cinder_shell.OpenStackCinderShell().main(["--os-volume-api-version", version or "3.70"] + shlex.split(args))
    return False


@contextlib.contextmanager
def elsewhere(command, names):
    """Yields a command without the place that it names, and goes there for it."""
    place, colon, rest = command.partition(": ")
    if not colon or place + "_url" not in names:
        yield command
        return
    here = {key: os.environ[key] for key in ("OS_AUTH_URL", "OS_REGION_NAME")}
    os.environ.update(OS_AUTH_URL=names[place + "_url"], OS_REGION_NAME=names[place + "_region"])
    try:
        yield rest
    finally:
        os.environ.update(here)


def filled(text, names):
    return re.sub(r"\{([a-z_0-9]+)\}", lambda m: names.get(m[1], m[0]), text)


def steps(path):
    """Yields where a command stands, the command, and what must hold."""
    step = None
    for number, line in enumerate(open(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] in " \t":
            step[2].append(line.split(None, 1))
            continue
        if step:
            yield step
        step = (number, line.strip(), [])
    yield step


def holds(check, rest, out, failed, names):
    if check == "keep":
        name, pattern = rest.split(None, 1)
        found = re.search(filled(pattern, names), out, re.M)
        if found:
            names[name] = found[1]
        return found is not None
    found = re.search(filled(rest, names), out, re.M) is not None
    return {"want": found, "until": found, "fails": found and failed, "lacks": not found,
            "gone": failed or not found}[check]


def walk(path, names):
    count = 0
    for number, command, checks in steps(path):
        command, deadline = filled(command, names), time.monotonic() + PATIENCE
        mayfail = any(check in ("fails", "gone") for check, _ in checks)
        while True:
            with elsewhere(command, names) as line:
                out, failed = run(line)
            wrong = [(c, r.strip()) for c, r in checks if not holds(c, r.strip(), out, failed, names)]
            if failed and not mayfail:
                wrong.append(("it", "failed"))
            if not wrong:
                break
            # What else is wanted need not hold before that for which it is waited.
            waits = any(c in ("until", "gone") for c, _ in wrong) or failed and any(c == "until" for c, _ in checks)
            if not waits or time.monotonic() > deadline:
                sys.exit("%s:%d: %s\n%s\nwrong: %s" % (path, number, command, out, wrong))
            time.sleep(0.1)
        count += 1
    print(count, "commands")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    for package in v2, v3:  # which the children need not do then
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    walk(sys.argv[1], dict(arg.split("=", 1) for arg in sys.argv[2:]))
