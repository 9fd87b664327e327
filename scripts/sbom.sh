#!/usr/bin/env bash
# Writes what the program is made of, for auditors and scanners: an SBOM in CycloneDX's form, of the crates that
# Cargo.lock names for the platform it is built on. The same commit gives the same components; the time and the serial
# number are of the run.
#
#   scripts/sbom.sh [FILE]          backstop.cdx.json unless said
set -euo pipefail
out=$(realpath -m "${1:-backstop.cdx.json}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo cyclonedx --version > /dev/null 2>&1 || cargo install --quiet --locked cargo-cyclonedx
triple=$(rustc -vV | sed -n 's/^host: //p')
made=backstop-sbom.json
trap 'rm -f "$made"' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$triple" --no-build-deps --override-filename "${made%.json}"
mkdir -p "$(dirname "$out")"
# Where it was built is nobody's business.
sed "s|file://$PWD|file:///backstop|g" "$made" > "$out"
printf '%s\n' "$out"
