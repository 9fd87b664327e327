#!/usr/bin/env bash
# Measures backstop against the usual backup tools, in one run, on tmpfs. What is measured and why
# the comparison is fair: benches/README.md.
#
#   scripts/bench.sh [> table.md]
#
# The table goes to stdout, what happens to stderr, every single measurement to
# target/bench/<date>.json. Set in the environment:
#
#   TOOLS       which tools             "backstop restic borg bupstash rustic"
#   PHASES      which parts             "tree verify log"
#   RUNS        runs of each            5
#   DOCUMENTS   documents in the tree   101000
#   CHURN       share changed a night   0.005
#   LOG_EVENTS  events in the log       1000000 (about 1.08 GB)
#   BIG         1: peak memory at a million documents and at one 10 GB file
#   INSTALL     0: install nothing
#   BACKSTOP, PIM_TREE                  binaries to use in place of building them
# shellcheck disable=SC2016 # jq and inner shells expand what stands in single quotes
set -euo pipefail
export LC_ALL=C TZ=UTC

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
read -ra tools <<<"${TOOLS:-backstop restic borg bupstash rustic}"
phases=" ${PHASES-tree verify log} "
runs=${RUNS:-5}
documents=${DOCUMENTS:-101000}
churn=${CHURN:-0.005}
log_events=${LOG_EVENTS:-1000000}
cores=$(nproc)

say() { printf '%s\n' "$*" >&2; }
die() { say "bench: $*"; exit 1; }
wants() { [[ " ${tools[*]} " == *" $1 "* ]]; }
does() { [[ $phases == *" $1 "* ]]; }

# ---------------------------------------------------------------- what has to be there

