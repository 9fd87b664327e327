#!/usr/bin/env python3
"""A second reader of the vault format, version 1, written from the format page alone.

It shares no line with the program that writes vaults, so where the two agree, the page says enough. It
only ever reads. Signatures are checked by securesystemslib's own DSSE code; sealed objects are opened by the
tools `age`, `zstd` and `tar`, as anybody would in ten years. It reads what is nearly right and reports
each deviation from the page as a sentence that names the object and the rule.

    second_reader.py verify  VAULT [--genesis HEX]                     audit without any key
    second_reader.py deep    VAULT --identity FILE                     the same, and every sealed byte
    second_reader.py extract VAULT RUN OUTDIR --identity FILE          recreate one snapshot's tree
    second_reader.py logs    VAULT STREAM --identity FILE [--from T --to T] [--all-versions]

Exit status: 0 as the page says, 3 deviations or losses, 2 wrong usage.
Needs Python 3.11 and `pip install securesystemslib cryptography`.
"""

import argparse, copy, functools, hashlib, io, json, os, re, subprocess, sys, tarfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.dsse import Envelope as Dsse
from securesystemslib.signer import SSlibKey

# ---------------------------------------------------------------------------------------------------
# Words of the page: names, kinds, roles, keys
# ---------------------------------------------------------------------------------------------------

RUN = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
ID = r"[a-z0-9-]{1,40}"
EPOCH = r"\d{4}(?:-(?:0[1-9]|1[0-2])|-Q[1-4])?"
CHAIN = re.compile(rf"snapshot\.{ID}|export\.{ID}|restore-test|drill|failover|checkpoint|vault")
SNAPSHOT_OBJECT = re.compile(
    rf"(config-snapshots|evidence)/({ID})/({EPOCH})/({RUN})/(?:segment-\d{{4,}}\.tar|manifest\.ndjson)\.zst\.age")
LOG_OBJECT = re.compile(rf"audit-logs/({ID})/(\d{{4}}/\d\d/\d\d)/({RUN})-(late-)?(\d{{4,}})\.ndjson\.zst\.age")
RECORD_OBJECT = re.compile(rf"evidence/backstop/({EPOCH})/({RUN})/.+\.age")
PLAIN_OBJECT = re.compile(
    rf"attestations/(?:bundles/\d{{4}}-\d\d-\d\d-{RUN}\.ndjson\.zst|(?:restated/\d{{4}}/)?"
    r"(?:policies/[0-9a-f]{64}\.yaml|VAULT\.json|RECOVERY\.md))")
ENVELOPE_NAME = re.compile(r"(\d{10,})\.json")
HEX = re.compile(r"[0-9a-f]{64}")

VAULT_KINDS = {"genesis", "key-rotation", "hold", "disposition", "heal", "promotion"}
TESTER_KINDS = {"restore-test", "drill", "failover"}
AGENT_KINDS = {"snapshot", "export", "heartbeat", "checkpoint", "heal"}
COMMON = ("vault chain sequence previous skipped run agent started finished outcome policy_sha256 retention grace "
          "recipients objects").split()
ADDED = {
    "genesis": ["signers", "recipients_list"],
    "snapshot": "snapshot_kind base previous_snapshot segments_from epoch tree_sha256 captured collections".split(),
    "export": "id time events late_events spans".split(),
    "checkpoint": "heads locks bundle".split(),
    "key-rotation": "new heads".split(),
    "disposition": ["disposed"],
    "heal": ["heals"],
    "hold": "hold action scope reason authority until held".split(),
}
HEADER_KEYS = set("backstop kind source run base previous_snapshot entries total_entries tree_sha256 collections segments".split())
COLLECTION_KEYS = set("name prefix outcome as_of absent_since count error_code".split())
COLLECTION_OUTCOMES = {"complete", "partial", "failed", "absent"}
LISTS = set("skipped objects signers recipients_list segments_from collections spans heads locks disposed heals".split())
LOCK_KEYS = {"mode", "until", "enforced_by"}
MIB = 1 << 20


# ---------------------------------------------------------------------------------------------------
# Small rules: JSON, instants, periods, percent-encoding, Padmé sizes, zstd frames
# ---------------------------------------------------------------------------------------------------

def strict_json(text):
    """JSON in which a repeated key is damage."""
    def pairs(items):
        keys = [k for k, _ in items]
        if len(keys) != len(set(keys)):
            raise ValueError("a JSON key is repeated")
        return dict(items)
    return json.loads(text, object_pairs_hook=pairs)


def instant(text, lenient=False):
    """Nanoseconds since 1970. Attested instants end in Z; an event's own instant may carry an offset or none."""
    m = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?", text)
    if not m or not lenient and (m[4] != "Z" or "T" not in text or len(m[3] or "") > 9):
        raise ValueError(f"{text!r} is no RFC 3339 instant with Z")
    zone = "+00:00" if m[4] in (None, "Z") else m[4]
    seconds = int(datetime.fromisoformat(f"{m[1]}T{m[2]}{zone}").timestamp())
    return seconds * 10**9 + int((m[3] or "0")[:9].ljust(9, "0"))


def moment(ns):
    return datetime.fromtimestamp(ns // 10**9, timezone.utc)


def iso(ns):
    return moment(ns).strftime("%Y-%m-%dT%H:%M:%S") + (f".{ns % 10**9:09d}".rstrip("0") if ns % 10**9 else "") + "Z"


def plus(ns, period):
    """An instant later by `7y` (calendar years; from a 29 February to a 28th where there is none) or `30d`."""
    m = re.fullmatch(r"(\d+)([yd])", period)
    if not m:
        raise ValueError(f"{period!r} is no period")
    t, n = moment(ns), int(m[1])
    if m[2] == "d":
        t += timedelta(days=n)
    else:
        try:
            t = t.replace(year=t.year + n)
        except ValueError:
            t = t.replace(year=t.year + n, day=28)
    return int(t.timestamp()) * 10**9 + ns % 10**9


def start_of(year, month):
    return int(datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=timezone.utc).timestamp()) * 10**9


def month_end(ns):
    return start_of(moment(ns).year, moment(ns).month + 1)


def epoch_span(name):
    """First instant of an epoch, and the first one after it."""
    year = int(name[:4])
    first, months = (1, 12) if len(name) == 4 else (int(name[6]) * 3 - 2, 3) if name[5] == "Q" else (int(name[5:]), 1)
    return start_of(year, first), start_of(year, first + months)


def encode_path(raw):
    """The one spelling of a path's bytes: %XX for C0 controls, DEL, % and whatever is not UTF-8."""
    out = []
    for ch in raw.decode("utf-8", "surrogateescape"):
        code = ord(ch)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"%{code - 0xDC00:02X}")
        else:
            out.append(f"%{code:02X}" if code < 32 or code in (37, 127) else ch)
    return "".join(out)


def decode_path(text):
    def byte(m):
        return bytes([int(m[1], 16)])
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", byte, text.encode())
    if b"\0" in raw or raw.count(b"/") != text.count("/") or b".." in raw.split(b"/"):
        raise ValueError("decodes to `/`, NUL or `..`")
    return raw


def path_complaint(path):
    """What is wrong with a manifest's path, or None."""
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        return "is not a clean relative path"
    if parts[0] == ".backstop":
        return "uses the reserved prefix .backstop/"
    try:
        raw = decode_path(path)
    except ValueError as e:
        return str(e)
    return None if encode_path(raw) == path else "is not percent-encoded as the page says"


