#!/usr/bin/env bash
# Makes a small vault with everything that this version writes, with its keys and what must come out of it, for
# tests/old_vaults.rs. A vault that is in tests/data is never made again: once released, it must open for ever. Run this
# for a new version of the format, or of the program's ways of writing it.
#
#   scripts/make-old-vault.sh NAME        writes tests/data/vault-NAME.tar.zst
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -eq 1 ] || { echo 'usage: scripts/make-old-vault.sh NAME' >&2; exit 2; }
out=$PWD/tests/data/vault-$1.tar.zst
[ ! -e "$out" ] || { echo "$out is there already, and is kept" >&2; exit 2; }
cargo build --quiet
PATH=$PWD/target/debug:$PATH
work=$(mktemp -d)
trap 'chattr -R -i "$work" 2> /dev/null || true; rm -rf "$work"' EXIT
cd "$work"

backstop init --quiet
# Everything relative, no immutable flags, a retention that differs by container.
sed -i -e 's|local: { path: ./vault }|local: { path: ./vault, immutable_flag: false }|' \
    -e 's|grace: 30d }|grace: 30d, retention: { audit-logs: 10y } }|' backstop.yaml
awk '$0 == "sources: {}" {
        print "sources:\n  config: { files: { path: config } }"
        print "  proof: { files: { path: proof }, container: evidence, epoch: quarter }"; next }
     $0 == "streams: {}" { print "streams:\n  log: { import: { id: [/id, /Id], time: /createdDateTime } }"; next }
     { print }' backstop.yaml > new.yaml
mv new.yaml backstop.yaml

list() {        # every entry of a tree, with modes and times where $2 says so
    (cd "$1" && find . -mindepth 1 -printf "%y\t${2:-}\t%P\t%l\n" | LC_ALL=C sort -t $'\t' -k 3,3 | while IFS=$'\t' read -r kind extra path target; do
        [ "$kind" != f ] || target=$(sha256sum < "$path" | cut -c 1-64)
        printf '%s|%s|%s|%s\n' "$kind" "$extra" "$target" "$path"
    done)
}
snapshot() {    # source, and the format of what is listed besides
    local run
    run=$(backstop snapshot "$1" --json | sed -n 's/.*"run":"\([^"]*\)".*/\1/p')
    list "$1" "$2" > "expected/$run.list"
}
mkdir -p config/roles config/empty proof/q expected
for n in $(seq 100); do printf '{"id":"%s","displayName":"Role %s","isEnabled":true}\n' "$n" "$n" > "config/roles/$n.json"; done
printf 'x' > 'config/with blank, ü and %41'
ln -s roles/7.json config/link
awk 'BEGIN { for (i = 0; i < 260000; i++) printf "%d line of a large file, %d\n", i % 977, i % 13 }' > config/large.bin
printf 'a report\n' > proof/q/report.txt
chmod 640 proof/q/report.txt
touch -d '2026-01-02T03:04:05.123456789Z' proof/q/report.txt proof/q
ln -s q/report.txt proof/latest
touch -h -d '2025-01-02T03:04:05Z' proof/latest

snapshot config x
snapshot proof '%m %T@'
for n in $(seq 200); do printf '{"id":"e%d","createdDateTime":"2026-11-%02dT10:00:00Z","n": %d}\n' "$n" $((n % 28 + 1)) "$n"; done > a.ndjson
for n in $(seq 190 210); do printf '{"id":"e%d","createdDateTime":"2026-11-%02dT10:00:00Z","n": "changed"}\n' "$n" $((n % 28 + 1)); done > b.ndjson
backstop import log a.ndjson --quiet
printf '{"id":"7","displayName":"Role 7","isEnabled":false}\n' > config/roles/7.json
rm config/roles/8.json
printf 'more' >> config/large.bin
snapshot config x
backstop import log b.ndjson --quiet
backstop checkpoint --json > checkpoint.json
backstop restore logs log --from 2026-11-01 --to 2026-12-01 --identity keys/identity-1.txt > expected/log.ndjson
[ "$(wc -l < expected/log.ndjson)" -eq 210 ]

mkdir -p "$(dirname "$out")"
tar -c --sort=name --owner=0 --group=0 vault keys/identity-1.txt keys/genesis.json checkpoint.json expected | zstd -q -19 -o "$out"
ls -l "$out"
