"""Walks through block storage with an unmodified openstacksdk.

sdk.py VERSION (2 or 3); who and where is in the environment. Exits with 0 when
all is as it should be.
"""
import os
import sys

import openstack
from openstack import exceptions

version = sys.argv[1]
conn = openstack.connect(block_storage_api_version=version, volume_api_version=version)
bs = conn.block_storage
assert bs.get_endpoint().rstrip("/").split("/")[-2] == "v" + version or "/v" + version in bs.get_endpoint()
NAME = "sdk v%s %d" % (version, os.getpid())
SERVER = "33333333-3333-3333-3333-333333333333"


def wait(volume, status):
    return bs.wait_for_status(volume, status, failures=["error", "error_deleting"], interval=0.1, wait=60)


def gone(thing):
    bs.wait_for_delete(thing, interval=0.1, wait=60)


# Volumes.
volume = bs.create_volume(name=NAME, size=1, metadata={"a": "b"}, volume_type="ssd_general")
assert volume.size == 1 and volume.metadata == {"a": "b"}, volume
volume = wait(volume, "available")
assert bs.find_volume(NAME).id == volume.id
assert volume.id in [v.id for v in bs.volumes()]
assert volume.id in [v.id for v in bs.volumes(details=False, name=NAME)]
bs.set_volume_metadata(volume, c="d")
assert bs.get_volume_metadata(volume).metadata == {"a": "b", "c": "d"}
bs.delete_volume_metadata(volume, ["a"])
assert bs.get_volume(volume.id).metadata == {"c": "d"}
bs.extend_volume(volume, 2)
volume = wait(bs.get_volume(volume.id), "available")
assert volume.size == 2, volume

# Snapshots, and a volume from one.
snapshot = bs.create_snapshot(volume_id=volume.id, name="shot", metadata={"x": "y"})
snapshot = bs.wait_for_status(snapshot, "available", interval=0.1, wait=60)
assert snapshot.volume_id == volume.id and snapshot.size == 2, snapshot
assert snapshot.id in [s.id for s in bs.snapshots()]
bs.set_snapshot_metadata(snapshot, z="w")
assert bs.get_snapshot_metadata(snapshot).metadata == {"x": "y", "z": "w"}
clone = wait(bs.create_volume(name="sdk clone", size=2, snapshot_id=snapshot.id), "available")
assert clone.snapshot_id == snapshot.id, clone
try:
    bs.delete_volume(volume, ignore_missing=False)
    raise AssertionError("a volume with a snapshot was deleted")
except exceptions.BadRequestException:
    pass
bs.delete_snapshot(snapshot)
gone(snapshot)
try:
    bs.get_snapshot(snapshot.id)
    raise AssertionError("a deleted snapshot is found")
except exceptions.ResourceNotFound:
    pass

# Types.
types = {t.name: t for t in bs.types()}
assert "ssd_general" in types, types
assert bs.get_type(types["ssd_general"].id).name == "ssd_general"

# Attachments, the way of volume actions.
if version == "3":
    bs.reserve_volume(volume)
    assert bs.get_volume(volume.id).status == "attaching"
    bs.unreserve_volume(volume)
    bs.reserve_volume(volume)
    connector = {"host": "h", "initiator": "iqn.2025-01.test:sdk", "ip": "127.0.0.1"}
    bs.init_volume_attachment(volume, connector)
    bs.attach_volume(volume, "/dev/vdb", instance=SERVER)
else:
    volume.attach(bs, "/dev/vdb", SERVER)  # the proxy's own method passes an argument too many
volume = wait(bs.get_volume(volume.id), "in-use")
assert volume.attachments[0]["server_id"] == SERVER, volume.attachments
if version == "3":
    bs.begin_volume_detaching(volume)
    bs.abort_volume_detaching(volume)
    bs.begin_volume_detaching(volume)
    bs.terminate_volume_attachment(volume, connector)
    bs.detach_volume(volume, volume.attachments[0]["attachment_id"])
else:
    volume.detach(bs, volume.attachments[0]["attachment_id"])
volume = wait(bs.get_volume(volume.id), "available")

# Limits, quotas, what there is.
project = conn.current_project_id
limits = bs.get_limits() if version == "3" else None
if limits:
    assert limits.absolute.max_total_volumes is not None, limits
    assert limits.absolute.total_volumes_used >= 2, limits
    assert "nova" in [z.name for z in bs.availability_zones()] or list(bs.availability_zones())
    list(bs.extensions())
    list(bs.resource_filters())
quotas = bs.get_quota_set(project)
assert quotas.volumes is not None, quotas
assert bs.get_quota_set(project, usage=True).usage["volumes"] >= 2, "no usage"

# Backups.
full = bs.create_backup(volume_id=volume.id, name="sdk full", description="d")
full = bs.wait_for_status(full, "available", failures=["error"], interval=0.1, wait=60)
assert full.volume_id == volume.id and full.size == 2 and not full.is_incremental, full
second = bs.create_backup(volume_id=volume.id, name="sdk second", is_incremental=True)
second = bs.wait_for_status(second, "available", failures=["error"], interval=0.1, wait=60)
assert second.is_incremental and bs.get_backup(full.id).has_dependent_backups, second
assert {full.id, second.id} <= {b.id for b in bs.backups()}
assert [b.id for b in bs.backups(details=False, name="sdk full")] == [full.id]
if version == "3":
    assert bs.find_backup("sdk second").id == second.id
bs.restore_backup(second, volume_id=clone.id, name=None)
bs.wait_for_status(bs.get_backup(second.id), "available", failures=["error"], interval=0.1, wait=60)
clone = wait(bs.get_volume(clone.id), "available")
try:
    bs.delete_backup(full, ignore_missing=False)
    raise AssertionError("a backup on which another depends was deleted")
except exceptions.BadRequestException:
    pass
for b in (second, full):
    bs.delete_backup(b)
    gone(b)

for v in (clone, volume):
    bs.delete_volume(v)
    gone(v)
