#!/usr/bin/env python3
"""Holds a restored directory to the dump of the sample tenant that was captured. Knows nothing of the program:
folders and sets are written down here from docs/catalog.md and the services' own documentation.

  compare_dump.py graph|arm DUMP.ndjson DIRECTORY

Prints one line of JSON; ends with 1 where anything is missing, extra or different.
"""
import json
import os
import sys

EVERY = "*"
ARM = "providers/Microsoft.Authorization"
CA = "identity/conditionalAccess"
ROLES = "roleManagement/directory"

# collection of Graph: folder, arrays whose order means nothing (paths; * is every element or key)
GRAPH = {
    "entra.users": ("users", []),
    "entra.groups": ("groups", ["groupTypes"]),
    "entra.groups.members": ("groupMembers", ["members"]),
    "entra.administrativeUnits": ("directory/administrativeUnits", []),
    "entra.applications": ("applications", [
        "identifierUris", "keyCredentials", "passwordCredentials", "requiredResourceAccess",
        "requiredResourceAccess/*/resourceAccess", "appRoles", "tags"]),
    "entra.servicePrincipals": ("servicePrincipals", [
        "servicePrincipalNames", "alternativeNames", "replyUrls", "keyCredentials", "passwordCredentials", "appRoles",
        "oauth2PermissionScopes", "tags"]),
    "entra.conditionalAccessPolicies": (CA + "/policies", [
        "conditions/users/*", "conditions/applications/*", "conditions/locations/*", "conditions/clientAppTypes",
        "conditions/signInRiskLevels", "conditions/userRiskLevels", "conditions/platforms/*", "grantControls/builtInControls"]),
    "entra.namedLocations": (CA + "/namedLocations", ["ipRanges", "countriesAndRegions"]),
    "entra.roleDefinitions": (ROLES + "/roleDefinitions", [
        "resourceScopes", "rolePermissions/*/allowedResourceActions", "rolePermissions/*/excludedResourceActions"]),
    "entra.roleAssignments": (ROLES + "/roleAssignments", []),
    "entra.roleEligibilitySchedules": (ROLES + "/roleEligibilitySchedules", []),
    "entra.roleAssignmentSchedules": (ROLES + "/roleAssignmentSchedules", []),
    "entra.roleManagementPolicies": ("policies/roleManagementPolicies", [
        "rules", "rules/*/enabledRules", "rules/*/notificationRecipients", "rules/*/target/operations",
        "rules/*/target/enforcedSettings", "rules/*/target/inheritableSettings"]),
    "entra.roleManagementPolicyAssignments": ("policies/roleManagementPolicyAssignments", []),
}
# collection of Azure: last part of the folder, sets
AZURE = {
    "arm.subscriptions": ("subscriptions", []),
    "arm.roleDefinitions": ("roleDefinitions", [
        "properties/assignableScopes", "properties/permissions/*/actions", "properties/permissions/*/notActions",
        "properties/permissions/*/dataActions", "properties/permissions/*/notDataActions"]),
    "arm.roleAssignments": ("roleAssignments", []),
    "arm.roleManagementPolicies": ("roleManagementPolicies", [
        "properties/rules", "properties/rules/*/enabledRules", "properties/rules/*/notificationRecipients",
        "properties/rules/*/target/operations"]),
    "arm.roleManagementPolicyAssignments": ("roleManagementPolicyAssignments", []),
    "arm.policyDefinitions": ("policyDefinitions", []),
}


def name_of(identity):
    return identity.replace("~", "~0").replace("/", "~1") + ".json"


def graph_place(line):
    known = GRAPH.get(line["collection"])
    return known and (known[0] + "/" + name_of(line["id"]), known[1])


def azure_place(line):
    known = AZURE.get(line["collection"])
    if not known:
        return None
    folder, sets = known
    record = line["record"]
    if folder == "subscriptions":
        return "subscriptions/" + name_of(record["subscriptionId"]), sets
    name = name_of(record["name"])
    parts = record["id"].split("/")
    if parts[1] == "subscriptions":
        return "/".join([ARM, folder, parts[2], name]), sets
    # What is built in is captured of roles only.
    return ("/".join([ARM, "builtInRoleDefinitions", name]), sets) if folder == "roleDefinitions" else None


def without_transport(record):
    """Annotations of the answer are no part of a record; its type is."""
    def is_transport(key):
        ends = ("@odata.context", "@odata.navigationLink", "@odata.associationLink")
        return key.startswith("@odata.") and key != "@odata.type" or key.endswith(ends)
    return {key: value for key, value in record.items() if not is_transport(key)}


def sort_at(value, steps):
    if not steps:
        if isinstance(value, list):
            value.sort(key=lambda element: json.dumps(element, sort_keys=True))
        return
    first, rest = steps[0], steps[1:]
    if first == EVERY:
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else []
    else:
        inner = [value[first]] if isinstance(value, dict) and first in value else []
    for each in inner:
        sort_at(each, rest)


def comparable(record, sets):
    record = without_transport(record)
    # What lies deeper is sorted first, so that elements of a set are compared in their final form.
    for path in sorted(sets, key=lambda p: -p.count("/")):
        sort_at(record, path.split("/"))
    # The service gives a schedule without an end the time of the question as its start.
    schedule = record.get("scheduleInfo")
    if isinstance(schedule, dict) and (schedule.get("expiration") or {}).get("type") == "noExpiration":
        schedule.pop("startDateTime", None)
    return record


def same(a, b):
    """As JSON: in Python, True and 1 would be equal."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def main():
    plane, dump, directory = sys.argv[1:]
    place = {"graph": graph_place, "arm": azure_place}[plane]
    expected = {}
    with open(dump, encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            where = place(line)
            if where:
                assert where[0] not in expected, "two records at " + where[0]
                expected[where[0]] = (line["record"], where[1])
    found = set()
    for root, _, files in os.walk(directory):
        found.update(os.path.relpath(os.path.join(root, file), directory) for file in files)
    different = []
    for path in sorted(found & expected.keys()):
        record, sets = expected[path]
        with open(os.path.join(directory, path), encoding="utf-8") as file:
            restored = json.load(file)
        if not same(comparable(restored, sets), comparable(record, sets)):
            different.append(path)
    missing, extra = sorted(expected.keys() - found), sorted(found - expected.keys())
    verdict = {"records": len(expected), "missing": missing[:5], "extra": extra[:5], "different": different[:5]}
    print(json.dumps(verdict))
    return 1 if missing or extra or different or not expected else 0


if __name__ == "__main__":
    sys.exit(main())
