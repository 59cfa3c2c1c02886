#!/bin/sh
# Runs after the kernel package and kmod were unpacked into $1: the package brings no modules.dep, so it is made here.
set -eu
root=$1
release=$(ls "$root/lib/modules")
case $release in
    *[!A-Za-z0-9.+~_-]* | "") echo "expected one kernel release under lib/modules, found: $release" >&2; exit 1 ;;
esac
chroot "$root" /sbin/depmod "$release"
