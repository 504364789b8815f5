#!/bin/bash
# stripe_mock.sh STATE_DIR: builds Stripe's own stripe-mock into STATE_DIR/stripe-mock and prints that path; at once when it is there.
#
# stripe-mock needs Go >= 1.22.1, Debian 12 has 1.19, and `go install` of a 1.19 does not know toolchains. But newer toolchains are
# modules of the Go module proxy (golang.org/toolchain), and any Go can download a module: so an old Go fetches a new one, its checksum is
# compared with the one below, and the new one builds. Needs `go` of any version since 1.16 (apt: golang-go) and the module proxy; nothing
# is written outside STATE_DIR and nothing but the program stays there. A failure is an exit code, never a skip.
set -euo pipefail

mock_version=v0.197.0
toolchain_version=v0.0.1-go1.22.12
declare -A toolchain_sum=(
    [linux-amd64]=h1:Hdh4VJAlDWzMnhKpqDwqJJr+sE7NgsJ86dyR4wrv2oY=
)

fail() {
    echo "stripe_mock.sh: $*" >&2
    exit 1
}

[ $# = 1 ] || fail "usage: stripe_mock.sh STATE_DIR"
mkdir -p "$1"
state=$(cd "$1" && pwd)
program=$state/stripe-mock
if [ -x "$program" ] && [ "$(cat "$program.version" 2>/dev/null)" = "$mock_version" ]; then
    echo "$program"
    exit 0
fi
go=$(command -v go || echo /usr/lib/go/bin/go)
[ -x "$go" ] || fail "go is missing (apt-get install golang-go)"

work=$(mktemp -d "$state/stripe-mock.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset GOROOT GOBIN GOOS GOARCH
export GOPATH=$work/path GOMODCACHE=$work/modules GOCACHE=$work/cache GOFLAGS=-modcacherw GOTOOLCHAIN=local GO111MODULE=on CGO_ENABLED=0
cd "$work"

new_enough() {
    local major minor patch
    IFS=. read -r major minor patch <<<"$("$1" env GOVERSION | sed -n 's/^go\([0-9.]*\).*/\1/p')"
    [ "${major:-0}" -gt 1 ] || { [ "${major:-0}" = 1 ] && [ "${minor:-0}" -gt 22 ]; } ||
        { [ "${major:-0}.${minor:-0}" = 1.22 ] && [ "${patch:-0}" -ge 1 ]; }
}

# Prints the path of a go program that was fetched as a module. In the module the files are not executable and go.mod files of the
# toolchain's own modules are called _go.mod; a newer Go undoes both in the same way.
fetch_toolchain() {
    local platform json directory
    platform=$("$go" env GOOS)-$("$go" env GOARCH)
    [ -n "${toolchain_sum[$platform]:-}" ] || fail "no toolchain is known for $platform"
    json=$("$go" mod download -json "golang.org/toolchain@$toolchain_version.$platform") || fail "the Go toolchain could not be downloaded"
    [ "$(sed -n 's/^\t"Sum": "\(.*\)",\?$/\1/p' <<<"$json")" = "${toolchain_sum[$platform]}" ] ||
        fail "the Go toolchain does not have the expected checksum"
    directory=$(sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p' <<<"$json")
    chmod -R u+x "$directory/bin" "$directory/pkg/tool"
    find "$directory" -name _go.mod -execdir mv _go.mod go.mod \;
    echo "$directory/bin/go"
}

new_enough "$go" || go=$(fetch_toolchain)
GOBIN=$work/bin "$go" install "github.com/stripe/stripe-mock@$mock_version" || fail "stripe-mock could not be built"
mv "$work/bin/stripe-mock" "$program"
echo "$mock_version" >"$program.version"
echo "$program"
