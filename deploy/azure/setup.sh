#!/bin/sh
# Makes a storage account ready for a backstop vault, with the Azure CLI. It can be run again: what is there is kept,
# settings are put right, and nothing is ever deleted.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

usage() {
    cat <<'TEXT'
usage: setup.sh --account NAME --resource-group GROUP [options]

  --account NAME            the storage account: 3 to 24 lower-case letters and digits
  --resource-group GROUP    its resource group
  --create-group            make the resource group; needs --location
  --location REGION         where; needed for what is made
  --subscription ID         the subscription; the CLI's current one unless said
  --sku SKU                 Standard_RAGRS (default), Standard_GRS, or Standard_LRS for trials
  --container CLASS=NAME    another name for config-snapshots, audit-logs, evidence or attestations; repeatable
  --soft-delete-days N      how long deleted blobs and containers can be brought back; 14
  --change-feed             keep the account's change feed, too
  --allow-shared-key        leave account keys and their SAS in force; off unless said
  --replace-lifecycle       replace lifecycle rules that are not backstop's

  --agent-principal ID      object id that gets the agent's role
  --tester-principal ID     object id that gets the restore tester's role
  --operator-principal ID   object id that gets the operators' role
  --agent-type, --tester-type, --operator-type TYPE
                            ServicePrincipal (default; operators: Group), Group or User
  --role-prefix TEXT        begins the roles' names, which are unique in a tenant; Backstop
  --no-roles                neither define nor assign roles

  --lock-by version         each object carries its own lock (default)
  --lock-by container       a retention policy on each container locks it
  --retention-years N       with --lock-by container: the longest retention of the policy; 7
  --grace-days N            with --lock-by container: 30
  --epoch-days N            with --lock-by container: the longest period; 92, where a source goes by years 366
  --period CLASS=DAYS       with --lock-by container: another interval for one class; repeatable
  --lock                    with --lock-by container: lock the policies. THIS CANNOT BE UNDONE BY ANYBODY

  --dry-run                 print the commands for a new account; run nothing, ask nothing
  --help                    this text
TEXT
}

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }
bad_usage() { printf 'setup: %s\n' "$*" >&2; printf 'setup: see --help\n' >&2; exit 2; }

account='' group='' create_group=0 location='' subscription='' sku=Standard_RAGRS
config=config-snapshots audit=audit-logs evidence=evidence attest=attestations
soft=14 change_feed=0 shared_key=false replace_lifecycle=0
agent='' tester='' operator='' agent_type=ServicePrincipal tester_type=ServicePrincipal operator_type=Group
prefix=Backstop roles=1
lock_by=version retention=7 grace=30 epoch=92 lock=0 dry=0
config_period='' audit_period='' evidence_period='' attest_period='' container_flags=''

# Sets one of four variables by the class of data that it is for: set_class CLASS=VALUE FLAG SUFFIX
set_class() {
    case $1 in *?=?*) ;; *) bad_usage "$2 $1: write CLASS=VALUE" ;; esac
    class=${1%%=*} value=${1#*=}
    case $class$3 in
        config-snapshots) config=$value ;;
        audit-logs) audit=$value ;;
        evidence) evidence=$value ;;
        attestations) attest=$value ;;
        config-snapshots_period) config_period=$value ;;
        audit-logs_period) audit_period=$value ;;
        evidence_period) evidence_period=$value ;;
        attestations_period) attest_period=$value ;;
        *) bad_usage "$2: $class is not one of config-snapshots, audit-logs, evidence, attestations" ;;
    esac
}