def is_padme(length):
    e = length.bit_length() - 1
    return length > 0 and length & ((1 << (e - e.bit_length())) - 1 if e > e.bit_length() else 0) == 0


@dataclass
class Frame:
    length: int
    skippable: bool = False
    checksum: bool = False
    content_size: int | None = None
    window: int = 0
    dictionary: bool = False


def zstd_frames(data):
    """The frames of a zstd file, walked block by block, nothing decompressed (RFC 8878)."""
    frames, at = [], 0
    while at < len(data):
        magic = int.from_bytes(data[at:at + 4], "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            length = 8 + int.from_bytes(data[at + 4:at + 8], "little")
            frames.append(Frame(length, skippable=True))
        elif magic == 0xFD2FB528:
            flags, pos = data[at + 4], at + 5
            single, frame = flags >> 5 & 1, Frame(0, checksum=bool(flags & 4), dictionary=bool(flags & 3))
            if not single:
                exponent, mantissa = data[pos] >> 3, data[pos] & 7
                frame.window = (1 << 10 + exponent) * (8 + mantissa) // 8
                pos += 1
            pos += (0, 1, 2, 4)[flags & 3]
            size = (single, 2, 4, 8)[flags >> 6]
            if size:
                frame.content_size = int.from_bytes(data[pos:pos + size], "little") + (256 if size == 2 else 0)
                pos += size
            frame.window = frame.window or frame.content_size
            last = False
            while not last:
                header = int.from_bytes(data[pos:pos + 3], "little")
                last, kind = header & 1, header >> 1 & 3
                pos += 3 + (1 if kind == 1 else header >> 3)
                if pos > len(data):
                    raise ValueError("a zstd frame is cut off")
            length = frame.length = pos + (4 if frame.checksum else 0) - at
            frames.append(frame)
        else:
            raise ValueError(f"something that is no zstd frame follows at byte {at}")
        at += length
    if at != len(data):
        raise ValueError("the last zstd frame is cut off")
    return frames


# ---------------------------------------------------------------------------------------------------
# The vault: stored bytes, chains of envelopes, what they say
# ---------------------------------------------------------------------------------------------------

@dataclass
class Envelope:
    name: str
    sha256: str
    raw: bytes
    kind: str
    subjects: list          # of (name, sha256)
    p: dict                 # the predicate

    def __getattr__(self, key):  # envelope.run, envelope.started …: fields of the predicate
        try:
            return self.__dict__["p"][key]
        except KeyError:
            raise AttributeError(key)


class Damage(Exception):
    pass


class Vault:
    def __init__(self, root, identities=()):
        self.root, self.identities = Path(root), identities
        self.deviations, self.warnings = [], []
        self.chains, self.runs = {}, {}          # chain -> [Envelope]; run -> Envelope
        self.names = {}                          # digest -> {logical name: attesting runs}
        self.keys, self.limits = {}, {}          # keyid -> (role, key); keyid -> {chain: last number}
        self.files = sorted(f"{Path(d).relative_to(self.root).as_posix()}/{n}" for d, _, ns in os.walk(root)
                            for n in ns if not n.startswith(".tmp-"))
        self.sidecars = any(f.endswith(".lock") and f.rpartition("/")[2].startswith(".") for f in self.files)

    def bad(self, what, rule):
        self.deviations.append(f"{what}: {rule}")

    def need(self, holds, what, rule):
        if not holds:
            self.bad(what, rule)
        return bool(holds)

    def warn(self, what, rule):
        self.warnings.append(f"{what}: {rule}")

    # -- stored bytes ------------------------------------------------------------------------------

    @functools.lru_cache(maxsize=None)
    def digest_of(self, name):
        path = self.root / name
        if not path.is_file():
            return None
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    def locate(self, digest):
        """A stored file with these bytes, under any name that an attestation gave them."""
        return next((n for n in self.names.get(digest, ()) if self.digest_of(n) == digest), None)

    def read(self, digest):
        name = self.locate(digest)
        if name is None:
            raise Damage(f"no stored object has the attested digest {digest}")
        return (self.root / name).read_bytes()

    def sidecar(self, name):
        """The lock that a local store keeps beside the object, or None."""
        folder, _, base = name.rpartition("/")
        path = self.root / folder / f".{base}.lock"
        try:
            return strict_json(path.read_text()) if path.is_file() else None
        except ValueError as e:
            self.bad(name, f"its lock file is no JSON ({e})")

    def lock_until(self, name, attested=None):
        """Until when the store keeps an object: its own word, or else what was attested."""
        lock = self.sidecar(name) or attested
        return instant(lock["until"]) if lock and lock.get("until") else None

    # -- envelopes ---------------------------------------------------------------------------------

    def walk(self, genesis=None):
        """Reads every chain. Only valid envelopes are kept; everything else of this class uses nothing but them."""
        numbers = {}
        for f in self.files:
            parts = f.split("/")
            if parts[0] != "attestations" or len(parts) != 3 or parts[1] in ("bundles", "policies"):
                continue
            if CHAIN.fullmatch(parts[1]) and (m := ENVELOPE_NAME.fullmatch(parts[2])) and int(m[1]) > 0:
                numbers.setdefault(parts[1], {}).setdefault(int(m[1]), f)
                self.need(m[1] == f"{int(m[1]):010d}", f, "numbers have ten digits, and more only when they must")
            elif not parts[2].startswith("."):
                self.bad(f, "is neither an envelope of a chain nor another object that the page names")
        self.begin(numbers.get("vault", {}).get(1), genesis)
        for chain in sorted(numbers, key=lambda c: (c != "vault", c != "checkpoint", c)):   # rotations and pins first
            self.walk_chain(chain, numbers[chain])
        for envelope in self.all():
            self.need(envelope.run not in self.runs, envelope.name, "its run id is used twice")
            self.runs[envelope.run] = envelope
            for name, digest in envelope.subjects:
                self.names.setdefault(digest, {}).setdefault(name, []).append(envelope.run)
            for heal in envelope.p.get("heals", []):
                self.names.setdefault(heal["sha256"], {}).setdefault(heal["name"], []).append(envelope.run)

        self.disposed = {d["sha256"] for e in self.all() if e.kind == "disposition" for d in e.disposed}

    def all(self):
        return [e for chain in self.chains.values() for e in chain]

    def snapshots(self, chain):
        return [e for e in self.chains.get(chain, []) if e.kind == "snapshot" and e.outcome != "failed"]

    def is_gone(self, e):
        """Disposed of, as attested."""
        return any(d in self.disposed and not self.locate(d) for _, d in e.subjects)

    def begin(self, name, pinned):
        """Trust starts with whoever signed genesis: its own list of signers, which its digest pins."""
        if name is None:
            raise Damage("attestations/vault/0000000001.json: there is no genesis, so nothing can be trusted")
        self.genesis = self.digest_of(name)
        if pinned:
            self.need(pinned == self.genesis, name, f"is not the trusted genesis {pinned}")
        else:
            self.warn(name, f"genesis {self.genesis} is taken on trust: compare it with the one kept elsewhere")
        try:
            payload = Dsse.from_dict(strict_json((self.root / name).read_bytes())).payload
            predicate = strict_json(payload)["predicate"]
            self.id = predicate["vault"]
            for signer in predicate["signers"]:
                self.add_key(name, signer)
        except Exception as e:
            raise Damage(f"{name}: cannot be read as genesis ({e})")

    def add_key(self, where, signer):
        public = load_pem_public_key(signer["public_key"].encode())
        spki = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        self.need(spki == signer["keyid"], where, f"keyid {signer['keyid']} is not the SHA-256 of its key's SPKI")
        self.need(signer["role"] in ("agent", "tester", "operator"), where, f"{signer['role']!r} is no role")
        self.keys[signer["keyid"]] = signer["role"], SSlibKey.from_crypto(public, keyid=signer["keyid"])

    def walk_chain(self, chain, numbers):
        kept, voids, expected, previous = self.chains.setdefault(chain, []), [], 1, None
        for number in sorted(numbers):
            name = numbers[number]
            gap = f"numbers {expected} to {number - 1} are missing; they run from 1 without a gap"
            try:
                envelope = self.open_envelope(name, chain, number)
            except Exception as e:    # whatever a squatter wrote must not stop the chain
                if number > expected:
                    self.bad(f"attestations/{chain}", gap)
                voids.append((number, name, str(e)))
                expected = number + 1
                continue
            if number > expected == 1:
                pins = [h for e in self.chains.get("checkpoint", []) for h in e.heads]
                pinned = {"chain": chain, "sequence": number - 1, "sha256": envelope.previous} in pins
                pinned = pinned or chain == "checkpoint" and any(h["chain"] == chain and h["sequence"] == number - 1
                                                                 and h["sha256"] == envelope.previous for h in envelope.heads)
                (self.warn if pinned else self.bad)(name, "the chain's beginning is gone, and "
                                                    f"{'a' if pinned else 'no'} retained checkpoint pins the number before")
            else:
                if number > expected:
                    self.bad(f"attestations/{chain}", gap)
                want = previous or (None if envelope.kind == "genesis" else self.genesis)
                self.need(envelope.previous == want, name, f"`previous` is {envelope.previous}, not {want}, the last valid envelope")
            for v, n, why in voids:
                listed = v in envelope.skipped
                (self.warn if listed else self.bad)(n, f"is void ({why}), and the next envelope "
                                                       f"{'lists' if listed else 'does not list'} it in `skipped`")
            extra = set(envelope.skipped) - {v for v, _, _ in voids}
            self.need(not extra, name, f"`skipped` lists {sorted(extra)}, which are not voids just before it")
            if kept:
                self.need(instant(envelope.finished) >= instant(kept[-1].finished), name, "finished before the envelope before it")
            kept.append(envelope)
            voids, expected, previous = [], number + 1, envelope.sha256
            if envelope.kind == "key-rotation":
                self.rotate(envelope)
        for _, name, why in voids:
            self.bad(name, f"is void ({why}), at the tail of its chain")

    def rotate(self, envelope):
        if envelope.new:
            self.add_key(envelope.name, envelope.new)
        if envelope.p.get("old"):       # absent where a signer is only added
            limits = {h["chain"]: h["sequence"] for h in envelope.heads}
            limits["vault"] = max(limits.get("vault", 0), envelope.sequence)
            self.limits[envelope.p["old"]] = limits

    def open_envelope(self, name, chain, number):
        """A valid envelope, or an exception that says why it is void."""
        raw = (self.root / name).read_bytes()
        outer = strict_json(raw)
        dsse = Dsse.from_dict(copy.deepcopy(outer))
        known = [key for keyid, (_, key) in self.keys.items() if keyid in dsse.signatures]
        if not known:
            raise ValueError("signed by no key of this vault")
        accepted = dsse.verify(known, 1)         # raises when no signature holds
        keyid = next(iter(accepted))
        role = self.keys[keyid][0]
        if dsse.payload_type != "application/vnd.in-toto+json":
            raise ValueError("its payloadType is not in-toto's")
        statement = strict_json(dsse.payload)
        p = statement["predicate"]
        m = re.fullmatch(r"urn:backstop:attestation:([a-z-]+):v1", statement["predicateType"])
        if not m or (p["vault"], p["chain"], p["sequence"]) != (self.id, chain, number):
            raise ValueError("not of this vault, chain and number")
        kind = m[1]
        if keyid in self.limits and number > self.limits[keyid].get(chain, 0):
            raise ValueError("signed after its key's rotation")
        tester = kind in TESTER_KINDS or kind == "heartbeat" and chain in TESTER_KINDS
        if not (kind in AGENT_KINDS if role == "agent" else tester if role == "tester" else kind not in ("snapshot", "export")):
            raise ValueError(f"a {kind} may not be signed by role {role}")
        for key in COMMON + ADDED.get(kind, []):
            if key not in p and key in ("previous", "run", "started", "finished", "outcome"):
                raise ValueError(f"its predicate lacks `{key}`")
            if not self.need(key in p, name, f"its predicate lacks `{key}`"):
                p[key] = [] if key in LISTS else None
        if (chain, number) == ("vault", 1) and (kind, role) != ("genesis", "operator"):
            self.bad(name, "the vault's first envelope is not a genesis signed by the operator")

        # Valid from here on; what is only unusual is reported.
        self.need(set(outer) == {"payload", "payloadType", "signatures"}, name, "has other keys than a DSSE envelope")
        self.need(b"\n" not in raw, name, "an envelope is one line and ends without a line feed")
        self.need(len(dsse.signatures) == 1, name, "has more than one signature")
        for text in [outer["payload"]] + [s["sig"] for s in outer["signatures"]]:
            self.need(re.fullmatch(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", text), name,
                      "its base64 is not the standard one, with padding")
        self.need(statement["_type"] == "https://in-toto.io/Statement/v1", name, "`_type` is not in-toto's Statement v1")
        wanted = (chain.split(".")[0],) if chain != "vault" else VAULT_KINDS
        self.need(kind in wanted or kind == "heartbeat", name, f"a {kind} is no kind of this chain")
        self.need(re.fullmatch(RUN, p["run"]), name, f"run {p['run']} is no UUIDv7 in lower case")
        self.need(p["outcome"] in ("complete", "partial", "failed"), name, f"{p['outcome']!r} is no outcome")
        self.need(isinstance(p["agent"], dict) and {"version", "host_id"} <= set(p["agent"]), name, "`agent` lacks version or host_id")
        self.need(HEX.fullmatch(p["recipients"] or ""), name, "`recipients` is no fingerprint")
        self.need(all(isinstance(n, int) for n in p["skipped"]), name, "`skipped` are not integers")
        self.need(instant(p["started"]) <= instant(p["finished"]), name, "finished before it started")
        subjects = [(s["name"], s["digest"]["sha256"]) for s in statement["subject"]]
        return Envelope(name, hashlib.sha256(raw).hexdigest(), raw, kind, subjects, p)

    # -- the audit without keys --------------------------------------------------------------------

    def audit(self):
        self.holds = any(e.kind == "hold" for e in self.all())
        self.check_genesis()
        for envelope in self.all():
            self.check_rest(envelope, self.check_objects, self.check_envelope_lock)
        for chain in self.chains:
            if chain.startswith("snapshot."):
                self.check_rest(chain, self.check_snapshots)
            if chain.startswith("export."):
                self.check_rest(chain, self.check_exports)
        self.check_rest("checkpoint", self.check_checkpoints)
        attested = {n for names in self.names.values() for n in names} | {e.name for e in self.all()}
        orphans = [f for f in self.files if f not in attested and not f.rpartition("/")[2].startswith(".")
                   and not (f.startswith("attestations/") and ENVELOPE_NAME.fullmatch(f.rpartition("/")[2]))]
        for f in orphans:
            self.warn(f, "is an orphan: no attestation names it")

    def check_rest(self, subject, *checks):
        """A check that meets a value it cannot read says so, and the audit goes on."""
        for check in checks:
            try:
                check(subject)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
                self.bad(getattr(subject, "name", subject), f"cannot be read as the page says ({type(e).__name__}: {e})")

    def check_genesis(self):
        e = self.chains["vault"][0] if self.chains.get("vault") else None
        if not e or e.kind != "genesis":
            return self.bad("attestations/vault/0000000001.json", "is no valid genesis")
        subjects = dict(e.subjects)
        for name in ("attestations/VAULT.json", "attestations/RECOVERY.md", f"attestations/policies/{e.policy_sha256}.yaml"):
            self.need(name in subjects, e.name, f"does not name {name} as a subject")
        try:
            page = strict_json((self.root / "attestations/VAULT.json").read_bytes())
            self.need(page["backstop"] == "vault/1", "attestations/VAULT.json", "is not of format vault/1")
            self.need(page["vault"] == self.id, "attestations/VAULT.json", "names another vault than genesis")
            self.need(page["signers"] == e.signers, "attestations/VAULT.json", "its signers are not those of genesis")
            self.need(page["recipients"] == e.recipients_list, "attestations/VAULT.json", "its recipients are not those of genesis")
            digest = hashlib.sha256("".join(r + "\n" for r in sorted(page["recipients"])).encode()).hexdigest()
            self.need(digest == e.recipients, "attestations/VAULT.json", "its recipients do not have genesis' fingerprint")
        except (OSError, ValueError, KeyError) as error:
            self.bad("attestations/VAULT.json", f"cannot be read ({error})")

    def retention(self, e, name):
        """An instant of this attestation's policy, later by retention and grace of the object's container."""
        r = e.retention if isinstance(e.retention, str) else e.retention[name.split("/")[0]]
        return lambda ns: plus(plus(ns, r), e.grace)

    def rule_for(self, e, name):
        """Until when the page wants an object of this run locked."""
        later = self.retention(e, name)
        if m := SNAPSHOT_OBJECT.fullmatch(name):
            return later(epoch_span(m[3])[1])
        if m := RECORD_OBJECT.fullmatch(name):
            return later(epoch_span(m[1])[1])
        if LOG_OBJECT.fullmatch(name) and e.p.get("window"):
            return later(month_end(instant(e.window["from"])))
        return later(month_end(instant(e.started)))

    def check_objects(self, e):
        """Names, subjects, stored bytes and locks of one run."""
        objects = {o["name"]: o for o in e.objects}
        self.need(len(dict(e.subjects)) == len(e.subjects), e.name, "a subject is named twice")
        if objects:
            self.need({(o["name"], o["sha256"]) for o in e.objects} == set(e.subjects), e.name,
                      "its `objects` and its subjects differ")
        else:
            before = e.previous if e.kind != "genesis" else None
            self.need([d for _, d in e.subjects] == [before], e.name, "a run that wrote nothing names its previous envelope as subject")
            return
        self.need(self.locate(e.policy_sha256), e.name, f"no stored policy has its policy_sha256 {e.policy_sha256}")
        for name, o in objects.items():
            shape = next((p for p in (SNAPSHOT_OBJECT, LOG_OBJECT, RECORD_OBJECT, PLAIN_OBJECT) if p.fullmatch(name)), None)
            self.need(shape or e.kind == "heal", name, "is no name that the page gives to an object")
            if e.kind == "snapshot" and shape is SNAPSHOT_OBJECT:
                m = shape.fullmatch(name)
                self.need("snapshot." + m[2] == e.chain, name, f"is of another source than {e.chain}, whose run names it")
                self.need(epoch_span(m[3]) == (instant(e.epoch["start"]), instant(e.epoch["end"])), name,
                          "lies under another epoch than its attestation's")
            if e.kind == "export" and shape is LOG_OBJECT:
                m = shape.fullmatch(name)
                day = instant((e.p.get("window") or {}).get("from") or e.started)
                self.need("export." + m[1] == e.chain, name, f"is of another stream than {e.chain}, whose run names it")
                self.need(m[2] == moment(day).strftime("%Y/%m/%d"), name, "does not lie under its window's day")
            self.check_rest(name, lambda _: self.check_stored(e, name, o))

    def check_stored(self, e, name, o):
        stored = self.digest_of(name)
        if stored != o["sha256"]:
            healed = self.locate(o["sha256"])
            what = "is missing" if stored is None else "its stored bytes are not those attested"
            if healed or o["sha256"] in self.disposed:
                self.warn(name, f"{what}, but {'it was disposed of' if not healed else f'{healed} holds them'}")
            else:
                self.bad(name, what)
            return
        size = (self.root / name).stat().st_size
        self.need(size == o["size"], name, f"has {size} bytes, attested are {o['size']}")
        if name.endswith(".age"):
            with open(self.root / name, "rb") as f:
                head = f.read(65536)
            self.need(head.startswith(b"age-encryption.org/v1\n") and b"\n-> X25519 " in head, name,
                      "is no age file with a native X25519 recipient")
        lock, side = o["lock"], self.sidecar(name)
        self.need(set(lock) == LOCK_KEYS, name, "its attested lock has other keys than mode, until, enforced_by")
        self.need(lock["mode"] in ("locked", "unlocked", "none"), name, f"{lock['mode']!r} is no lock mode")
        self.need(lock["enforced_by"] in ("kernel", "advisory", "service"), name, f"{lock['enforced_by']!r} enforces no lock")
        if not self.need(lock["mode"] != "none" and lock["until"], name, "is not locked, so it does not count as a backup"):
            return
        if e.kind == "heal":
            want = max((instant(x["lock"]["until"]) for r in self.names[o["sha256"]].values() for run in r
                        for x in self.runs[run].objects if x["sha256"] == o["sha256"] and x["lock"]["until"]), default=0)
        else:
            want = self.rule_for(e, name)
        until = instant(lock["until"])
        self.need(until >= want - 10**9, name, f"is locked until {lock['until']}, the rule is {iso(want)}")
        self.need(until <= want + 10**9 or self.holds, name, f"is locked until {lock['until']}, longer than the rule, {iso(want)}")
        if not self.sidecars:
            return
        if self.need(side, name, "has no lock beside it in the store"):
            self.need(instant(side["until"]) >= until, name, f"is locked in the store until {side['until']} only, attested is {lock['until']}")
            self.need(side["mode"] == lock["mode"] or side["mode"] == "locked", name, f"its lock in the store is {side['mode']}, attested is {lock['mode']}")
            self.need((side["sha256"], side["size"]) == (o["sha256"], o["size"]), name, "its lock file names other bytes")
            self.need(set(side) - {"held"} == LOCK_KEYS | {"sha256", "size"}, name, "its lock file has other keys than the page gives")

    def envelope_rule(self, e):
        """(least, most): until when an envelope is locked; the most counts a previous envelope that is its only subject."""
        until = [instant(o["lock"]["until"]) for o in e.objects if o["lock"].get("until")]
        until.append(self.retention(e, e.name)(instant(e.finished)))
        before = [self.lock_until(n) or 0 for n, _ in e.subjects] if not e.objects else []
        return max(until), max(until + before)

    def check_envelope_lock(self, e):
        if not self.sidecars:
            return
        if self.need(side := self.sidecar(e.name), e.name, "has no lock beside it in the store"):
            least, most = self.envelope_rule(e)
            until = instant(side["until"])
            self.need(until >= least - 10**9, e.name, f"is locked until {side['until']}, the rule is {iso(least)}")
            self.need(until <= most + 10**9 or self.holds, e.name, f"is locked until {side['until']}, longer than the rule, {iso(most)}")
            self.need((side["sha256"], side["size"]) == (e.sha256, len(e.raw)), e.name, "its lock file names other bytes")

    def check_snapshots(self, chain):
        newest = None
        for e in self.snapshots(chain):
            what, epoch = e.name, (instant(e.epoch["start"]), instant(e.epoch["end"]))
            is_base = e.snapshot_kind == "base"
            self.need(e.snapshot_kind in ("base", "delta"), what, f"{e.snapshot_kind!r} is no kind of snapshot")
            self.need(e.previous_snapshot == (newest and newest.run), what,
                      "`previous_snapshot` is not the newest snapshot before it that did not fail")
            self.need(epoch[0] <= instant(e.started) < epoch[1], what, "did not start within its epoch")
            self.need(instant(e.finished) < plus(epoch[1], e.grace), what, "was committed after the grace of its epoch had passed")
            self.need(e.run in e.segments_from, what, "`segments_from` does not name the run itself")
            self.need(HEX.fullmatch(e.tree_sha256), what, "`tree_sha256` is no digest")
            self.need(instant(e.captured) <= instant(e.finished), what, "`captured` is later than `finished`")
            if newest:
                self.need(instant(newest.epoch["start"]) <= epoch[0], what, "a later epoch had begun on the chain")
            if is_base:
                self.need(e.base == e.run, what, "a base names another run as its base")
            elif newest:
                self.need(newest.base == e.base and newest.epoch == e.epoch, what, "a delta is of another base or epoch than the snapshot before it")
                self.need(newest.recipients == e.recipients, what, "the recipients changed, and it is no base")
                line, at = [], e
                while at and at.snapshot_kind == "delta":
                    line.append(at.run)
                    at = self.runs.get(at.previous_snapshot)
                self.need(at and set(line) | {at.run} <= set(e.segments_from), what,
                          "`segments_from` lacks runs between its base and itself")
                days = {moment(instant(self.runs[r].captured)).date() for r in line + [e.base] if r in self.runs}
                if len(days) > 8:
                    self.warn(what, f"its base is {len(days) - 1} snapshot days old; a new one is due every seven")
            else:
                self.bad(what, "is a delta without any snapshot before it")
            for run in e.segments_from:
                source = self.runs.get(run)
                if not self.need(source and source.chain == chain, what, f"needs run {run}, which this chain does not have"):
                    continue
                self.need(source.epoch == e.epoch, what, f"needs run {run} of another epoch")
                for o in source.objects:
                    if not SNAPSHOT_OBJECT.fullmatch(o["name"]):
                        continue  # a policy beside them: the state needs segments and manifests
                    held = self.lock_until(o["name"], o["lock"])
                    self.need(held and held >= self.rule_for(e, o["name"]) - 10**9, what, f"needs {o['name']}, which is not locked long enough for it")
            manifests = [n for n, _ in e.subjects if n.endswith("/manifest.ndjson.zst.age")]
            self.need(any(e.run in n for n in manifests), what, "names no manifest of its run")
            earlier = {c["name"]: c for c in newest.collections} if newest else {}
            for c in e.collections:
                label = f"{what}, collection {c['name']}"
                self.need(c["outcome"] in COLLECTION_OUTCOMES, label, f"{c['outcome']!r} is no outcome")
                self.need(c["outcome"] == "complete" or e.outcome == "partial", label, "is not complete, but the run is")
                self.need(c["outcome"] != "absent" or is_base, label, "is absent outside a base")
                if c["outcome"] == "failed" and c["name"] in earlier and not is_base:
                    self.need(c.get("as_of") == earlier[c["name"]].get("as_of"), label, "failed, but its `as_of` moved")
            newest = e

    def check_exports(self, chain):
        cursor = None
        for e in self.chains[chain]:
            if e.kind != "export":
                continue
            what, window, imported = e.name, e.p.get("window"), e.p.get("import")
            for pointer in pointers(e.id) + pointers(e.time):
                self.need(pointer == "" or pointer.startswith("/"), what, f"{pointer!r} is no JSON pointer")
            if e.outcome == "failed":
                continue
            logs = {n for n, _ in e.subjects if LOG_OBJECT.fullmatch(n)}
            self.need({s["name"] for s in e.spans} == logs, what, "its spans and its objects differ")
            late = [s for s in e.spans if "-late-" in s["name"]]
            self.need(sum(s["count"] for s in e.spans) == e.events, what, "`events` is not the sum of its spans")
            self.need(sum(s["count"] for s in late) == e.late_events, what, "`late_events` is not the sum of its late spans")
            if self.need(bool(window) != bool(imported), what, "has neither or both of `window` and `import`") and imported:
                for i in imported:
                    self.need(set(i) == {"sha256", "first", "last", "count"}, what, "`import` has other keys than the page gives")
                continue
            lo, hi = instant(window["from"]), instant(window["to"])
            self.need(lo < hi, what, "its window is empty or backwards")
            self.need(moment(lo).date() == moment(hi - 1).date(), what, "its window crosses UTC midnight")
            self.need(cursor in (None, lo), what, f"its window does not begin where the one before it ended ({iso(cursor or 0)})")
            self.need(hi <= instant(e.finished), what, "its window ends after the run did")
            for s in e.spans:
                if s["first"] is None:
                    continue
                first, last = instant(s["first"], True), instant(s["last"], True)
                inside = last < lo if s in late else lo <= first and last < hi
                self.need(first <= last and inside, s["name"], "its span does not fit its window")
            lost, since = e.p.get("unrecoverable"), e.p.get("available_from")
            if since and instant(since) > lo:
                self.need(e.outcome == "partial", what, "begins before `available_from`, and is not partial")
                self.need(lost and (instant(lost["from"]), instant(lost["to"])) == (lo, min(hi, instant(since))), what,
                          "`unrecoverable` is not [from, available_from) clipped to the window")
            else:
                self.need(not lost, what, "is `unrecoverable` for no reason that it gives")
            if e.p.get("dedupe") == "cold":
                self.need(not e.p.get("largest_lateness_seconds"), what, "is cold, and reports a lateness")
            cursor = hi

    def check_checkpoints(self, chain):
        seen, last = {}, None
        for e in (x for x in self.chains.get(chain, []) if x.kind == "checkpoint"):
            heads = {h["chain"]: h for h in e.heads}
            since = []
            for c, h in heads.items():
                by_number = {x.sequence: x for x in self.chains.get(c, [])}
                x = by_number.get(h["sequence"])
                self.need(x and x.sha256 == h["sha256"], e.name, f"names {h['sequence']} of {c} as head, which is not what the chain holds")
                self.need(h["sequence"] >= seen.get(c, 0), e.name, f"the head of {c} went backwards")
                since += [y for y in by_number.values() if seen.get(c, 0) < y.sequence <= h["sequence"]]
            if e.sequence > 1 and "checkpoint" in self.chains:
                before = [x.sequence for x in self.chains[chain] if x.sequence < e.sequence]
                self.need(not before or heads.get(chain, {}).get("sequence") == before[-1], e.name, "its own chain's head is not the number before")
            for c, envelopes in self.chains.items():
                behind = [x for x in envelopes if x.sequence > heads.get(c, {"sequence": 0})["sequence"]
                          and c != chain and instant(x.finished) < instant(e.started)]
                self.need(not behind, e.name, f"does not cover {c}, whose run {behind and behind[0].run} had finished before it started")
            locks = {(l["chain"], l["sequence"]): l["until"] for l in e.locks}
            self.need(set(locks) == {(x.chain, x.sequence) for x in since}, e.name, "`locks` are not those of the envelopes since the last checkpoint")
            for x in since:
                if until := locks.get((x.chain, x.sequence)):
                    self.need(instant(until) >= self.envelope_rule(x)[0] - 10**9, x.name, f"its lock, {until} as the checkpoint says, is shorter than the rule")
            self.check_bundle(e, since)
            seen.update({c: h["sequence"] for c, h in heads.items()})
            last = e
        age = datetime.now(timezone.utc) - moment(instant(last.finished)) if last else None
        if age is None or age > timedelta(hours=26):
            self.warn("checkpoint", f"the newest is {'missing' if age is None else f'{age.total_seconds() / 3600:.0f} hours old'}; the limit is 26 hours")

    def check_bundle(self, e, since):
        if e.bundle is None:
            self.need(not since, e.name, "has no bundle, although there are envelopes since the last checkpoint")
            return
        digest = dict(e.subjects).get(e.bundle)
        if not self.need(digest, e.name, f"its bundle {e.bundle} is no object of it") or not self.locate(digest):
            return
        result = subprocess.run(["zstd", "-dcq"], input=self.read(digest), capture_output=True)
        lines = result.stdout.split(b"\n")
        self.need(result.returncode == 0 and lines.pop() == b"", e.bundle, "is no zstd file of whole lines")
        self.need(sorted(lines) == sorted(x.raw for x in since), e.bundle,
                  "does not hold exactly the envelopes since the last checkpoint, each followed by a line feed")

    # -- with an identity: sealed objects ----------------------------------------------------------

    def unseal(self, digest, name):
        """The payload of a sealed object: age, then zstd. Its padding and frames are checked on the way."""
        command = ["age", "-d"] + [a for i in self.identities for a in ("-i", i)]
        result = subprocess.run(command, input=self.read(digest), capture_output=True)
        if result.returncode:
            raise Damage(f"{name}: age cannot open it ({result.stderr.decode(errors='replace').strip()})")
        plain, frames = result.stdout, []
        try:
            frames = zstd_frames(plain)
        except (ValueError, IndexError) as e:
            self.bad(name, f"its zstd frames are damaged ({e})")
        self.need(is_padme(len(plain)), name, f"its age plaintext has {len(plain)} bytes, no Padmé size")
        self.need([f.skippable for f in frames] == [False] * (len(frames) - 1) + [True], name, "does not end in exactly one skippable frame")
        for f in frames:
            if not f.skippable:
                self.need(f.checksum and f.content_size is not None, name, "a zstd frame lacks checksum or content size")
                self.need(f.window <= 8 * MIB, name, f"a zstd frame's window is {f.window} bytes, over 8 MiB")
                self.need(not f.dictionary, name, "a zstd frame uses a dictionary")
        result = subprocess.run(["zstd", "-dcq"], input=plain, capture_output=True)
        if result.returncode:
            raise Damage(f"{name}: zstd cannot open it ({result.stderr.decode(errors='replace').strip()})")
        return result.stdout

    @functools.lru_cache(maxsize=6)
    def members(self, digest):
        """The members of a segment, name to bytes."""
        name = self.locate(digest) or digest
        payload, members = self.unseal(digest, name), {}
        with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
            for info in tar:
                self.need(info.isreg(), name, f"member {info.name} is no plain file")
                self.need(info.name not in members, name, f"member {info.name} is there twice")
                members[info.name] = tar.extractfile(info).read() if info.isreg() else b""
        listing = subprocess.run(["tar", "-t", "--quoting-style=literal"], input=payload, capture_output=True)
        names = listing.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]
        self.need(listing.returncode == 0 and names == list(members), name, "the tar tool lists other members")
        largest = max(map(len, members.values()), default=0)
        self.need(len(payload) <= 16 * MIB + largest + MIB, name, f"its payload has {len(payload)} bytes; a segment closes at 16 MiB")
        return members

    def manifest(self, e):
        """Header and lines of a snapshot's manifest, each line with the digests of the segments it lies in."""
        name, digest = max((s for s in e.subjects if s[0].endswith("/manifest.ndjson.zst.age")),
                           key=lambda s: e.run in s[0], default=(None, None))
        if name is None:
            raise Damage(f"{e.name}: names no manifest")
        content = self.unseal(digest, name)
        self.need(content.endswith(b"\n"), name, "does not end in a line feed")
        try:
            header, *lines = [strict_json(line) for line in content.decode().removesuffix("\n").split("\n")]
        except ValueError as error:
            raise Damage(f"{name}: cannot be read ({error})")
        self.need(set(header) == HEADER_KEYS, name, f"its header has other keys than the page gives: {sorted(set(header) ^ HEADER_KEYS)}")
        self.need(header.get("backstop") == "manifest/1", name, "is not of format manifest/1")
        for key, value in {"kind": e.snapshot_kind, "source": e.chain.partition(".")[2], "run": e.run, "base": e.base,
                           "previous_snapshot": e.previous_snapshot, "tree_sha256": e.tree_sha256}.items():
            self.need(header.get(key) == value, name, f"its header's `{key}` is not the attestation's")
        self.need(header["entries"] == len(lines), name, f"says {header['entries']} entries and has {len(lines)}")
        attested = {c["name"]: c["outcome"] for c in e.collections}
        self.need({c["name"]: c["outcome"] for c in header["collections"]} == attested, name, "its collections are not the attestation's")
        for c in header["collections"]:
            self.need(set(c) <= COLLECTION_KEYS, name, f"collection {c['name']} has unknown keys {sorted(set(c) - COLLECTION_KEYS)}")
            self.need(c["outcome"] != "absent" or c.get("absent_since"), name, f"collection {c['name']} is absent without `absent_since`")
        for s in header["segments"]:
            runs = self.names.get(s["sha256"], {}).get(s["name"], [])
            self.need(set(s) == {"name", "sha256"}, name, "its segment table has other keys than name and sha256")
            self.need(set(runs) & set(e.segments_from), name, f"needs {s['name']}, which no run of `segments_from` attests")
        before = None
        for line in lines:
            self.check_line(name, header, line, e.snapshot_kind)
            key = line["path"].encode()
            self.need(before is None or before < key, name, f"{line['path']!r} is repeated or out of order")
            before = key
        return name, header, lines

    def check_line(self, name, header, line, kind):
        path, where = line.get("path"), f"{name}, {line.get('path')!r}"
        if not isinstance(path, str):
            raise Damage(f"{name}: a line has no path")
        if complaint := path_complaint(path):
            self.bad(where, complaint)
        if "deleted" in line:
            self.need(line == {"path": path, "deleted": True}, where, "a deletion has other keys")
            return self.need(kind == "delta", where, "a base has a deletion")
        keys = {"file": {"path", "type", "sha256", "size"} | ({"chunks"} if "chunks" in line else {"segment"}),
                "dir": {"path", "type"}, "symlink": {"path", "type", "target"}}.get(line.get("type"))
        if keys is None:
            raise Damage(f"{where}: {line.get('type')!r} is no type of entry")
        if name.startswith("evidence/") or "mtime" in line:      # a policy can ask for both elsewhere too
            keys |= {"mtime"} if line["type"] == "symlink" else {"mode", "mtime"}
            self.need(line["type"] == "symlink" or re.fullmatch(r"[0-7]{4}", line.get("mode", "")), where,
                      f"mode {line.get('mode')!r} is not four octal digits")
            self.need(re.fullmatch(r".*\.\d{9}Z", line["mtime"]), where, "its mtime has not nine digits after the second")
            instant(line["mtime"])
        self.need(set(line) - {"member"} == keys, where, f"has other keys than the page gives: {sorted(set(line) - {'member'} ^ keys)}")
        self.need("member" not in line or line["member"] != path and "segment" in line, where, "names a member that it need not")
        owners = [c for c in header["collections"] if path.startswith(c.get("prefix", "\0"))]
        owner = max(owners, key=lambda c: len(c["prefix"]), default=None)
        self.need(not owner or owner["outcome"] not in ("failed", "absent"), where, "belongs to a collection that failed, and yet has a line")
        if line["type"] == "file":
            parts = line.get("chunks") or [dict(line, member=line.get("member", path))]
            table = header["segments"]
            line["parts"] = [(table[c["segment"]]["sha256"], c["member"], c["sha256"], c["size"]) for c in parts]
            self.need(sum(c["size"] for c in parts) == line["size"], where, "its chunks do not add up to its size")
            if "chunks" in line:
                prefix = f".backstop/parts/{hashlib.sha256(path.encode()).hexdigest()}/"
                for c in parts:
                    self.need(set(c) == {"segment", "member", "sha256", "size"}, where, "a chunk has other keys than the page gives")
                    self.need(c["member"].startswith(prefix), where, f"chunk {c['member']} is not under {prefix}")
            else:
                self.need(line["size"] <= 8 * MIB, where, "is over 8 MiB and not split")

    def state(self, e, known=None):
        """Every entry at a snapshot: its base, and each delta after it, along `previous_snapshot`."""
        line, at = [], e
        while True:
            line.append(at)
            if at.snapshot_kind == "base":
                state = {}
                break
            if known and at.previous_snapshot == known[0]:
                state = dict(known[1])
                break
            before = self.runs.get(at.previous_snapshot)
            if before is None or before in line:
                raise Damage(f"{at.name}: the snapshot before it, {at.previous_snapshot}, is not there")
            at = before
        for at in reversed(line):
            name, header, lines = self.manifest(at)
            for entry in lines:
                if entry.get("deleted"):
                    self.need(state.pop(entry["path"], None), name, f"deletes {entry['path']!r}, which did not exist")
                else:
                    state[entry["path"]] = entry
            self.need(header["total_entries"] == len(state), name, f"says {header['total_entries']} entries in all; there are {len(state)}")
            self.need(tree_sha256(state) == header["tree_sha256"], name, "`tree_sha256` is not that of the state")
            # A source of files has one collection; a tenant's has no directories.
            of_files = [c.get("prefix") for c in header["collections"]] == [""]
            for path in state if of_files else ():
                parent = path.rpartition("/")[0]
                self.need(not parent or state.get(parent, {}).get("type") == "dir", name, f"the folder of {path!r} has no line")
        return state, lines

    def content(self, entry):
        """A record's bytes, proven against its manifest line."""
        data = []
        for digest, member, sha, size in entry["parts"]:
            try:
                part = self.members(digest).get(member)
            except (Damage, tarfile.TarError) as e:
                raise Damage(f"{entry['path']!r}: its segment cannot be opened ({e})")
            if part is None:
                raise Damage(f"{entry['path']!r}: {self.locate(digest)} has no member {member!r}")
            if (hashlib.sha256(part).hexdigest(), len(part)) != (sha, size):
                raise Damage(f"{entry['path']!r}: member {member!r} has other bytes than the manifest says")
            data.append(part)
        data = b"".join(data)
        if (hashlib.sha256(data).hexdigest(), len(data)) != (entry["sha256"], entry["size"]):
            raise Damage(f"{entry['path']!r}: has other bytes than the manifest says")
        return data

    def deep(self):
        """Opens everything. Returns how many records and events it has read."""
        records = events = 0
        opened = set()
        for chain in sorted(c for c in self.chains if c.startswith("snapshot.")):
            known = None
            for e in self.snapshots(chain):
                if any(self.is_gone(self.runs[r]) for r in e.segments_from if r in self.runs):
                    continue
                try:
                    state, lines = self.state(e, known)
                    known = e.run, state
                    opened |= {d for n, d in e.subjects if "/manifest." in n}
                except (Damage, KeyError, ValueError, IndexError, TypeError) as error:
                    self.bad(e.name, f"its state cannot be read ({error})")
                    continue
                for entry in sorted((x for x in lines if "parts" in x), key=lambda x: x["parts"][:1]):
                    opened |= {p[0] for p in entry["parts"]}
                    self.attempt(e.name, self.content, entry)
                    records += 1
        for e in self.all():
            if e.kind == "export" and e.outcome != "failed" and not self.is_gone(e):
                for span in e.spans:
                    opened.add(dict(e.subjects).get(span["name"]))
                    events += self.attempt(span["name"], self.check_log, e, span) or 0
        for digest, names in self.names.items():      # records of tests, segments that no line needs, …
            name = next(iter(names))
            if digest not in opened and name.endswith(".age") and digest not in self.disposed:
                self.attempt(name, self.members if name.endswith(".tar.zst.age") else lambda d: self.unseal(d, name), digest)
        return records, events

    def attempt(self, what, action, *arguments):
        try:
            return action(*arguments)
        except Damage as e:
            self.deviations.append(str(e))
        except (KeyError, ValueError, IndexError, TypeError, tarfile.TarError) as e:
            self.bad(what, f"cannot be read as the page says ({type(e).__name__}: {e})")

    def check_log(self, e, span):
        times, lines = [], self.lines(e, span["name"])
        for n, line in enumerate(lines, 1):
            event = json.loads(line)
            bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
            self.need(not re.search(rb"\s", bare), span["name"], f"line {n} has white space outside strings")
            self.need(isinstance(event, dict), span["name"], f"line {n} is no JSON object")
            if (t := event_time(e, event)) is not None:
                times.append(t)
        self.need(len(lines) == span["count"], span["name"], f"has {len(lines)} events, attested are {span['count']}")
        if times:
            self.need(min(times) == instant(span["first"], True), span["name"], f"its first instant is {iso(min(times))}, attested is {span['first']}")
            self.need(max(times) == instant(span["last"], True), span["name"], f"its last instant is {iso(max(times))}, attested is {span['last']}")
        return len(lines)

    def lines(self, e, name):
        content = self.unseal(dict(e.subjects)[name], name)
        self.need(content.endswith(b"\n"), name, "does not end in a line feed")
        return content.removesuffix(b"\n").split(b"\n")

    # -- getting it back ---------------------------------------------------------------------------

    def extract(self, run, out):
        """Recreates a snapshot's tree. Returns what failed; the rest is there."""
        e = self.runs.get(run)
        if e is None or e.kind != "snapshot":
            raise Damage(f"{run} is no snapshot of this vault")
        state, _ = self.state(e)
        root, failed, made = os.fsencode(os.path.abspath(out)), [], []
        os.makedirs(root, exist_ok=True)
        if os.listdir(root):
            raise Damage(f"{out} is not empty")
        order = {"dir": 0, "file": 1, "symlink": 2}      # links last: nothing is ever written through one
        for entry in sorted(state.values(), key=lambda x: (order[x["type"]], x.get("parts", [])[:1], x["path"])):
            try:
                if complaint := path_complaint(entry["path"]):
                    raise Damage(f"{entry['path']!r}: {complaint}")
                target = os.path.join(root, decode_path(entry["path"]))
                os.makedirs(target if entry["type"] == "dir" else os.path.dirname(target), exist_ok=True)
                if entry["type"] == "file":
                    data = self.content(entry)
                    with open(target, "xb") as f:
                        f.write(data)
                elif entry["type"] == "symlink":
                    link = decode_link(entry["target"])
                    inside = os.path.normpath(os.path.join(os.path.dirname(target), link))
                    if os.path.isabs(link) or os.path.commonpath([root, inside]) != root:
                        raise Damage(f"{entry['path']!r}: a link out of the tree, to {entry['target']!r}")
                    os.symlink(link, target)
                made.append((target, entry))
            except (Damage, OSError, ValueError) as error:
                failed.append(str(error))
        for target, entry in sorted(made, key=lambda m: m[0].count(b"/"), reverse=True):     # deepest first
            if "mtime" in entry:
                if entry["type"] != "symlink":
                    os.chmod(target, int(entry["mode"], 8) & 0o7777)
                os.utime(target, ns=(instant(entry["mtime"]),) * 2, follow_symlinks=False)
        return {"run": run, "entries": len(state), "restored": len(state) - len(failed),
                "tree_sha256": tree_sha256(state), "failed": failed}

    def logs(self, stream, lo=None, hi=None, every=False):
        """Events of a window in time order. Newest version of each id there (by sequence, then line); the same bytes sealed again
        by a later run count from their first sealing."""
        versions, seen, anonymous = {}, {}, []
        for e in self.chains.get(f"export.{stream}", []):
            if e.kind != "export" or e.outcome == "failed" or self.is_gone(e):
                continue
            names = [LOG_OBJECT.fullmatch(n) for n, _ in e.subjects]
            for m in sorted(filter(None, names), key=lambda m: (bool(m[4]), int(m[5]))):     # late ones last
                span = next(s for s in e.spans if s["name"] == m[0])
                at = instant(span["first"]) if span["first"] else None   # one without a time stands at that of the one before it
                for n, line in enumerate(self.attempt(m[0], self.lines, e, m[0]) or []):
                    event = json.loads(line)
                    t = event_time(e, event)
                    at = at if t is None else t
                    if at is not None and (lo is not None and at < lo or hi is not None and at >= hi):
                        continue
                    item = (lo or 0 if at is None else at, e.sequence, bool(m[4]), int(m[5]), n), line
                    key = first_present(event, pointers(e.id))
                    if key is None:
                        anonymous.append(item)
                    elif seen.setdefault((json.dumps(key), line), e.sequence) == e.sequence:     # nothing is dropped within one run
                        versions.setdefault(json.dumps(key), []).append(item)
        chosen = anonymous + [i for v in versions.values() for i in (v if every else v[-1:])]
        return [line for _, line in sorted(chosen)]


# ---------------------------------------------------------------------------------------------------

def tree_sha256(state):
    digest = hashlib.sha256()
    for _, x in sorted((p.encode(), x) for p, x in state.items()):
        fields = (x["path"], x["type"], x.get("sha256", x.get("target", "")), x.get("mode", ""), x.get("mtime", ""))
        digest.update("\0".join(fields).encode() + b"\n")
    return digest.hexdigest()


def decode_link(target):
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), target.encode())
    if b"\0" in raw or not raw:
        raise ValueError("a link to nowhere")
    return raw


