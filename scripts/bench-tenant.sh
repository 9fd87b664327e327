#!/usr/bin/env bash
# Captures a large sample tenant over loopback, and exports and restores a large log. Client and server share the
# machine: the server's own CPU time stands beside the client's.
#
#   scripts/bench-tenant.sh [> table.md]
#
#   USERS    users of the tenant             885000 (about a million objects)
#   EVENTS   sign-ins in thirty days         10000000
#   PHASES   which parts                     "capture export"
set -euo pipefail
export LC_ALL=C TZ=UTC
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
users=${USERS:-885000}
events=${EVENTS:-10000000}
phases=" ${PHASES-capture export} "
say() { printf '%s\n' "$*" >&2; }
die() { say "bench-tenant: $*"; exit 1; }
for tool in jq /usr/bin/time; do command -v "$tool" > /dev/null || die "$tool is missing"; done

cd "$root"
cargo build --release --quiet
backstop=$root/target/release/backstop
work=$(mktemp -d /dev/shm/backstop-tenant.XXXXXX)
server=
cleanup() {
    [[ -z $server ]] || kill "$server" 2> /dev/null || true
    chattr -R -f -i "$work" 2> /dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

ticks=$(getconf CLK_TCK)
server_cpu() { awk -v t="$ticks" '{ printf "%.2f", ($14 + $15) / t }' "/proc/$server/stat"; }

# serve ARGUMENTS…: a tenant; its URL in $url
serve() {
    "$backstop" sample serve --port 0 --json "$@" > "$work/serve.json" &
    server=$!
    for _ in $(seq 600); do
        [[ -s $work/serve.json ]] && break
        kill -0 "$server" 2> /dev/null || die 'the tenant did not start'
        sleep 0.1
    done
    url=$(jq -r .url "$work/serve.json")
}

stop() {
    kill "$server"
    wait "$server" 2> /dev/null || true
    server=
}

policy() { # FILE: of a vault that init made, for the tenant that runs
    local tenant client
    tenant=$(jq -r .tenant "$work/serve.json") client=$(jq -r .client_id "$work/serve.json")
    jq -r .client_secret "$work/serve.json" > "$work/secret"
    sed -i '/^sources:/d; /^streams:/d; /^jobs:/d' "$1"
    cat >> "$1" << POLICY
sources:
  entra: { graph: { tenant: $tenant, catalog: [entra, pim], endpoint: "$url", authority: "$url", credential: &agent { client_secret: { client_id: $client, secret_file: ../secret } } } }
streams:
  sign-ins: { graph_log: { tenant: $tenant, log: signIns, endpoint: "$url", authority: "$url", credential: *agent } }
jobs: {}
POLICY
}

# measure NAME COMMAND…: its JSON in $work/out, a row of the table on stdout
measure() {
    local name=$1 before after count
    shift
    before=$(server_cpu)
    /usr/bin/time -f '%e %U %S %M' -o "$work/time" "$@" > "$work/out" 2> "$work/err" || { cat "$work/err" >&2; die "$name failed"; }
    after=$(server_cpu)
    read -r wall user system kib < <(tail -n 1 "$work/time")
    count=$(jq -s 'map(.entries // .events // 0) | add' "$work/out")
    awk -v name="$name" -v n="$count" -v w="$wall" -v c="$(awk "BEGIN { print $user + $system }")" -v s="$(awk "BEGIN { print $after - $before }")" \
        -v m="$kib" -v b="$(jq -s 'map(.stored_bytes // 0) | add' "$work/out")" \
        'BEGIN { printf "| %s | %d | %.1f | %d | %.1f | %.1f | %d | %d |\n", name, n, w, (w > 0 ? n / w : 0), c, s, m / 1024, b / 1000 }'
}

printf '| | objects or events | wall, s | a second | client CPU, s | server CPU, s | peak memory, MiB | stored, kB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n'
if [[ $phases == *' capture '* ]]; then
    serve --users "$users"
    "$backstop" init --dir "$work/a" --json > /dev/null
    policy "$work/a/backstop.yaml"
    measure 'first capture' "$backstop" --policy "$work/a/backstop.yaml" snapshot --json --no-progress
    measure 'unchanged night' "$backstop" --policy "$work/a/backstop.yaml" snapshot --json --no-progress
    stop
    chattr -R -f -i "$work/a" 2> /dev/null || true
    rm -rf "$work/a"
fi
if [[ $phases == *' export '* ]]; then
    serve --users 5000 --events-per-hour $((events / 720))
    "$backstop" init --dir "$work/b" --json > /dev/null
    policy "$work/b/backstop.yaml"
    measure 'export' "$backstop" --policy "$work/b/backstop.yaml" export --json --no-progress
    measure 'restore logs' "$backstop" --policy "$work/b/backstop.yaml" --identity "$work/b/keys/identity-1.txt" restore logs sign-ins \
        --from 2000-01-01 --to 2100-01-01 --out "$work/events.ndjson" --json --no-progress
    lines=$(wc -l < "$work/events.ndjson")
    [[ $lines == "$(jq .events "$work/out")" ]] || die "restored $lines lines"
    stop
fi
