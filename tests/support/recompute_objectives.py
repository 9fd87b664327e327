"""Computes RPO, availability and restore-test coverage again from a vault's envelopes, with nothing of the program: by docs/objectives.md.

recompute_objectives.py VAULT AT OBJECTIVE_SECONDS CHAIN... prints one JSON document.
"""

import base64
import json
import pathlib
import sys
from datetime import datetime, timedelta, timezone


def instant(text):
    head, _, fraction = text.rstrip("Z").partition(".")
    micro = int((fraction + "000000")[:6]) if fraction else 0
    return datetime.strptime(head, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc, microsecond=micro)


def predicates(vault, chain):
    for path in sorted((pathlib.Path(vault) / "attestations" / chain).glob("[0-9]*.json")):
        statement = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))
        yield statement["predicateType"].rsplit("/", 2), statement["predicate"]


def points(vault, chain):
    first, found, mark = None, [], None
    for _, p in predicates(vault, chain):
        finished = instant(p["finished"])
        first = first or finished
        if p["outcome"] == "complete" and "captured" in p:
            found.append((finished, instant(p["captured"])))
        if p["outcome"] != "failed" and p.get("window"):
            begin, end = instant(p["window"]["from"]), instant(p["window"]["to"])
            if mark is None or begin <= mark:
                mark = max(mark or end, end)
                found.append((finished, end))
    return first, found


def data(predicate):
    own = ("attestations/", "evidence/backstop/")
    return [o for o in predicate["objects"] if not o["name"].startswith(own)]


def coverage(vault, at, chains):
    tests = [(instant(p["finished"]), p) for _, p in predicates(vault, "restore-test")]
    tests = [t for t in tests if at - timedelta(days=90) < t[0] <= at]
    stored = covered = 0
    for chain in chains:
        for _, p in predicates(vault, chain):
            if p["outcome"] == "failed" or "captured" not in p and "spans" not in p:
                continue
            for o in data(p):
                stored += o["size"]
                tried = [t for _, t in tests if any(r["chain"] == chain and r["from"] <= p["sequence"] <= r["to"] for r in t["covered"])]
                if tried and o["sha256"] not in [n["sha256"] for n in tried[-1]["not_covered"]]:
                    covered += o["size"]
    return stored, covered


def main():
    vault, at, objective = sys.argv[1], instant(sys.argv[2]), timedelta(seconds=int(sys.argv[3]))
    rpo, chains = {}, []
    for chain in sys.argv[4:]:
        first, found = points(vault, chain)
        # Nobody but whoever delivers files decides when an imported stream grows.
        if any("import" in p for _, p in predicates(vault, chain)):
            continue
        captured = [c for committed, c in found if committed <= at]
        rpo[chain] = int((at - max(captured)).total_seconds()) if captured else None
        if first:
            chains.append((first, found))
    # Minute by minute would do; to be exact, from one instant at which anything changes to the next.
    out = {"rpo": rpo}
    out["stored_bytes"], out["covered_bytes"] = coverage(vault, at, sys.argv[4:])
    for days in (30, 365):
        start = at - timedelta(days=days)
        begin = min(max(first, start) for first, _ in chains)
        edges = {begin, at}
        for first, found in chains:
            edges |= {first} | {e for committed, captured in found for e in (committed, captured + objective)}
        edges = sorted(e for e in edges if begin <= e <= at)
        beyond = timedelta()
        for a, b in zip(edges, edges[1:]):
            middle = a + (b - a) / 2
            def late(first, found):
                known = [c for committed, c in found if committed <= middle]
                return first <= middle and (not known or middle - max(known) > objective)
            if any(late(*chain) for chain in chains):
                beyond += b - a
        out[f"days_{days}"] = {"beyond_seconds": int(beyond.total_seconds()), "percent": 100 * (1 - beyond / (at - begin))}
    print(json.dumps(out))


main()
