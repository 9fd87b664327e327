#!/usr/bin/env bash
# Backs up a small sample of real role definitions, policies and logs, audits it and brings it back, in a new
# directory. Needs a Rust toolchain and nothing else; recovers one record with age, zstd and tar when they are
# installed. Needs no root; as root the vault's files get the kernel's immutable flag.
#
#   scripts/demo.sh [DIRECTORY]      a directory that does not exist yet; target/demo-<time> unless said
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

demo=${1:-target/demo-$(date +%Y%m%d-%H%M%S)}
while [ $# -eq 0 ] && [ -e "$demo" ]; do demo+=x; done
[ ! -e "$demo" ] || { echo "demo: $demo is there already; name a new directory" >&2; exit 2; }

bold=$'\e[1m' faint=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold='' faint='' plain=''
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() { printf '%s$ %s%s\n' "$faint" "$*" "$plain"; "$@"; }

step 'Building (the first time takes some minutes)'
cargo build --release --quiet
PATH=$root/target/release:$PATH

mkdir -p "$demo"
cp -R sample/config sample/evidence sample/logs "$demo/"
cd "$demo"
here=$PWD

step 'A vault: keys, a policy, and the genesis from which all trust starts'
run backstop init
# The sample's sources and streams take the place of the empty ones.
awk -v part="$root/sample/sources-and-streams.yaml" '
    $0 == "sources: {}" { while ((getline line < part) > 0) print line; next }
    $0 == "streams: {}" { next }
    { print }' backstop.yaml > backstop.yaml.new
mv backstop.yaml.new backstop.yaml
# The agent never holds an identity. Here they move one directory away; in earnest, to another place.
mkdir offline
mv keys/identity-1.txt keys/identity-2.txt keys/operator.key offline/

step 'The first snapshot holds everything'
run backstop snapshot

step 'Logs that other systems delivered: Graph pages, CSV, NDJSON in gzip, a JSON array'
run backstop import sign-ins logs/sign-ins.graph.json logs/sign-ins.sentinel.csv
run backstop import directory-audits logs/directory-audits.graph.json logs/provisioning.graph.json
run backstop import rule-tests logs/rule-tests.microsoft.ndjson logs/rule-tests.azure-activity.ndjson.gz logs/rule-tests.sign-ins.array.json

step 'Somebody widens a role and deletes a policy; the next snapshot stores only that'
role=config/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7.json
cp -R config config.before
sed -i 's|"\*/read"|"*"|' "$role"
rm config/azure-policy/policyDefinitions/General/MFA_Deny.json
run backstop snapshot config

step 'What changed, attribute by attribute'
run backstop diff config~1 config --identity offline/identity-1.txt

step 'An audit without any key, and one that opens every record'
run backstop verify
run backstop verify --deep --identity offline/identity-1.txt

step 'The state before the change, back from the vault, compared byte for byte'
run backstop restore files config~1 --to restored --identity offline/identity-1.txt
run diff -r config.before restored
echo 'identical'
run backstop restore files evidence --to restored-evidence --identity offline/identity-2.txt
run diff -r evidence restored-evidence
echo 'identical'

step 'The events of a window'
run backstop restore logs sign-ins --from 2020-01-01 --to 2022-01-01 --out sign-ins.ndjson --identity offline/identity-1.txt

missing=()
for tool in age zstd tar jq; do command -v "$tool" > /dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -eq 0 ]; then
    step 'One record without this program: age, zstd, tar, and jq to find it'
    run_id=$(backstop ls --chain snapshot.config --json | jq -rs '.[-1].run')
    folder=$(echo vault/config-snapshots/config/*/"$run_id")
    printf '%s$ age -d -i offline/identity-1.txt %s | zstd -d | jq …%s\n' "$faint" "${folder#"$here"/}/manifest.ndjson.zst.age" "$plain"
    record=${role#config/}
    age -d -i offline/identity-1.txt "$folder/manifest.ndjson.zst.age" | zstd -dq > manifest.ndjson
    line=$(jq -c --arg path "$record" 'select(.path == $path)' manifest.ndjson)
    segment=vault/$(head -n 1 manifest.ndjson | jq -r ".segments[$(jq -r .segment <<< "$line")].name")
    printf '%s$ age -d -i offline/identity-1.txt %s | zstd -d | tar -x -O %s%s\n' "$faint" "$segment" "$record" "$plain"
    age -d -i offline/identity-1.txt "$segment" | zstd -dq | tar -x -O "$record" > record.json
    run cmp record.json "config.before/$record"
    echo 'identical'
else
    step "One record without this program: left out, because ${missing[*]} is not installed"
fi

step 'Where everything is'
cat <<TXT
  $here
    vault/           the vault: copy it anywhere, it can only be read with an identity
    vault/attestations/RECOVERY.md   how to get everything back without this program
    backstop.yaml    the policy
    keys/, offline/  what the agent holds, and what it must not hold
    restored/        the configuration as it was before the change

What to try next
  cd $here
  export PATH=$root/target/release:\$PATH BACKSTOP_IDENTITY=offline/identity-1.txt
  backstop ls                                        # every run
  backstop show config                               # one run, its objects, locks and records
  backstop restore files config --to now             # the state after the change
  backstop checkpoint --json > checkpoint.json       # to be kept elsewhere …
  backstop verify --checkpoint checkpoint.json       # … and held against the vault later
  cp -R vault copy && backstop verify --vault copy --ignore-locks --genesis \$(sha256sum < keys/genesis.json | cut -c 1-64)

To take the trial vault away
  chattr -R -i vault 2> /dev/null; chmod -R u+w . ; cd .. && rm -r $here
TXT
[ "$(id -u)" -ne 0 ] || echo '  (as root its files have the kernel'\''s immutable flag: without the first command nothing of the vault can be deleted)'
