#!/bin/sh
# PID 1 in the guest once the host's root is in place: finishes the system, runs the task, leaves its exit status and powers off.
# The task's output goes to the second serial port; the first is the console.
share=/.v4l2-vm
bb=$share/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$bb ip link set lo up

. "$share/environment.sh"
# modprobe looks only in /lib/modules/RELEASE; the host's own modules are for another kernel.
mkdir -p /lib/modules
mount -t tmpfs tmpfs /lib/modules
ln -s "$V4L2_VM_MODULES" "/lib/modules/$(uname -r)"

port=/dev/ttyS1
# A terminal line would turn \n into \r\n and echo.
$bb stty -F "$port" raw -echo
# The task writes to a pipe, as under any test runner: some programs behave differently on a terminal.
mkfifo /run/task-output
cat < /run/task-output > "$port" &
writer=$!
echo "guest: up after $(cut -d ' ' -f 1 /proc/uptime) s"
/bin/sh "$share/task.sh" < /dev/null > /run/task-output 2>&1
echo $? > "$share/exit-status"
echo "guest: task ended with $(cat "$share/exit-status") after $(cut -d ' ' -f 1 /proc/uptime) s"
# What the task left running holds the pipe open; all but this shell and the writer goes.
for process in /proc/[0-9]*; do
  id=${process#/proc/}
  [ "$id" = 1 ] || [ "$id" = "$writer" ] || kill -9 "$id" 2> /dev/null
done
wait "$writer"
sync
$bb poweroff -f
