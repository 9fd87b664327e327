#!/usr/bin/env bash
# Runs every test, and every fuzz target for a moment. Installs what they need on a bare Debian machine that
# has a Rust toolchain (1.95 or newer), and says what is missing where it cannot.
#
#   scripts/test.sh             all of it
#   FUZZ_SECONDS=0 scripts/test.sh      without the fuzz targets; any other number: at most so long for each
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() { printf 'test: %s\n' "$*" >&2; exit 1; }

# Tests make vaults whose files have the kernel's immutable flag; one that is killed leaves them behind, and then
# the target directory could not be removed.
clear_flags() { find target -path '*/vault/*' -type f -exec chattr -i {} + > /dev/null 2>&1 || true; }
waiter=
finish() {
    [ -z "$waiter" ] || kill "$waiter" 2> /dev/null || true
    clear_flags
}
trap finish EXIT

command -v cargo > /dev/null || die 'there is no Rust toolchain: install Rust 1.95 or newer'

# ---- tools: command, Debian package
packages=()
need() { command -v "$1" > /dev/null || packages+=("$2"); }
need age age
need zstd zstd
need jq jq
need tar tar
need lsattr e2fsprogs
need openssl openssl
need node nodejs
need npm npm
need faketime faketime
need python3 python3
need cc gcc
need c++ g++
need shellcheck shellcheck
need promtool prometheus
need buildah buildah
need debootstrap debootstrap
need chromium chromium
need runsv runit
/usr/bin/python3 -c 'import aiosmtpd' 2> /dev/null || packages+=(python3-aiosmtpd)
python3 -c 'import ensurepip' 2> /dev/null || packages+=(python3-venv)
if [ ${#packages[@]} -gt 0 ]; then
    command -v apt-get > /dev/null || die "please install: ${packages[*]}"
    [ "$(id -u)" -eq 0 ] || die "please install, as root: apt-get install ${packages[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" > /dev/null
fi

# ---- what the second reader of the format and the judge of the Azure templates need
wanted='securesystemslib==1.6.0 cryptography==50.0.2 azure-mgmt-storage==25.0.0 pycep-parser==0.7.1'
venv=target/test-venv
if [ "$(cat $venv/wanted 2> /dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    mkdir -p target
    python3 -m venv "$venv" || die 'a Python environment cannot be made: install python3-venv'
    # shellcheck disable=SC2086 # several words
    "$venv/bin/pip" install --quiet --disable-pip-version-check $wanted || die "cannot install from PyPI: $wanted"
    printf '%s\n' "$wanted" > "$venv/wanted"
fi

# ---- an emulator of the Blob service: it ignores locks, so the tests' own double shows those
azurite=target/azurite
emulator='azurite@3.37.0'
if [ "$(cat $azurite/wanted 2> /dev/null)" != "$emulator" ]; then
    rm -rf "$azurite"
    mkdir -p "$azurite"
    npm install --silent --no-audit --no-fund --prefix "$azurite" "$emulator" > /dev/null || die "cannot install from npm: $emulator"
    printf '%s\n' "$emulator" > "$azurite/wanted"
fi

# ---- tests
logs=target/test-logs
rm -rf "$logs"
mkdir -p "$logs"
cargo test --no-run --lib --bins --examples --tests
built=$(cargo test --no-run --lib --bins --examples --tests --message-format=json 2> /dev/null |
    jq -r 'select(.reason == "compiler-artifact" and .profile.test) | .executable // empty')
[ -n "$built" ] || die 'cargo names no test program'
# Those that mostly wait, for daemons and clocks, have a lane of their own, with many threads; the others share two
# lanes, the longest first, so that none is left to run by itself at the end.
waiting=' alerts daemon leases otlp watch '
longest='watch_year azure_many quickstart restore_year seven_years doctor tenant_capture crash azure_vault tenant_vault '
one() { # executable, threads
    local name
    name=$(basename "${1%-*}")
    # Each of the programs and examples has one of its own, most without any test.
    "$1" --test-threads="$2" > "$logs/${1##*/}" 2>&1 || printf '%s\n' "$name" >> "$logs/.failed"
    flock "$logs/.printing" sed "1s/^/\n     Tests of $name\n/" "$logs/${1##*/}"
}
export -f one
export logs
lane() { # whether those that wait
    local executable name
    for executable in $built; do
        name=$(basename "${executable%-*}")
        case "$waiting" in *" $name "*) [ "$1" = waiting ] ;; *) [ "$1" != waiting ] ;; esac || continue
        case "$longest" in *"$name "*) printf '0 %s\n' "$executable" ;; *) printf '1 %s\n' "$executable" ;; esac
    done | sort -s -k 1,1 | cut -d ' ' -f 2
}
lane waiting | xargs -r -I '{}' bash -c 'one {} 8' &
waiter=$!
lane others | xargs -r -P 2 -I '{}' bash -c 'one {} 2'
wait "$waiter" || true
waiter=
failed=0
[ ! -e "$logs/.failed" ] || failed=1
cargo test --doc 2>&1 | tee "$logs/doc" || failed=1

# ---- fuzz targets, on the toolchain at hand
seconds=${FUZZ_SECONDS:-5}
if [ "$seconds" -gt 0 ] && [ "$failed" -eq 0 ]; then
    cargo fuzz --version > /dev/null 2>&1 || cargo install --quiet --locked --debug cargo-fuzz || die 'cargo-fuzz cannot be installed'
    # cargo-fuzz wants flags of the nightly compiler; without a sanitizer the stable one takes them, too.
    export RUSTC_BOOTSTRAP=1
    cargo fuzz build --sanitizer none --codegen-units 16
    triple=$(rustc -vV | sed -n 's/^host: //p')
    for target in $(cargo fuzz list); do
        mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
        output=target/fuzz-$target.log
        if "fuzz/target/$triple/release/$target" -seed=1 -runs=50000 -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
            -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target" > "$output" 2>&1; then
            printf 'fuzz %-16s %s\n' "$target" "$(grep -a '^Done' "$output")"
        else
            tail -n 40 "$output"
            printf 'fuzz %s FAILED: the input is in fuzz/artifacts/%s\n' "$target" "$target"
            failed=1
        fi
    done
fi

[ ! -e "$logs/.failed" ] || printf 'test: failed: %s\n' "$(paste -sd ' ' "$logs/.failed")"
cat "$logs"/* | awk '/^test result: / { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }'
exit "$failed"
