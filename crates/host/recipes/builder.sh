#!/bin/sh
# Runs after buildah was unpacked into $1. RUN steps go through crun, without CNI plugins.
set -eu
root=$1
cd "$root"
rm -rf etc/apt etc/cron.d var/lib/apt var/lib/dpkg var/cache/apt
rm -rf usr/libexec/buildah usr/lib/cni usr/lib/x86_64-linux-gnu/gconv
rm -rf usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bash-completion usr/share/icons usr/share/zsh
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -type l -delete
find usr/share/doc -depth -type d -empty -delete
mkdir -p dev proc sys run tmp root var/tmp var/cache var/lib/containers etc/ssl/certs
chmod 1777 tmp var/tmp
# Packages are only unpacked, so the trust store is put together here as update-ca-certificates would.
find usr/share/ca-certificates/mozilla -name '*.crt' | LC_ALL=C sort | xargs sed -e '$a\' > etc/ssl/certs/ca-certificates.crt
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' > etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > etc/group
printf 'passwd: files\ngroup: files\nhosts: files dns\n' > etc/nsswitch.conf
printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' > etc/hosts
# Empty files, so that a sandbox has something to bind the real ones over.
: > etc/resolv.conf
: > etc/hostname
chroot . /usr/bin/buildah --version > etc/buildah-version 2> /dev/null