while [ $# -gt 0 ]; do
    flag=$1
    shift
    case $flag in
        --create-group) create_group=1; continue ;;
        --change-feed) change_feed=1; continue ;;
        --allow-shared-key) shared_key=true; continue ;;
        --replace-lifecycle) replace_lifecycle=1; continue ;;
        --no-roles) roles=0; continue ;;
        --lock) lock=1; container_flags="$container_flags $flag"; continue ;;
        --dry-run) dry=1; continue ;;
        --help | -h) usage; exit 0 ;;
        --*) ;;
        *) bad_usage "$flag is no option" ;;
    esac
    [ $# -gt 0 ] || bad_usage "$flag needs a value"
    given=$1
    shift
    case $flag in
        --account) account=$given ;;
        --resource-group) group=$given ;;
        --location) location=$given ;;
        --subscription) subscription=$given ;;
        --sku) sku=$given ;;
        --container) set_class "$given" "$flag" '' ;;
        --soft-delete-days) soft=$given ;;
        --agent-principal) agent=$given ;;
        --tester-principal) tester=$given ;;
        --operator-principal) operator=$given ;;
        --agent-type) agent_type=$given ;;
        --tester-type) tester_type=$given ;;
        --operator-type) operator_type=$given ;;
        --role-prefix) prefix=$given ;;
        --lock-by) lock_by=$given ;;
        --retention-years) retention=$given; container_flags="$container_flags $flag" ;;
        --grace-days) grace=$given; container_flags="$container_flags $flag" ;;
        --epoch-days) epoch=$given; container_flags="$container_flags $flag" ;;
        --period) set_class "$given" "$flag" _period; container_flags="$container_flags $flag" ;;
        *) bad_usage "$flag is no option" ;;
    esac
done

# ---- what was said is looked at before anything is done
number() {
    case $2 in '' | *[!0-9]* | 0* | ?????????*) bad_usage "$1 $2: write a whole number from $3 to $4" ;; esac
    { [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; } || bad_usage "$1 $2: write a whole number from $3 to $4"
}
[ -n "$account" ] || bad_usage 'name the storage account: --account NAME'
[ -n "$group" ] || bad_usage 'name the resource group: --resource-group GROUP'
case $account in *[!a-z0-9]*) bad_usage "--account $account: 3 to 24 lower-case letters and digits" ;; esac
{ [ ${#account} -ge 3 ] && [ ${#account} -le 24 ]; } || bad_usage "--account $account: 3 to 24 lower-case letters and digits"
[ "$create_group" -eq 0 ] || [ -n "$location" ] || bad_usage '--create-group needs --location'
case $sku in
    Standard_RAGRS | Standard_GRS | Standard_LRS) ;;
    *ZRS) bad_usage "--sku $sku: zone-redundant accounts have no archive tier; take Standard_RAGRS or Standard_GRS" ;;
    *) bad_usage "--sku $sku: take Standard_RAGRS, Standard_GRS or, for trials, Standard_LRS" ;;
esac
for name in "$config" "$audit" "$evidence" "$attest"; do
    case $name in *[!a-z0-9-]* | -* | *- | *--*) bad_usage "$name is no container's name: lower-case letters, digits, single hyphens" ;; esac
    { [ ${#name} -ge 3 ] && [ ${#name} -le 63 ]; } || bad_usage "$name is no container's name: 3 to 63 characters"
done
[ "$(printf '%s\n' "$config" "$audit" "$evidence" "$attest" | sort -u | wc -l)" -eq 4 ] || bad_usage 'every container needs a name of its own'
for kind in "$agent_type" "$tester_type" "$operator_type"; do
    case $kind in ServicePrincipal | Group | User) ;; *) bad_usage "$kind is none of ServicePrincipal, Group, User" ;; esac
done
case $prefix in *[!A-Za-z0-9\ _-]* | '') bad_usage "--role-prefix $prefix: letters, digits, blanks, - and _" ;; esac
number --soft-delete-days "$soft" 1 365
case $lock_by in
    version) [ -z "$container_flags" ] || bad_usage "only with --lock-by container:$container_flags" ;;
    container)
        number --retention-years "$retention" 1 100
        number --grace-days "$grace" 1 3650
        number --epoch-days "$epoch" 31 366
        # Years as long as they can be: what `backstop doctor` holds the policies to.
        period=$((retention * 366 + grace + epoch))
        for class_period in config_period audit_period evidence_period attest_period; do
            eval "[ -n \"\$$class_period\" ] || $class_period=$period"
            eval "number --period \"\$$class_period\" 1 146000"
        done
        # An attestation is locked as long as anything that it attests.
        for other in "$config_period" "$audit_period" "$evidence_period"; do
            [ "$attest_period" -ge "$other" ] || attest_period=$other
        done
        ;;
    *) bad_usage "--lock-by $lock_by: version or container" ;;
esac
for file in role.json role-tester.json role-operator.json lifecycle.json; do
    [ -r "$here/$file" ] || die "$here/$file cannot be read"
