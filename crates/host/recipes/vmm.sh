#!/bin/sh
# Runs after QEMU was unpacked into $1. The tree is also the root of every machine's jail: it holds nothing of this host and
# nothing that QEMU does not need.
set -eu
root=$1
cd "$root"
rm -rf etc/apt etc/dpkg etc/default etc/pam.d etc/security var/lib/apt var/lib/dpkg var/cache
rm -rf usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bash-completion usr/share/icons usr/share/bug
rm -rf usr/lib/x86_64-linux-gnu/gconv usr/share/qemu/skiboot.lid
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -type l -delete
find usr/share/doc -depth -type d -empty -delete
rm -f etc/hostname etc/resolv.conf
mkdir -p dev proc sys run tmp root var/tmp
chmod 1777 tmp var/tmp
printf 'root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' > etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > etc/group
chroot . /usr/bin/qemu-system-x86_64 --version > etc/qemu-version
