#!/bin/busybox sh
# The only program of the emulated guest: attaches a target by the kernel's own
# iSCSI initiator, as open-iscsi's daemon tells it, and keeps a file system on
# it. Its words are read by the test.
/bin/busybox mkdir -p /proc /sys /dev /mnt /tmp /run/lock /etc/iscsi /var/lib/iscsi
/bin/busybox --install -s /bin
export PATH=/bin:/sbin LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in $(cat /modules/order); do insmod /modules/$m || echo "NO-MODULE $m"; done
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
. /target # portal, iqn, initiator, user, password
echo "root:x:0:0:root:/:/bin/sh" >/etc/passwd # whom iscsid obeys
echo "InitiatorName=$initiator" >/etc/iscsi/initiatorname.iscsi
printf '%s\n' 'node.session.auth.authmethod = CHAP' "node.session.auth.username = $user" \
  'node.session.auth.password = nonsense' 'node.session.initial_login_retry_max = 1' \
  'node.conn[0].iscsi.HeaderDigest = CRC32C' 'node.conn[0].iscsi.DataDigest = CRC32C' \
  'node.startup = manual' 'node.session.scan = auto' >/etc/iscsi/iscsid.conf
iscsid
iscsiadm -m discovery -t sendtargets -p "$portal" >/tmp/found && grep -q "$iqn" /tmp/found && echo DISCOVERED
node() { iscsiadm -m node -T "$iqn" -p "$portal" "$@"; }
node --login >/dev/null 2>&1 || echo REFUSED
node --op update -n node.session.auth.password -v "$password"
node --login >/dev/null && echo "DIGESTS $(cat /sys/class/iscsi_connection/*/data_digest)"
while [ ! -b /dev/sda ]; do usleep 50000; done
echo "DISK $(cat /sys/block/sda/size) BLOCK $(cat /sys/block/sda/queue/physical_block_size)"
printf 'n\np\n1\n\n\nw\n' | fdisk /dev/sda >/dev/null 2>&1
while [ ! -b /dev/sda1 ]; do usleep 50000; done
echo "PART $(cat /sys/block/sda/sda1/start) $(cat /sys/block/sda/sda1/size)"
/sbin/mke2fs -q -t ext4 -E discard /dev/sda1
mount -t ext4 /dev/sda1 /mnt && echo MOUNTED
dd if=/dev/urandom of=/tmp/a bs=1M count=8 2>/dev/null
cp /tmp/a /mnt/a; cp /tmp/a /mnt/b; sync; rm /mnt/b; sync
echo TRIM
fstrim /mnt && echo TRIMMED
echo GROW # the test extends the volume when it reads this
before=$(cat /sys/block/sda/size)
while [ "$(cat /sys/block/sda/size)" = "$before" ]; do node -R >/dev/null; usleep 100000; done
echo "GREW $(cat /sys/block/sda/size)"
a=$(sha256sum </tmp/a)
umount /mnt
node --logout >/dev/null && [ ! -b /dev/sda ] && echo "LEFT"
node --login >/dev/null
while [ ! -b /dev/sda1 ]; do usleep 50000; done
mount -t ext4 -o ro /dev/sda1 /mnt
b=$(sha256sum </mnt/a)
[ "$a" = "$b" ] && echo "SAME ${b%% *}"
umount /mnt
node --logout >/dev/null && echo DONE
poweroff -f
