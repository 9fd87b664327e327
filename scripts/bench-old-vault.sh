#!/usr/bin/env bash
# What ten years cost: how long an agent takes to its first decision, a status, a page and /metrics on a vault of many
# attestations. Needs about 12 GB and six million inodes for a million of them, `faketime`, `curl` and GNU `time`.
#
#   scripts/bench-old-vault.sh [ATTESTATIONS]          a million unless said
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
count=${1:-1000000}
cargo build --release --quiet --example ten-years
cargo build --release --quiet
bin=$PWD/target/release
work=$(mktemp -d "${TMPDIR:-/tmp}/old-vault.XXXXXX")
agent=
# shellcheck disable=SC2317 # called by the trap
finish() {
    [ -z "$agent" ] || { kill "$agent" && wait "$agent"; } 2> /dev/null || true
    chattr -R -i "$work" 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT
cd "$work"
began=$(date -u -d '-3652 days' '+%F %T')
faketime "$began" "$bin/backstop" init --quiet
mkdir data
echo '{}' > data/a.json
names=
for n in $(seq -f 's%02g' 0 11); do names+="$n,"; printf '  %s: { files: { path: data } }\n' "$n"; done > sources
awk -v names="${names%,}" '
    /local: \{/ { sub(/\.\/vault/, "./vault, immutable_flag: false") }
    $0 == "sources: {}" { print "sources:"; while ((getline line < "sources") > 0) print line; next }
    $0 == "jobs: {}" { print "jobs:\n  snap: { snapshot: [" names "], schedule: \"0 */30 * * * *\" }"; next }
    { print } END { print "agent: { jitter: 0s, listen: \"127.0.0.1:19475\" }" }' backstop.yaml > new.yaml
mv new.yaml backstop.yaml
faketime "$began" "$bin/backstop" snapshot s00 --quiet
"$bin/examples/ten-years" --home . --chains 12 --attestations "$count"
echo "$count attestations, $(find vault/attestations -name '*.json' | wc -l) envelopes"

alive() { kill -0 "$agent" 2> /dev/null || { cat log >&2; exit 1; }; }
run() {         # starts the agent; says when it first decided something, and when it showed the vault's status
    local started now
    started=$(date +%s%N)
    "$bin/backstop" run 2> log &
    agent=$!
    until grep -q '"begun"\|done already' log; do alive; sleep 0.01; done
    now=$(date +%s%N); echo "$1: first decision after $(( (now - started) / 1000000 )) ms"
    until curl -s http://127.0.0.1:19475/metrics | grep backstop_rpo_seconds > /dev/null; do alive; sleep 0.1; done
    now=$(date +%s%N); echo "$1: status shown after $(( (now - started) / 1000000 )) ms"
}
asked() {       # the slowest of ten answers
    for _ in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null -w '%{time_total}\n' "http://127.0.0.1:19475$1"; done | sort -n | tail -n 1
}
ended() {
    kill "$agent"
    wait "$agent" || true
    agent=
}
run 'nothing kept'
echo "slowest of ten: page $(asked /) s, /metrics $(asked /metrics) s, /api/v1/status $(asked /api/v1/status) s"
grep -h 'VmHWM\|VmRSS' "/proc/$agent/status"
ended
rm -rf .backstop/leases vault/.leases
run 'with its index'
ended
/usr/bin/time -f 'status --quick: %e s, %M kB' "$bin/backstop" status --quick --json > /dev/null || true
/usr/bin/time -f 'status: %e s, %M kB' "$bin/backstop" status --json > /dev/null || true
