#!/usr/bin/env bash
# The store in Azure against the bare crate's own parallel block transfer, on loopback, against the tests' double of the
# Blob service in a process of its own: 2 GB up and down, then 100 small objects with 20 ms on every request.
#
#   scripts/bench-azure.sh [MEGABYTES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
megabytes=${1:-2000}
cargo build --quiet --release --example azure-transfer --example blob-double

measure() { # megabytes, arguments of the double
    local said
    coproc DOUBLE { exec target/release/examples/blob-double "${@:2}" --until-stdin-closes; }
    read -r said <&"${DOUBLE[0]}"
    /usr/bin/time -f 'peak of the client: %M KiB' target/release/examples/azure-transfer \
        "$(jq -r .endpoint <<< "$said")" "$(jq -r .sas <<< "$said")" "$1"
    kill "$DOUBLE_PID" 2> /dev/null || true
    wait "$DOUBLE_PID" 2> /dev/null || true
}

measure "$megabytes"
echo '--- 20 ms on every request; 100 objects, 8 at a time, would take 0.26 s'
measure 1 --latency-ms 20
