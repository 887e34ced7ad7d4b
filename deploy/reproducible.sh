#!/usr/bin/env bash
#
# Builds the binary of the image twice, in two folders with caches of their own, by the line that the Dockerfile has, and compares them.
# -buildvcs=false, since a copy of the source has no .git: the version that the Dockerfile stamps is the same for the same commit.
set -euo pipefail
cd "$(dirname "$0")/.."

line=$(grep -o 'go build .*' deploy/Dockerfile)
line=${line/\/out\/thence/\"\$out\"}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

tar --exclude=./.git --exclude=./bin -cf "$work/source.tar" . # once: somebody may be editing

# build unpacks the source in a folder and builds there.
build() {
	mkdir -p "$work/$1"
	tar -xf "$work/source.tar" -C "$work/$1"
	(cd "$work/$1" && out="$work/$1.bin" GOCACHE="$work/$1.cache" GOFLAGS=-buildvcs=false CGO_ENABLED=0 bash -c "$line")
}

build one
build a-folder-with-a-longer-name
sha256sum "$work"/*.bin
cmp "$work/one.bin" "$work/a-folder-with-a-longer-name.bin"
echo "the same: $line"
