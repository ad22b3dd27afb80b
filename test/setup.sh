#!/usr/bin/env bash
# Installs the Debian packages that the tests use as unmodified peers and
# clients. Where that is not possible it says what will be skipped.
set -u
packages=(qemu-utils qemu-block-extra nbdkit libnbd-bin fio e2fsprogs xfsprogs btrfs-progs libiscsi-bin tgt)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "NOT INSTALLED: ${missing[*]} (needs root and apt): tests with these clients will be SKIPPED" >&2
  exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null || true
apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null || {
  echo "could not install ${missing[*]}" >&2
  exit 1
}
