# Writes the container file system of image $1 to the ext4 file /build/disk, and its size in bytes to /build/out/bytes.
# The other arguments are directories that must exist in it (WORKDIR, VOLUME); one behind a symlink is left alone.
set -eu
container=$(buildah from --pull=never "$1")
trap 'buildah rm "$container" >/dev/null 2>&1' EXIT
root=$(buildah mount "$container")
for directory in dev proc sys run tmp; do
	if [ -L "$root/$directory" ] || [ ! -d "$root/$directory" ]; then
		rm -rf "${root:?}/$directory"
		mkdir "$root/$directory"
		[ "$directory" != tmp ] || chmod 1777 "$root/tmp"
	fi
done
shift
set -f
for wanted in "$@"; do
	path=$root
	IFS=/
	for part in $wanted; do
		case $part in '' | .) continue ;; ..) break ;; esac
		path=$path/$part
		[ ! -L "$path" ] || break
		[ -d "$path" ] || mkdir "$path" || break
	done
	unset IFS
done
du -sx --block-size=1 "$root" | cut -f1 >/build/out/bytes
# The file is sparse, so its blocks read as zeroes: nothing to zero here, nor lazily in the guest.
mke2fs -t ext4 -F -q -b 4096 -m 0 -L hearth-root -J size=16 -E assume_storage_prezeroed=1,nodiscard \
	-d "$root" /build/disk