install_missing() {
    local -a packages=()
    local pair
    for pair in jq:jq age:age zstd:zstd restic:restic borg:borgbackup chattr:e2fsprogs; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
    done
    [[ -x /usr/bin/time ]] || packages+=(time)
    wants bupstash && ! command -v bupstash >/dev/null && packages+=(libsodium-dev pkg-config)
    if ((${#packages[@]})); then
        ((EUID == 0)) || die "missing: ${packages[*]} (install them, or run as root)"
        say "installing ${packages[*]}"
        { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } >&2
    fi
    for pair in bupstash:bupstash rustic:rustic-rs; do
        if wants "${pair%%:*}" && ! command -v "${pair%%:*}" >/dev/null; then
            say "building ${pair#*:}, which takes minutes"
            cargo install "${pair#*:}" --locked >&2 || say "bench: ${pair#*:} does not install"
        fi
    done
}

[[ ${INSTALL:-1} == 0 ]] || install_missing
for tool in jq age zstd; do command -v "$tool" >/dev/null || die "$tool is missing"; done
[[ -x /usr/bin/time ]] || die "/usr/bin/time is missing"

target=$(cd "$root" && cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
if [[ -z ${PIM_TREE:-} ]]; then
    (cd "$root" && cargo build --release --example pim-tree >&2)
    PIM_TREE=$target/release/examples/pim-tree
fi
if wants backstop && [[ -z ${BACKSTOP:-} ]]; then
    (cd "$root" && cargo build --release --bin backstop >&2)
    BACKSTOP=$target/release/backstop
fi
pim_tree=$(realpath "$PIM_TREE")
backstop=$(realpath "${BACKSTOP:-/nonexistent}" 2>/dev/null || true)

# A tool that is not there is left out, said so, and named in the result.
present=() absent=()
for tool in "${tools[@]}"; do
    if [[ $tool == backstop ]] || command -v "$tool" >/dev/null; then present+=("$tool"); else absent+=("$tool"); fi
done
((${#absent[@]} == 0)) || say "bench: left out, because missing: ${absent[*]}"
tools=("${present[@]}")

# ---------------------------------------------------------------- where it happens

work=$(mktemp -d /dev/shm/backstop-bench.XXXXXX)
cleanup() {
    # Vaults set the immutable flag on their objects; nothing else here does.
    chattr -R -f -i "$work/backstop" "$work/repositories/backstop" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wipe() {
    [[ $1 == "$work"/* ]] || die "will not remove $1"
    [[ ! -e $1 ]] || { [[ $1 != */backstop* ]] || chattr -R -f -i "$1" || true; rm -rf "$1"; }
}

mkdir -p "$work"/{home,cache,config,repositories,targets,backstop}
source=$work/source
results=$work/results.ndjson
: >"$results"

# Caches and settings on tmpfs too, and none of the user's own.
export HOME=$work/home XDG_CACHE_HOME=$work/cache XDG_CONFIG_HOME=$work/config
export XDG_DATA_HOME=$work/home/data XDG_STATE_HOME=$work/home/state
export RESTIC_PASSWORD=correct-horse-battery-staple
export RUSTIC_PASSWORD=$RESTIC_PASSWORD BORG_PASSPHRASE=$RESTIC_PASSWORD
export RUSTIC_NO_PROGRESS=true RUSTIC_LOG_LEVEL=warn

# ---------------------------------------------------------------- measuring

# Bytes (as a listing shows them) and number of the files below a folder.
bytes_in() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }'; }
files_in() { find "$1" -type f | wc -l; }

# measure PHASE TOOL RUN COMMAND…: wall time to a microsecond, CPU time and the peak memory of the
# command's largest process. Leaves the measurement in $measurement.
measure() {
    local phase=$1 tool=$2 run=$3 from to load
    shift 3
    read -r load _ </proc/loadavg
    from=$EPOCHREALTIME
    if ! /usr/bin/time -f '%M %U %S' -o "$work/time" "$@" >"$work/out" 2>"$work/err" </dev/null; then
        cat "$work/out" "$work/err" >&2
        die "$tool failed ($phase, run $run): $*"
    fi
    to=$EPOCHREALTIME
    local kib user system
    read -r kib user system < <(tail -n 1 "$work/time")
    measurement=$(jq -nc --arg phase "$phase" --arg tool "$tool" --argjson run "$run" \
        --argjson us $((${to/./} - ${from/./})) --argjson kib "$kib" \
        --argjson user "$user" --argjson system "$system" --argjson load "$load" \
        '{phase: $phase, tool: $tool, run: $run, seconds: ($us / 1000000), cpu_seconds: ($user + $system), peak_kib: $kib, load: $load}')
    say "$(printf '%-16s %-9s run %s  %9.3f s  %7d KiB' "$phase" "$tool" "$run" "$(jq .seconds <<<"$measurement")" "$kib")"
}

# record JQ-OBJECT [JQ-ARGUMENTS…]: keeps the last measurement, with more fields.
record() {
    local more=$1
    shift
    jq -c "$@" ". + $more" <<<"$measurement" >>"$results"
}

# The tools of one round: A B C D E, then B C D E A, and so on: noise and place hit all alike.
round() {
    local start=$((($1 - 1) % ${#tools[@]}))
    printf '%s\n' "${tools[@]:start}" "${tools[@]:0:start}"
}

# ---------------------------------------------------------------- the tools

repository_of() { # what counts as repository bytes
    if [[ $1 == backstop ]]; then printf '%s' "$work/repositories/backstop/vault"; else printf '%s' "$work/repositories/$1"; fi
}

fresh() { # TOOL: a new, empty repository and an empty cache; not measured
    local tool=$1
    local repository=$work/repositories/$1 cache=$work/cache/$1
    wipe "$repository"
    wipe "$cache"
    mkdir -p "$cache"
    case $tool in
        backstop) "$backstop" init --dir "$repository" --source "tree=$source" --json --no-progress ;;
        restic) restic -q -r "$repository" --cache-dir "$cache" init ;;
        borg) BORG_BASE_DIR=$cache borg init --encryption repokey "$repository" ;;
        bupstash) bupstash init -q -r "$repository" && bupstash new-key -o "$cache/key" ;;
        rustic) rustic -r "$repository" --cache-dir "$cache" init --set-compression 3 ;;
        *) die "no such tool: $tool" ;;
    esac >"$work/out" 2>&1 || { cat "$work/out" >&2; die "$tool cannot make a repository"; }
}

backup() { # PHASE TOOL RUN NAME
    local phase=$1 tool=$2 run=$3 name=$4 path=${5:-$source}
    local repository=$work/repositories/$2 cache=$work/cache/$2
    case $tool in
        backstop) measure "$phase" "$tool" "$run" "$backstop" --policy "$repository/backstop.yaml" snapshot tree --json --no-progress ;;
        restic) measure "$phase" "$tool" "$run" restic -q -r "$repository" --cache-dir "$cache" backup "$path" ;;
        borg) measure "$phase" "$tool" "$run" env BORG_BASE_DIR="$cache" borg create --compression zstd,3 "$repository::$name" "$path" ;;
        bupstash)
            measure "$phase" "$tool" "$run" bupstash put -q -r "$repository" -k "$cache/key" --compression zstd:3 \
                --send-log "$cache/send-log" "backup=$name" :: "$path"
            ;;
        rustic) measure "$phase" "$tool" "$run" rustic -r "$repository" --cache-dir "$cache" backup "$path" ;;
    esac
}

