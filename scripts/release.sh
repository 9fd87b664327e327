#!/usr/bin/env bash
# Makes what is shipped: the program (stripped, with link-time optimisation), man pages, completions, units, and a
# bill of materials, as one archive with its digest.
#
#   scripts/release.sh [DIR]          into DIR, target/dist unless said
#   TARGET=x86_64-unknown-linux-musl scripts/release.sh     a program that needs no library of the system
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() { printf 'release: %s\n' "$*" >&2; exit 1; }

dist=${1:-target/dist}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}
version=$(cargo metadata --no-deps --format-version 1 | jq -r '.packages[0].version')
name=backstop-$version-$target

case $target in
    *-musl) command -v musl-gcc > /dev/null || die 'a musl target needs musl-gcc: install musl-tools' ;;
esac
[ "$target" = "$host" ] || rustup target list --installed 2> /dev/null | grep -qx "$target" || die "rustup target add $target"
cargo build --release --locked --target "$target"
program=target/$target/release/backstop

rm -rf "${dist:?}/$name"
mkdir -p "$dist/$name"/{bin,man/man1,completions,deploy,docs}
install -m 0755 "$program" "$dist/$name/bin/backstop"
# What the host cannot run cannot write its own pages: the host's program has the same ones.
runner=$program
[ "$target" = "$host" ] || "$program" --version > /dev/null 2>&1 || { cargo build --release --locked; runner=target/release/backstop; }
"$runner" generate man --dir "$dist/$name/man/man1" > /dev/null
for shell in bash zsh fish; do
    "$runner" generate completions "$shell" > "$dist/$name/completions/backstop.$shell"
done
cp -r deploy/systemd deploy/kubernetes deploy/prometheus deploy/azure "$dist/$name/deploy/"
cp -r docs/. "$dist/$name/docs/"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$dist/$name/"

# ---- bill of materials (CycloneDX), of what is linked for this target
cargo cyclonedx --version > /dev/null 2>&1 || cargo install --quiet --locked cargo-cyclonedx || die 'cargo-cyclonedx cannot be installed'
cargo cyclonedx --quiet --format json --target "$target" --override-filename backstop.cdx
mv backstop.cdx.json "$dist/$name/backstop.cdx.json"
jq -e '.bomFormat == "CycloneDX" and (.components | length > 100)' "$dist/$name/backstop.cdx.json" > /dev/null || die 'the bill of materials is not one'

tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner -czf "$dist/$name.tar.gz" "$name"
(cd "$dist" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
