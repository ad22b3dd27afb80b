#!/bin/busybox sh
# The only program of the emulated guest: attaches an export by the kernel's own
# NBD client and keeps a file system on it. Its words are read by the test.
/bin/busybox mkdir -p /proc /sys /dev /mnt /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in $(cat /modules/order); do insmod /modules/$m || echo "NO-MODULE $m"; done
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
set -- $(cat /export)
attach "10.0.2.2:$1" "$2" /dev/nbd0 &
while [ "$(cat /sys/block/nbd0/size)" = 0 ] && kill -0 $! 2>/dev/null; do usleep 50000; done
echo "DISK $(cat /sys/block/nbd0/size) FUA $(cat /sys/block/nbd0/queue/fua)"
/sbin/mke2fs -q -t ext4 -E discard /dev/nbd0 && echo MADE
mount -t ext4 /dev/nbd0 /mnt && echo MOUNTED
dd if=/dev/urandom of=/tmp/a bs=1M count=8 2>/dev/null
cp /tmp/a /mnt/a; cp /tmp/a /mnt/b; sync; rm /mnt/b
fstrim /mnt && echo TRIMMED
a=$(sha256sum </tmp/a)
umount /mnt; echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 -o ro /dev/nbd0 /mnt
b=$(sha256sum </mnt/a)
[ "$a" = "$b" ] && echo "SAME ${b%% *}"
umount /mnt; sync
echo DONE
poweroff -f
