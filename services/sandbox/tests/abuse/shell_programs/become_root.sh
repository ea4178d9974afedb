# Programs that are made for it, and one of its own.
for program in "su -c true" "sudo -n true" "pkexec true" "mount -t tmpfs none ." "unshare -r true" "chroot . /bin/true" \
  "nsenter -t 1 -m true" "setpriv --reuid=0 true" "mknod device c 1 1" "swapoff -a" "dmesg" "sysctl -w kernel.hostname=x"; do
  command -v "${program%% *}" >/dev/null && try "$program" timeout 3 $program
done
cp /bin/sh mine && chmod 4755 mine && test -u mine && test "$(./mine -p -c 'id -u')" = 0 && test "$(id -u)" != 0 && got "a set-user-id shell"
test "$(cat /proc/sys/kernel/hostname)" = x && got "the host's name"
true
