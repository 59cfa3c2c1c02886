#!/bin/sh
# The builder's OCI runtime: crun, after the host's settings were put before the variables a RUN step gets. Of two equal
# names the later one counts, so what the image sets wins.
bundle= create= previous=
for argument in "$@"; do
	[ "$previous" = --bundle ] && bundle=$argument
	[ "$argument" = create ] && create=yes
	previous=$argument
done
if [ -n "$create" ]; then
	sed -i -f /build/conf/runtime.sed "$bundle/config.json" || exit 1
fi
exec /usr/bin/crun "$@"
