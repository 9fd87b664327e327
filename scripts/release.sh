#!/usr/bin/env bash
# Makes what is handed to users: for each target an archive with the program, man pages, completions, units, manifests,
# policies, documents and licences; what it is made of (CycloneDX); and SHA256SUMS over all. The program for musl is
# static and needs nothing of the machine that it runs on. Each program proves itself before it is packed: it lives
# through its quickstart. The same commit, toolchain and place of the sources give the same archives.
#
#   scripts/release.sh [--target TRIPLE]... [DIRECTORY]    this machine's targets for glibc and for musl, into ./dist
set -euo pipefail
die() { printf 'release: %s\n' "$*" >&2; exit 1; }

targets=() out=dist
while [ $# -gt 0 ]; do
    case $1 in
        --target) targets+=("${2:?--target needs a triple}"); shift 2 ;;
        -*) sed -n '2,8p' "$0" >&2; exit 2 ;;
        *) out=$1; shift ;;
    esac
done
out=$(realpath -m "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ ! -e "$out" ] || die "$out is there already: name a new directory"
git diff --quiet HEAD -- 2> /dev/null || die 'the tree is not what was committed: commit first, so that what is shipped can be named'

machine=$(uname -m)
[ ${#targets[@]} -gt 0 ] || targets=("$machine-unknown-linux-gnu" "$machine-unknown-linux-musl")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0
# Where it was built is nobody's business, and makes no difference.
RUSTFLAGS="--remap-path-prefix=$PWD=/backstop --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export RUSTFLAGS

work=$(mktemp -d)
finish() {
    # What a quickstart as root wrote has the kernel's immutable flag.
    chattr -R -i "$work" > /dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

for target in "${targets[@]}"; do
    if ! rustup target list --installed 2> /dev/null | grep -qx "$target"; then
        rustup target add "$target" || die "the toolchain has no library for $target, and rustup cannot bring one"
    fi
    case $target in
        *-musl) command -v musl-gcc > /dev/null || die 'musl-gcc is not there: apt-get install musl-tools' ;;
    esac
    cargo build --quiet --release --locked --target "$target"
    program=$PWD/target/$target/release/backstop
    case $target in
        *-musl) ! ldd "$program" > /dev/null 2>&1 || ldd "$program" 2>&1 | grep -q 'statically linked' || die "$program is not static" ;;
    esac
    mkdir "$work/try"
    (cd "$work/try" && env -i PATH="$PATH" HOME="$work/try" "$program" quickstart > log 2>&1) || { tail -n 40 "$work/try/log" >&2; die "$target does not live through its quickstart"; }
    chattr -R -i "$work/try" > /dev/null 2>&1 || true
    rm -rf "$work/try"

    name=backstop-$version-$target
    install -D -m 0755 "$program" "$work/$name/backstop"
    "$program" generate man --dir "$work/$name/man" > /dev/null
    mkdir "$work/$name/completions"
    for shell in bash zsh fish powershell elvish; do
        "$program" generate completions "$shell" > "$work/$name/completions/backstop.$shell"
    done
    cp -R README.md CHANGELOG.md LICENSE-* docs policies deploy "$work/$name/"
    mkdir -p "$out"
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work" -c "$name" | zstd -q -19 -o "$out/$name.tar.zst"
    rm -rf "${work:?}/$name"
done
scripts/sbom.sh "$out/backstop-$version.cdx.json" > /dev/null
(cd "$out" && sha256sum -- * > SHA256SUMS && cat SHA256SUMS)
