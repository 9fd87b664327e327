"""Judges the Azure templates: `check` reads an ARM template and holds its storage resources to Microsoft's own
models of them; `bicep FILE` holds the template to the Bicep file that it stands for. The template comes on standard
input; what is wrong goes to standard output as a JSON array of sentences.

The models come from the package azure-mgmt-storage, which Microsoft generates from the service's description. They know
every property, its type, its values and what is required; JSON schemas for templates let unknown properties pass."""

import enum
import json
import pathlib
import sys
import typing

ENVELOPE = {"type", "apiVersion", "name", "scope", "condition", "copy", "dependsOn"}
VERSIONS = {"Microsoft.Storage": "2023-05-01", "Microsoft.Authorization": "2022-04-01"}


def is_expression(value):
    return isinstance(value, str) and value.startswith("[") and value.endswith("]") and not value.startswith("[[")


def judge(value, kind, where, wrong):
    """Holds a value to a type of the models."""
    if is_expression(value):
        return
    options = [o for o in (typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)) if o is not type(None)]
    enums = [o for o in options if isinstance(o, type) and issubclass(o, enum.Enum)]
    if enums:
        if value not in [member.value for e in enums for member in e]:
            wrong.append(f"{where}: {value!r} is none of its values")
        return
    kind = options[0]
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            wrong.append(f"{where}: {value!r} is no list")
            return
        for n, item in enumerate(value):
            judge(item, typing.get_args(kind)[0], f"{where}[{n}]", wrong)
    elif typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            wrong.append(f"{where}: {value!r} is no object")
    elif hasattr(kind, "_attr_to_rest_field") or hasattr(kind, "as_dict"):
        judge_model(value, kind, where, wrong)
    elif kind in (str, int, bool):
        if type(value) is not kind:
            wrong.append(f"{where}: {value!r} is no {kind.__name__}")


def judge_model(value, model, where, wrong):
    """Holds an object to a model: no property that it does not have, none that only the service sets, none missing."""
    from azure.mgmt.storage import models

    if not isinstance(value, dict):
        wrong.append(f"{where}: {value!r} is no object")
        return
    hints = typing.get_type_hints(model, localns={"_models": models})
    model()  # fills the table of fields
    fields = {f._rest_name: (hints[name], f._visibility) for name, f in model._attr_to_rest_field.items()}
    for name, (kind, visibility) in fields.items():
        read_only = visibility == ["read"]
        optional = type(None) in typing.get_args(kind)
        if name in value and read_only:
            wrong.append(f"{where}.{name}: only the service sets it")
        if name not in value and not optional and not read_only:
            wrong.append(f"{where}.{name}: missing")
    for name, inner in value.items():
        if name not in fields:
            wrong.append(f"{where}.{name}: no such property")
        else:
            judge(inner, fields[name][0], f"{where}.{name}", wrong)


def check(template):
    from azure.mgmt.storage import models

    kinds = {
        "Microsoft.Storage/storageAccounts": models.StorageAccountCreateParameters,
        "Microsoft.Storage/storageAccounts/blobServices": models.BlobServiceProperties,
        "Microsoft.Storage/storageAccounts/blobServices/containers": models.BlobContainer,
        "Microsoft.Storage/storageAccounts/managementPolicies": models.ManagementPolicy,
    }
    wrong = []
    for resource in template["resources"]:
        kind, where = resource["type"], resource["type"].split("/", 1)[1]
        if VERSIONS.get(kind.split("/")[0]) != resource["apiVersion"]:
            wrong.append(f"{where}: API version {resource['apiVersion']}")
        depth = kind.count("/")
        pieces = resource["name"].count("{") if "format(" in resource["name"] else 1
        if kind.startswith("Microsoft.Storage") and pieces != depth:
            wrong.append(f"{where}: a name of {pieces} parts for a type of {depth}")
        if kind in kinds:
            judge_model({k: v for k, v in resource.items() if k not in ENVELOPE}, kinds[kind], where, wrong)
        elif not kind.startswith("Microsoft.Authorization/"):
            wrong.append(f"{where}: a type that nobody judges")
    return wrong