done

# ---- how commands are shown, run and asked
# As it could be typed: what a shell would touch stands in quotes.
show() {
    line=az
    for word in "$@"; do
        case $word in
            '' | *[!A-Za-z0-9_./:=@,+-]*) line="$line '$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
            *) line="$line $word" ;;
        esac
    done
    printf '%s\n' "$line"
}

# Changes something. Every command names the subscription, so that the CLI's own choice does not matter.
run() {
    if [ "$dry" -eq 1 ]; then
        show "$@" --subscription "$subscription" --output none
    else
        show "$@" --subscription "$subscription" --output none >&2
        az "$@" --subscription "$subscription" --output none
    fi
}

# Asks for one value, into `answer`: empty where there is no such thing, for which the CLI ends with 3. Any other
# failure ends this script: what could not be asked is not taken for missing.
ask() {
    status=0
    answer=$(az "$@" --subscription "$subscription" --only-show-errors --output tsv 2> "$errors") || status=$?
    case $status in
        0) [ "$answer" != None ] || answer='' ;;
        3) answer='' ;;
        *)
            cat "$errors" >&2
            die "az $1 $2 $3 failed (exit $status)"
            ;;
    esac
}

if [ "$dry" -eq 1 ]; then
    [ -n "$subscription" ] || subscription=SUBSCRIPTION
    [ -n "$location" ] || location=LOCATION
else
    command -v az > /dev/null || die 'the Azure CLI is missing: az'
    errors=$(mktemp)
    trap 'rm -f "$errors"' EXIT
    if [ -z "$subscription" ]; then
        subscription=$(az account show --query id --output tsv) || die 'nobody is signed in: az login'
    fi
fi
group_id=/subscriptions/$subscription/resourceGroups/$group
account_id=$group_id/providers/Microsoft.Storage/storageAccounts/$account
left_over=0

# ---- resource group
if [ "$create_group" -eq 1 ]; then
    run group create --name "$group" --location "$location"
fi

# ---- account
exists=''
if [ "$dry" -eq 0 ]; then
    ask storage account show --name "$account" --resource-group "$group" --query isHnsEnabled
    [ "$answer" != true ] || die "$account has a hierarchical namespace, which has no version-level immutability: take another account"
    ask storage account show --name "$account" --resource-group "$group" --query id
    exists=$answer
fi
if [ -n "$exists" ]; then
    if [ "$lock_by" = container ]; then
        # There every container has version-level immutability, and a container's policy is no more than a default.
        ask storage account show --name "$account" --resource-group "$group" --query immutableStorageWithVersioning.enabled
        [ "$answer" != true ] || die "$account has version-level immutability for all containers: lock by version, or take another account"
    fi
    say "$account is there: its settings are put right, its redundancy stays as it is"
    run storage account update --name "$account" --resource-group "$group" --https-only true --min-tls-version TLS1_2 \
        --allow-blob-public-access false --allow-shared-key-access "$shared_key" --allow-cross-tenant-replication false
else
    [ -n "$location" ] || bad_usage "$account is to be made: say --location"
    # Version-level immutability of a whole account can only be asked for now, and never be taken back.
    set -- storage account create --name "$account" --resource-group "$group" --location "$location" --kind StorageV2 --sku "$sku" \
        --access-tier Hot --https-only true --min-tls-version TLS1_2 --allow-blob-public-access false \
        --allow-shared-key-access "$shared_key" --allow-cross-tenant-replication false
    [ "$lock_by" = container ] || set -- "$@" --enable-alw true
    run "$@"
fi

# ---- the blob service: versions before any container, since locks protect versions
set -- storage account blob-service-properties update --account-name "$account" --resource-group "$group" --enable-versioning true \
    --enable-delete-retention true --delete-retention-days "$soft" \
    --enable-container-delete-retention true --container-delete-retention-days "$soft" \
    --enable-restore-policy false --enable-last-access-tracking false
[ "$change_feed" -eq 0 ] || set -- "$@" --enable-change-feed true
run "$@"