restore() { # TOOL RUN NAME TARGET
    local tool=$1 run=$2 name=$3 to=$4
    local repository=$work/repositories/$1 cache=$work/cache/$1
    case $tool in
        backstop)
            measure restore "$tool" "$run" "$backstop" --policy "$repository/backstop.yaml" restore files latest \
                --to "$to" --identity "$repository/keys/identity-1.txt" --json --no-progress
            ;;
        restic) measure restore "$tool" "$run" restic -q -r "$repository" --cache-dir "$cache" restore latest --target "$to" ;;
        borg) measure restore "$tool" "$run" env -C "$to" BORG_BASE_DIR="$cache" borg extract "$repository::$name" ;;
        bupstash)
            measure restore "$tool" "$run" bupstash restore -q -r "$repository" -k "$cache/key" \
                --query-cache "$cache/query-cache" --into "$to" "backup=$name"
            ;;
        rustic) measure restore "$tool" "$run" rustic -r "$repository" --cache-dir "$cache" restore latest "$to" ;;
    esac
}

# ---------------------------------------------------------------- (a) (b) (c): a tree of documents

bench_tree() {
    local run tool bytes files added to found
    say "making $documents documents"
    "$pim_tree" --out "$source" --documents "$documents" --churn "$churn" >"$work/tree.json"

    for ((run = 1; run <= runs; run++)); do
        for tool in $(round "$run"); do
            fresh "$tool"
            added=$(bytes_in "$(repository_of "$tool")")
            backup first "$tool" "$run" day-0
            bytes=$(bytes_in "$(repository_of "$tool")")
            files=$(files_in "$(repository_of "$tool")")
            record '{bytes: $bytes, added_bytes: ($bytes - $empty), files: $files}' \
                --argjson bytes "$bytes" --argjson files "$files" --argjson empty "$added"
        done
    done

    # The repositories of the last round go on, with their caches, over one source that lives on:
    # each night the same files change under all tools.
    for ((run = 1; run <= runs; run++)); do
        "$pim_tree" --out "$source" --documents "$documents" --churn "$churn" --day "$run" >>"$work/nights.json"
        for tool in $(round "$run"); do
            added=$(bytes_in "$(repository_of "$tool")")
            backup night "$tool" "$run" "day-$run"
            bytes=$(bytes_in "$(repository_of "$tool")")
            record '{bytes: $bytes, added_bytes: ($bytes - $before)}' --argjson bytes "$bytes" --argjson before "$added"
        done
    done

    for ((run = 1; run <= runs; run++)); do
        for tool in $(round "$run"); do
            to=$work/targets/$tool
            mkdir -p "$to"
            restore "$tool" "$run" "day-$runs" "$to"
            record '{}'
            # Tools restore below different folders; the tree begins where `users` lies.
            found=$(find "$to" -type d -name users -prune -printf '%h\n' -quit)
            [[ -n $found ]] || die "$tool restored nothing"
            diff -rq "$source" "$found" >&2 || die "$tool restored something else"
            wipe "$to"
        done
    done
}

# ---------------------------------------------------------------- (d): proof without a key

bench_verify() { # NAME POLICY VAULT
    local name=$1 policy=$2 vault=$3 run count each
    count=$(find "$vault" -type f ! -name '.*' | wc -l)
    each=$((count / (cores * 8) + 1))
    ((each <= 256)) || each=256
    for ((run = 1; run <= runs; run++)); do
        measure "verify $name" backstop "$run" "$backstop" --policy "$policy" verify --json --no-progress
        record '{bytes: $bytes, files: $files}' --argjson bytes "$(bytes_in "$vault")" --argjson files "$count"
        measure "verify $name" sha256sum "$run" bash -c \
            'set -o pipefail; find "$1" -type f ! -name ".*" -print0 | xargs -0 -P "$2" -n "$3" sha256sum >/dev/null' - "$vault" "$cores" "$each"
        record '{bytes: $bytes, files: $files}' --argjson bytes "$(bytes_in "$vault")" --argjson files "$count"
    done
}

# ---------------------------------------------------------------- (e): sealing a log