def same(bicep, arm, where, wrong):
    """Compares a value of the Bicep file with the template's. Text and structure must be equal; where the template has
    an expression, a plain reference must name the same thing."""
    if is_expression(arm):
        inner = arm[1:-1]
        for function in ("parameters", "variables"):
            if inner.startswith(f"{function}('") and inner.endswith("')") and inner.count("'") == 2:
                if bicep != inner.split("'")[1]:
                    wrong.append(f"{where}: {bicep!r} in Bicep, {arm} in the template")
        if isinstance(bicep, (bool, int)):
            wrong.append(f"{where}: {bicep!r} in Bicep, {arm} in the template")
    elif isinstance(arm, dict) and isinstance(bicep, dict):
        for name in sorted(set(arm) ^ set(bicep)):
            wrong.append(f"{where}.{name}: only in {'the template' if name in arm else 'Bicep'}")
        for name in arm.keys() & bicep.keys():
            same(bicep[name], arm[name], f"{where}.{name}", wrong)
    elif isinstance(arm, list) and isinstance(bicep, list):
        if len(arm) != len(bicep):
            wrong.append(f"{where}: {len(bicep)} in Bicep, {len(arm)} in the template")
        for n, pair in enumerate(zip(bicep, arm)):
            same(*pair, f"{where}[{n}]", wrong)
    elif type(arm) is not type(bicep) or arm != bicep:
        wrong.append(f"{where}: {bicep!r} in Bicep, {arm!r} in the template")


def compare(path, template):
    from pycep import BicepParser

    bicep = BicepParser().parse(file_path=pathlib.Path(path))
    wrong = []
    spelled = {"minLength": "min_length", "maxLength": "max_length", "minValue": "min_value", "maxValue": "max_value", "allowedValues": "allowed"}
    decorated = {}
    for name, parameter in bicep["parameters"].items():
        decorators = {d["type"]: d["argument"] for d in parameter["decorators"]}
        decorated[name] = {"type": parameter["type"], "metadata": {"description": decorators.get("description")}}
        decorated[name] |= {arm: decorators[name_] for arm, name_ in spelled.items() if name_ in decorators}
        if parameter["default"] is not None:
            decorated[name]["defaultValue"] = parameter["default"]
    same(decorated, template["parameters"], "parameters", wrong)
    same({k: v["value"] for k, v in bicep["variables"].items()}, template["variables"], "variables", wrong)
    same({k: v["type"] for k, v in bicep["outputs"].items()}, {k: v["type"] for k, v in template["outputs"].items()}, "outputs", wrong)
    resources = list(bicep["resources"].items())
    if len(resources) != len(template["resources"]):
        wrong.append(f"{len(resources)} resources in Bicep, {len(template['resources'])} in the template")
    for (name, ours), theirs in zip(resources, template["resources"]):
        config = ours["config"]
        if "loop_type" in config:
            if theirs.get("copy", {}).get("name") != name:
                wrong.append(f"{name}: a loop in Bicep only")
            config = config["config"]
        if "condition" in config:
            if "condition" not in theirs:
                wrong.append(f"{name}: a condition in Bicep only")
            config = config["config"]
        if (ours["type"], ours["api_version"]) != (theirs["type"], theirs["apiVersion"]):
            wrong.append(f"{name}: {ours['type']}@{ours['api_version']} in Bicep, {theirs['type']}@{theirs['apiVersion']} in the template")
        # Names of parts and what depends on what are spelled in two ways.
        spelled_apart = ENVELOPE | {"parent"}
        same(
            {k: v for k, v in config.items() if k not in spelled_apart},
            {k: v for k, v in theirs.items() if k not in spelled_apart},
            name,
            wrong,
        )
    return wrong


template = json.load(sys.stdin)
json.dump(check(template) if sys.argv[1] == "check" else compare(sys.argv[2], template), sys.stdout, indent=1)
