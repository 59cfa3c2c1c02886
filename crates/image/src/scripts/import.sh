# Imports the stand-in base image from /build/base.tar under the name $1, and forgets the ones before.
set -eu
container=$(buildah from scratch)
trap 'buildah rm "$container" >/dev/null 2>&1' EXIT
buildah add --quiet "$container" /build/base.tar / >/dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet "$container" "$1" >/dev/null
buildah images --format '{{.Name}}:{{.Tag}}' | while read -r name; do
	case $name in
	"$1") ;;
	"${1%:*}":*) buildah rmi "$name" >/dev/null 2>&1 || true ;;
	esac
done
