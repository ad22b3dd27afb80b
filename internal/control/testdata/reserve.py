"""Reserves a volume persistently through libiscsi, an initiator of others.

reserve.py PORTAL TARGET LUN USER[,TARGET-USER] PASSWORD[,TARGET-PASSWORD] INITIATOR STEP... has the target prove itself
if it is given a name for it (two-way CHAP), carries out the
steps in one session and prints the SCSI status of each: register KEY (asking to
keep it over a loss of power), reserve KEY (for exclusive access), clear KEY,
read, write.
"""
import ctypes
import sys

lib = ctypes.CDLL("libiscsi.so.7")
for name in ("iscsi_create_context", "iscsi_persistent_reserve_out_sync", "iscsi_read10_sync",
             "iscsi_write10_sync", "iscsi_testunitready_sync", "iscsi_get_error"):
    getattr(lib, name).restype = ctypes.c_void_p


class Parameters(ctypes.Structure):
    _fields_ = [("key", ctypes.c_uint64), ("new", ctypes.c_uint64), ("ports", ctypes.c_uint8),
                ("targets", ctypes.c_uint8), ("keep", ctypes.c_uint8)]


portal, target, lun, user, password, initiator = (a.encode() for a in sys.argv[1:7])
lun = int(lun)
session = ctypes.c_void_p(lib.iscsi_create_context(initiator))
lib.iscsi_set_isid_oui(session, 0x1234, 5)  # the same port each time
user, _, its_user = user.partition(b",")
password, _, its_password = password.partition(b",")
lib.iscsi_set_initiator_username_pwd(session, user, password)
if its_user:
    lib.iscsi_set_target_username_pwd(session, its_user, its_password)
lib.iscsi_set_targetname(session, target)
lib.iscsi_set_session_type(session, 2)
if lib.iscsi_full_connect_sync(session, portal, lun) != 0:
    sys.exit(ctypes.string_at(lib.iscsi_get_error(session)).decode())


def status(task):
    if not task:
        sys.exit(ctypes.string_at(lib.iscsi_get_error(session)).decode())
    return ctypes.cast(task, ctypes.POINTER(ctypes.c_int))[0]


def reserve(action, kind, key, new):
    p = Parameters(key, new, 0, 0, 1 if action == 0 else 0)
    return status(lib.iscsi_persistent_reserve_out_sync(session, lun, action, 0, kind, ctypes.byref(p)))


steps = {
    "register": lambda key: reserve(0, 0, 0, key),
    "reserve": lambda key: reserve(1, 3, key, 0),
    "clear": lambda key: reserve(3, 0, key, 0),
    "read": lambda _: status(lib.iscsi_read10_sync(session, lun, 0, 512, 512, 0, 0, 0, 0, 0)),
    "write": lambda _: status(lib.iscsi_write10_sync(session, lun, 0, b"x" * 512, 512, 512, 0, 0, 0, 0, 0)),
}
for step in sys.argv[7:]:
    name, _, key = step.partition("=")
    print(name, steps[name](int(key or 0)))
lib.iscsi_logout_sync(session)
