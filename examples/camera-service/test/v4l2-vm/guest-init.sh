#!/bin/busybox sh
# The initramfs' /init: mounts the host's root read-only, lays a tmpfs over it and hands over to guest.sh in the checkout.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev

die () {
  echo "guest-init: $1"
  $bb poweroff -f
}

while read -r module; do
  $bb insmod "/modules/$module" || die "cannot load $module"
done < /modules/order

nine=trans=virtio,version=9p2000.L,msize=512000
# The lower layer never changes while the guest runs, so it may be cached loosely; that is what makes Node start in seconds.
$bb mount -t 9p -o "ro,$nine,cache=loose" hostroot /lower || die 'cannot mount the host root'
$bb mount -t tmpfs tmpfs /upper
$bb mkdir /upper/data /upper/work
$bb mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root || die 'cannot mount the overlay'
for folder in proc sys dev; do $bb mount --move "/$folder" "/root/$folder"; done

share=/root/.v4l2-vm
$bb mkdir -p "$share"
$bb mount -t 9p -o "$nine,cache=none" share "$share" || die 'cannot mount the share'

# /tmp and /run start empty, except for what the host asked to keep (a checkout may well live under /tmp).
count=0
while read -r path; do
  count=$((count + 1))
  $bb mkdir -p "/keep/$count"
  $bb mount --bind "/root$path" "/keep/$count" || die "cannot keep $path"
done < "$share/keep"
$bb mount -t tmpfs -o mode=1777 tmpfs /root/tmp
$bb mount -t tmpfs -o mode=755 tmpfs /root/run
count=0
while read -r path; do
  count=$((count + 1))
  $bb mkdir -p "/root$path"
  $bb mount --move "/keep/$count" "/root$path"
done < "$share/keep"

exec $bb switch_root /root /.v4l2-vm/busybox sh /.v4l2-vm/guest.sh