bench_log() {
    local run vault=$work/backstop/log log=$work/log.ndjson
    local -a recipients=()
    say "making $log_events events"
    "$pim_tree" --log-events "$log_events" --out "$log" >"$work/log.json"
    # As many recipients as a vault has: two.
    for run in 1 2; do
        recipients+=(-r "$(age-keygen 2>/dev/null | age-keygen -y)")
    done
    for ((run = 1; run <= runs; run++)); do
        if wants backstop; then
            wipe "$vault"
            "$backstop" init --dir "$vault" --stream log --json --no-progress >"$work/out" 2>&1 || { cat "$work/out" >&2; die "backstop init failed"; }
            measure log backstop "$run" "$backstop" --policy "$vault/backstop.yaml" import log "$log" --json --no-progress
            record '{bytes: $bytes}' --argjson bytes "$(bytes_in "$vault/vault")"
        fi
        measure log "zstd|age" "$run" bash -c 'set -o pipefail; zstd -q -3 -T2 -c "$1" | age "${@:3}" -o "$2"' - "$log" "$work/log.age" "${recipients[@]}"
        record '{bytes: $bytes}' --argjson bytes "$(stat -c %s "$work/log.age")"
        rm -f "$work/log.age"
    done
    rm -f "$log"
}

# ---------------------------------------------------------------- (f): much

bench_big() {
    local tool phase available
    available=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
    ((available >= 18)) || die "BIG=1 wants 18 GiB of free memory, and there are $available"
    for phase in "million documents" "10 GB file"; do
        wipe "$source"
        say "making: $phase"
        if [[ $phase == "10 GB file" ]]; then
            mkdir -p "$source"
            "$pim_tree" --log-events 9250000 --out "$source/events.ndjson" >&2
        else
            "$pim_tree" --out "$source" --documents 1000000 >&2
        fi
        for tool in "${tools[@]}"; do
            fresh "$tool"
            backup "$phase" "$tool" 1 big
            record '{bytes: $bytes}' --argjson bytes "$(bytes_in "$(repository_of "$tool")")"
            wipe "$work/repositories/$tool"
        done
    done
}

# ---------------------------------------------------------------- all of it

version() {
    case $1 in
        backstop) "$backstop" --version ;;
        restic) restic version ;;
        bupstash) bupstash --version ;;
        age) printf 'age %s\n' "$(age --version)" ;;
        zstd) zstd --version | sed -n 's/.*\(v[0-9.]*\).*/zstd \1/p' ;;
        *) "$1" --version ;;
    esac 2>&1 | head -n 1
}
versions=$(for tool in "${tools[@]}" zstd age sha256sum; do jq -nc --arg tool "$tool" --arg version "$(version "$tool")" '{($tool): $version}'; done | jq -sc add)
started=$(date +%Y-%m-%dT%H:%M:%SZ)
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)

if does tree; then
    bench_tree
    if does verify && wants backstop; then
        bench_verify tree "$work/repositories/backstop/backstop.yaml" "$work/repositories/backstop/vault"
    fi
    for tool in "${tools[@]}"; do wipe "$work/repositories/$tool"; done
    wipe "$source"
fi
if does log; then
    bench_log
    if does verify && wants backstop; then
        bench_verify log "$work/backstop/log/backstop.yaml" "$work/backstop/log/vault"
    fi
    wipe "$work/backstop/log"
fi
[[ ${BIG:-0} != 1 ]] || bench_big