# ---- containers
# How a container that has no version-level immutability gets it. Never done here: it cannot be undone, it needs a
# retention policy first, and that policy becomes the container's default.
explain_migration() {
    say "NOT DONE: the container $1 exists without version-level immutability, so objects in it cannot carry locks."
    say '  Either give the class another container (--container CLASS=NAME), or migrate this one. A migration needs a'
    say '  retention policy on the container and no legal hold, goes on for a while, and cannot be undone. Afterwards the'
    say '  policy is the default for whatever comes without a lock of its own, so keep it at a day:'
    say "    az storage container immutability-policy create --account-name $account --container-name $1 --resource-group $group --period 1"
    say "    az storage container-rm migrate-vlw --storage-account $account --name $1 --resource-group $group --no-wait"
    say "    az storage container-rm show --storage-account $account --name $1 --resource-group $group --query immutableStorageWithVersioning.migrationState"
    left_over=1
}

container() {
    name=$1 there=false
    if [ "$dry" -eq 0 ]; then
        ask storage container-rm exists --name "$name" --storage-account "$account" --resource-group "$group" --query exists
        there=$answer
    fi
    if [ "$there" = true ]; then
        ask storage container-rm show --name "$name" --storage-account "$account" --resource-group "$group" \
            --query immutableStorageWithVersioning.enabled
        case $lock_by$answer in
            versiontrue | container | containerfalse) say "the container $name is there and kept as it is" ;;
            container*) die "the container $name has version-level immutability, where a policy is no more than a default: lock by version" ;;
            *) explain_migration "$name" ;;
        esac
        return
    fi
    set -- storage container-rm create --name "$name" --storage-account "$account" --resource-group "$group" --public-access off
    [ "$lock_by" = container ] || set -- "$@" --enable-vlw true
    run "$@"
}
container "$config"
container "$audit"
container "$evidence"
container "$attest"

# By leases on blobs in it, several agents share the work. Nothing in it is locked, and nothing is lost with it.
there=false
if [ "$dry" -eq 0 ]; then
    ask storage container-rm exists --name backstop-leases --storage-account "$account" --resource-group "$group" --query exists
    there=$answer
fi
[ "$there" = true ] || run storage container-rm create --name backstop-leases --storage-account "$account" --resource-group "$group" --public-access off

# ---- with --lock-by container: a retention policy on each
retain() {
    name=$1 days=$2 state='' known=0
    if [ "$dry" -eq 0 ]; then
        ask storage container immutability-policy show --account-name "$account" --container-name "$name" --resource-group "$group" --query state
        state=$answer
        ask storage container immutability-policy show --account-name "$account" --container-name "$name" --resource-group "$group" \
            --query immutabilityPeriodSinceCreationInDays
        known=${answer:-0}
    fi
    if [ "$state" = Locked ]; then
        if [ "$known" -lt "$days" ]; then
            say "NOT DONE: the policy of $name is locked at $known days, and $days are asked for. A locked policy can be extended five"
            say '  times in its life, and never shortened: az storage container immutability-policy extend'
            left_over=1
        else
            say "the policy of $name is locked at $known days"
        fi
        return
    fi
    # Nothing is shortened here, not even what could be.
    [ "$known" -le "$days" ] || days=$known
    run storage container immutability-policy create --account-name "$account" --container-name "$name" --resource-group "$group" \
        --period "$days" --allow-protected-append-writes false
    [ "$lock" -eq 1 ] || return 0
    etag=ETAG
    if [ "$dry" -eq 0 ]; then
        ask storage container immutability-policy show --account-name "$account" --container-name "$name" --resource-group "$group" --query etag
        etag=$answer
        [ -n "$etag" ] || die "the policy of $name has no etag: it is not locked"
    fi
    run storage container immutability-policy lock --account-name "$account" --container-name "$name" --resource-group "$group" --if-match "$etag"
}
if [ "$lock_by" = container ]; then
    if [ "$lock" -eq 1 ]; then
        say '************************************************************************************'
        say '*  The policies of four containers will be LOCKED. Nobody can undo that: no owner,  *'
        say '*  no administrator, not Microsoft. Objects stay, and are paid for, until each has  *'
        say '*  reached its age; the account cannot be removed before.                           *'
        say '************************************************************************************'
    else
        say 'The policies are NOT locked: whoever manages the account can lift them. Lock them with --lock, once the vault works.'
    fi
    retain "$config" "$config_period"
    retain "$audit" "$audit_period"
    retain "$evidence" "$evidence_period"
    retain "$attest" "$attest_period"
