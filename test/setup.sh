#!/usr/bin/env bash
# Installs the Debian packages that the tests use as unmodified peers and
# clients. Where that is not possible it says what will be skipped.
set -u
packages=(curl jq qemu-utils qemu-block-extra nbdkit libnbd-bin fio e2fsprogs xfsprogs btrfs-progs libiscsi-bin tgt
  python3-libnbd qemu-system-x86 busybox-static python3-openstackclient python3-cinderclient
  python3-openstacksdk prometheus libkmod2 libmount1
  cryptsetup-bin python3-barbicanclient python3-castellan python3-barbican
  postgresql ceph-mon ceph-mgr ceph-osd ceph-common rbd-mirror librados-dev librbd-dev gcc libc6-dev python3-os-brick
  nfs-ganesha nfs-ganesha-vfs libnfs-utils rpcbind iproute2
  haproxy python3-keystone python3-glance)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
# test/guest boots this kernel in an emulated machine, where open-iscsi tells the
# kernel's initiator what to do. Both are unpacked, not installed.
guest=${KVOL_GUEST_KERNEL:-/var/cache/kvol-guest}
have_guest() { compgen -G "$guest/boot/vmlinuz-*" >/dev/null && [ -x "$guest/open-iscsi/sbin/iscsid" ]; }
# The S3 service that the backups' tests use is built once, from Go modules of
# its own (tools/s3).
tools=${KVOL_TOOLS:-/var/cache/kvol-tools}
if [ ! -x "$tools/versitygw" ]; then
  if mkdir -p "$tools" 2>/dev/null && [ -w "$tools" ]; then
    echo "building $tools/versitygw"
    (cd "$(dirname "$0")/../tools/s3" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$tools/versitygw.new" \
      github.com/versity/versitygw/cmd/versitygw) && mv "$tools/versitygw.new" "$tools/versitygw" || {
      echo "could not build versitygw" >&2
      exit 1
    }
  else
    echo "NOT BUILT: versitygw ($tools can't be written to; set KVOL_TOOLS): tests with S3 will be SKIPPED" >&2
  fi
fi
[ ${#missing[@]} -eq 0 ] && have_guest && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "NOT INSTALLED: ${missing[*]:-a kernel for test/guest} (needs root and apt): tests with these clients will be SKIPPED" >&2
  exit 0
fi
echo "installing ${missing[*]:-a kernel for test/guest}"
export DEBIAN_FRONTEND=noninteractive
scratch='' policy=''
trap 'rm -rf "$scratch" "$policy"' EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then # services are started by the tests that need them, and by nobody else
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
fi
apt-get update -q >/dev/null || true
if [ ${#missing[@]} -gt 0 ]; then
  apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null || {
    echo "could not install ${missing[*]}" >&2
    exit 1
  }
fi
if ! have_guest; then
  kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
  scratch=$(mktemp -d)
  if ! (cd "$scratch" && apt-get download -q "$kernel" >/dev/null && dpkg -x ./*.deb tree && rm ./*.deb &&
    mkdir -p "$guest" && cp -r tree/lib tree/boot "$guest" &&
    apt-get download -q open-iscsi libisns0 libopeniscsiusr >/dev/null &&
    for deb in ./*.deb; do dpkg -x "$deb" initiator || exit 1; done &&
    mkdir -p "$guest/open-iscsi" && cp -r initiator/. "$guest/open-iscsi"); then
    echo "could not fetch a kernel and its initiator for test/guest" >&2
    exit 1
  fi
fi