out=$target/bench/${started//:/-}.json
mkdir -p "${out%/*}"
touch "$work"/{tree,nights,log}.json
jq -n --arg date "$started" --arg finished "$(date +%Y-%m-%dT%H:%M:%SZ)" --argjson versions "$versions" \
    --arg cpu "$(lscpu | sed -n 's/^Model name: *//p' | head -n 1)" --argjson cores "$cores" --arg kernel "$(uname -sr)" \
    --arg system "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)" --argjson memory "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)" \
    --arg commit "$(git -C "$root" describe --always --dirty 2>/dev/null || true)" --arg before "$load_before" --arg after "$(cut -d ' ' -f 1-3 /proc/loadavg)" \
    --argjson runs "$runs" --argjson documents "$documents" --argjson churn "$churn" --argjson events "$log_events" --arg absent "${absent[*]:-}" \
    --slurpfile tree "$work/tree.json" --slurpfile nights "$work/nights.json" --slurpfile log "$work/log.json" --slurpfile measurements "$results" '
    def median: sort | if length == 0 then null elif length % 2 == 1 then .[(length - 1) / 2] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    {
        date: $date, finished: $finished, commit: $commit,
        machine: {cpu: $cpu, cores: $cores, memory_kib: $memory, kernel: $kernel, system: $system, load_before: $before, load_after: $after},
        tools: $versions, missing: ($absent | split(" ")),
        parameters: {runs: $runs, documents: $documents, churn: $churn, log_events: $events, filesystem: "tmpfs"},
        source: {tree: $tree[0], nights: $nights, log: $log[0]},
        medians: ($measurements | group_by([.phase, .tool]) | map({
            phase: .[0].phase, tool: .[0].tool, runs: length,
            seconds: (map(.seconds) | median), fastest_seconds: (map(.seconds) | min), slowest_seconds: (map(.seconds) | max),
            cpu_seconds: (map(.cpu_seconds) | median), peak_kib: (map(.peak_kib) | median),
            bytes: (map(.bytes // empty) | median), added_bytes: (map(.added_bytes // empty) | median), files: (map(.files // empty) | median)})),
        measurements: $measurements
    }' >"$out"

jq -r '
    def fixed($digits): pow(10; $digits) as $p | . * $p | round | tostring | if $digits == 0 then . else
        (if length <= $digits then ("0" * ($digits + 1 - length)) + . else . end) | .[:-$digits] + "." + .[-$digits:] end;
    . as $all | ["backstop", "restic", "borg", "bupstash", "rustic", "sha256sum", "zstd|age"] as $order
    | def of($phase): [$all.medians[] | select(.phase == $phase)] | sort_by(.tool as $t | $order | index($t));
      # A value and its ratio to the best of the others (the peers); below 1 is better than every peer.
      def cell($rows; $field; $scale; $digits; $compared): .[$field] as $mine
        | (if $compared then [$rows[] | select(.tool != "backstop") | .[$field] | values] | min else null end) as $best
        | if $mine == null then "–" else ($mine / $scale | fixed($digits)) + (if $best == null or $best <= 0 then "" else " (" + ($mine / $best | fixed(2)) + "×)" end) end;
      def name: .tool | sub("\\|"; " \\| ");
      def table($phase; $title; $columns): of($phase) as $rows | if $rows == [] then empty else
        "", "### " + $title, "",
        "| tool | " + ($columns | map(.[0]) | join(" | ")) + " |", "| --- |" + ($columns | map(" ---: |") | join("")),
        ($rows[] | . as $row | "| " + name + " | " + ($columns | map(. as $c | $row | cell($rows; $c[1]; $c[2]; $c[3]; $c[4] != false)) | join(" | ")) + " |") end;
      ["time s", "seconds", 1, 2] as $time | ["CPU s", "cpu_seconds", 1, 2] as $cpu | ["peak MiB", "peak_kib", 1024, 1] as $peak
      | "Medians of \(.parameters.runs) runs on tmpfs, in brackets the ratio to the best peer; \(.date[:10]), \(.machine.cpu), \(.machine.cores) cores, \(.machine.kernel).",
        "Load before \(.machine.load_before), after \(.machine.load_after). " + ([.tools[]] | join(", ")) + "."
          + (if .missing == [] then "" else " Left out, because missing: " + (.missing | join(", ")) + "." end),
        table("first"; "First backup: \(.source.tree.documents) documents, \((.source.tree.bytes // 0) / 1e6 | fixed(1)) MB"; [$time, $cpu, $peak, ["repository MB", "bytes", 1e6, 2], ["files", "files", 1, 0, false]]),
        table("night"; "Changed night: \(.parameters.churn * 100) % of the documents"; [$time, $cpu, $peak, ["added kB", "added_bytes", 1e3, 1]]),
        table("restore"; "Full restore"; [$time, $cpu, $peak]),
        table("verify tree"; "Proof without a key, the tree'"'"'s vault"; [$time, $cpu, $peak, ["vault MB", "bytes", 1e6, 2, false], ["objects", "files", 1, 0, false]]),
        table("verify log"; "Proof without a key, the log'"'"'s vault"; [$time, $cpu, $peak, ["vault MB", "bytes", 1e6, 2, false], ["objects", "files", 1, 0, false]]),
        table("log"; "Sealing a log: \(.source.log.events) events, \((.source.log.bytes // 0) / 1e6 | fixed(1)) MB"; [$time, $cpu, $peak, ["sealed MB", "bytes", 1e6, 2]]),
        table("million documents"; "A million documents (one run; peak memory is what counts)"; [$peak, $time, ["repository MB", "bytes", 1e6, 2]]),
        table("10 GB file"; "One file of 10 GB (one run; peak memory is what counts)"; [$peak, $time, ["repository MB", "bytes", 1e6, 2]])
' "$out"
say "every measurement: ${out#"$root"/}"