fi

# ---- tiers by age; the command replaces all rules of an account, so another's are not overwritten unasked
others=''
if [ "$dry" -eq 0 ]; then
    ask storage account management-policy show --account-name "$account" --resource-group "$group" \
        --query "length(policy.rules[?!starts_with(name, 'backstop')])"
    [ "$answer" = 0 ] || others=$answer
fi
if [ -n "$others" ] && [ "$replace_lifecycle" -eq 0 ]; then
    say "NOT DONE: $account has $others lifecycle rule(s) of somebody else. Add the two of lifecycle.json to them, and see that none deletes"
    say '  anything of the vault; or say --replace-lifecycle.'
    left_over=1
else
    rules=$(tr -d '\n' < "$here/lifecycle.json" | sed -e 's/  *//g' -e "s|\"config-snapshots/\"|\"$config/\"|" -e "s|\"audit-logs/\"|\"$audit/\"|" \
        -e "s|\"evidence/\"|\"$evidence/\"|" -e "s|\"attestations/\"|\"$attest/\"|")
    run storage account management-policy create --account-name "$account" --resource-group "$group" --policy "$rules"
fi

# ---- roles
# Defines or renews one, for this resource group: role FILE NAME
role() {
    definition=$(tr -d '\n' < "$here/$1" | sed -e 's/   *//g' -e "s|\"Name\": \"[^\"]*\"|\"Name\": \"$2\"|" \
        -e "s|\"/subscriptions/00000000-0000-0000-0000-000000000000\"|\"$group_id\"|")
    verb=create
    if [ "$dry" -eq 0 ]; then
        ask role definition list --custom-role-only true --name "$2" --scope "$group_id" --query '[0].name'
        [ -z "$answer" ] || verb=update
    fi
    run role definition "$verb" --role-definition "$definition"
}

# A role that was made a moment ago is not known everywhere at once: assign ROLE PRINCIPAL TYPE
assign() {
    [ -n "$2" ] || return 0
    tries=0
    until run role assignment create --role "$1" --assignee-object-id "$2" --assignee-principal-type "$3" --scope "$account_id"; do
        tries=$((tries + 1))
        [ "$tries" -lt 10 ] || die "the role $1 cannot be assigned to $2"
        say 'not yet; again in 15 seconds'
        sleep 15
    done
}
if [ "$roles" -eq 1 ]; then
    role role.json "$prefix agent"
    role role-tester.json "$prefix restore tester"
    role role-operator.json "$prefix operator"
    assign "$prefix agent" "$agent" "$agent_type"
    assign "$prefix restore tester" "$tester" "$tester_type"
    assign "$prefix operator" "$operator" "$operator_type"
fi

# ---- what belongs into the policy
endpoint=''
if [ "$dry" -eq 0 ]; then
    ask storage account show --name "$account" --resource-group "$group" --query primaryEndpoints.blob
    endpoint=${answer%/}
fi
cloud=''
case $endpoint in
    *.core.usgovcloudapi.net) cloud='    authority: https://login.microsoftonline.us
    arm_endpoint: https://management.usgovcloudapi.net' ;;
    *.core.chinacloudapi.cn) cloud='    authority: https://login.chinacloudapi.cn
    arm_endpoint: https://management.chinacloudapi.cn' ;;
esac
[ "$dry" -eq 0 ] || printf '\n'
cat <<TEXT
# Into backstop.yaml:
vault:
  azure:
    account: $account
TEXT
case $endpoint in '' | https://"$account".blob.core.windows.net) ;; *) printf '    endpoint: %s\n' "$endpoint" ;; esac
[ -z "$cloud" ] || printf '%s\n' "$cloud"
cat <<TEXT
    subscription: $subscription
    containers: { config-snapshots: $config, audit-logs: $audit, evidence: $evidence, attestations: $attest }
    credential: { managed_identity: {} }
  lock: { mode: locked, by: $lock_by, grace: ${grace}d }
TEXT
if [ "$left_over" -ne 0 ]; then
    say 'Something was NOT DONE: it stands above, with what to do. Then run this again.'
    exit 1
fi