def pointers(value):
    return [value] if isinstance(value, str) else list(value or [])


def first_present(event, candidates):
    """The text at the first JSON pointer that is present: null, "", lists and objects are not."""
    for pointer in candidates:
        at = event
        for token in pointer.split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            if isinstance(at, list) and token.isdigit() and int(token) < len(at):
                at = at[int(token)]
            else:
                at = at.get(token) if isinstance(at, dict) else None
        if at not in (None, "") and not isinstance(at, (dict, list)):
            return at if isinstance(at, str) else json.dumps(at)


def event_time(e, event):
    """An event's own instant, where it is of one of the forms that the page names, from 1970 to 2200; else None."""
    text = (first_present(event, pointers(e.time)) or "").strip()
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            whole, _, part = text.partition(".")
            unit = 10**9 if int(whole) < 10**11 else 10**6 if int(whole) < 10**14 else 10**3
            ns = int(whole) * unit + int(part[:9].ljust(9, "0")) * unit // 10**9
        elif m := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4}),?[ \xa0\u202f](\d{1,2}):(\d\d):(\d\d)(?:\.(\d+))?[ \xa0\u202f]([AaPp])[Mm]", text):
            hour = int(m[4]) % 12 + (12 if m[8] in "Pp" else 0)
            t = datetime(int(m[3]), int(m[1]), int(m[2]), hour, int(m[5]), int(m[6]), tzinfo=timezone.utc)
            ns = int(t.timestamp()) * 10**9 + int((m[7] or "0")[:9].ljust(9, "0"))
        else:
            text = re.sub(r"(?i)^(\d{4}-\d\d-\d\d)[t ](.*?)(?: ?UTC|z)?$", r"\1T\2", text)
            text = re.sub(r" (?=[+-]\d\d:?\d\d$)", "", text)
            ns = instant(text, lenient=True)
        return ns if 0 <= ns < start_of(2201, 1) else None
    except (ValueError, OverflowError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, positional in {"verify": [], "deep": [], "extract": ["run", "outdir"], "logs": ["stream"]}.items():
        command = commands.add_parser(name)
        for argument in ["vault"] + positional:
            command.add_argument(argument)
        command.add_argument("--genesis", metavar="HEX", help="the trusted digest of the genesis envelope")
        if name != "verify":
            command.add_argument("--identity", metavar="FILE", action="append", required=True)
        if name == "logs":
            command.add_argument("--from", dest="lo", metavar="T", type=lambda t: instant(t, True))
            command.add_argument("--to", dest="hi", metavar="T", type=lambda t: instant(t, True))
            command.add_argument("--all-versions", action="store_true")
    a = parser.parse_args()
    vault = Vault(a.vault, getattr(a, "identity", ()))
    report, walked = {}, False
    try:
        vault.walk(a.genesis)
        walked = True
        if a.command in ("verify", "deep"):
            vault.audit()
        if a.command == "deep":
            report["records"], report["events"] = vault.deep()
        if a.command == "extract":
            report = vault.extract(a.run, a.outdir)
            vault.deviations += report["failed"]
        if a.command == "logs":
            for line in vault.logs(a.stream, a.lo, a.hi, a.all_versions):
                sys.stdout.buffer.write(line + b"\n")
    except Damage as e:
        vault.deviations.append(str(e))
    objects = {n for names in vault.names.values() for n in names} - {e.name for e in vault.all()}
    report |= {"ok": walked and not vault.deviations, "attestations": len(vault.all()), "objects": len(objects),
               "deviations": list(dict.fromkeys(vault.deviations)), "warnings": list(dict.fromkeys(vault.warnings))}
    print(json.dumps(report, indent=1, ensure_ascii=False), file=sys.stderr if a.command == "logs" else sys.stdout)
    return 0 if report["ok"] else 3


if __name__ == "__main__":
    sys.exit(main())
