#!/bin/sh
# Runs after the packages of the stand-in for al2023-minimal were installed into $1. It stays an honest Debian, behaves like
# the original where Dockerfiles rely on it (pip installs as root), and keeps nothing of this host.
set -eu
root=$1
cd "$root"
rm -f usr/lib/python3*/EXTERNALLY-MANAGED
for name in dnf microdnf yum; do
    test -e "usr/bin/$name" && continue
    cat > "usr/bin/$name" << 'SHIM'
#!/bin/sh
echo "${0##*/}: this is hearth's offline stand-in for public.ecr.aws/lambda/microvms:al2023-minimal, which is made of Debian packages" >&2
echo "hint: use 'apt-get update && apt-get install -y PACKAGE', or name a registry image in FROM" >&2
exit 1
SHIM
    chmod 0755 "usr/bin/$name"
done
rm -f etc/apt/apt.conf.d/99mmdebstrap etc/apt/sources.list etc/apt/sources.list.d/*
. ./etc/os-release
cat > etc/apt/sources.list.d/debian.sources << SOURCES
Types: deb
URIs: http://deb.debian.org/debian
Suites: $VERSION_CODENAME $VERSION_CODENAME-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: $VERSION_CODENAME-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -type l -delete
find usr/share/doc -depth -type d -empty -delete
rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian
rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/lib/dpkg/*-old root/.cache tmp/* var/tmp/*
mkdir -p var/lib/apt/lists/partial var/cache/apt/archives/partial
find var/log -type f -delete
rm -f etc/hostname etc/resolv.conf etc/passwd- etc/group- etc/shadow- etc/gshadow- var/lib/dbus/machine-id
: > etc/machine-id
