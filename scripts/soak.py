#!/usr/bin/env python3
"""Lets two agents, a tester and a watcher work unattended, in real time, and holds what they did to what was due.

The tenant is the sample, the vault is in the tests' double of the Blob service, each a process of its own. Schedules
are short, objectives too. Meanwhile agents are killed, stopped for longer than a lease and told to end, store and
tenant answer with errors, the tenant changes, and once both agents are gone for longer than the RPO. Afterwards:

  - every firing of every job was run once, or told as missed; none by two agents;
  - no chain has a gap, no window of a log a hole or an overlap;
  - `verify --deep` opens everything; the newest snapshot and the logs are the tenant's own, compared with its dump;
  - the watcher told of the outage within its time, called it over, and told nothing else.

  cargo build --release --bins --examples && scripts/soak.py [--minutes 60] [--seed N] [--bin DIRECTORY]

Needs a Rust toolchain's build and Python 3.11; leaves everything in target/soak-TIME, and ends with 1 where anything
of the above is not so.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import datetime, timedelta, timezone

ROOT = pathlib.Path(__file__).resolve().parent.parent
RPO = 600
JOBS = {  # name: what it does, and the seconds of an hour at which it fires
    "config": ("snapshot: [entra, azure]", "0 */2 * * * *", range(0, 3600, 120)),
    "files": ("snapshot: [tree]", "30 * * * * *", range(30, 3600, 60)),
    "logs": ("export: [sign-ins, directory-audits]", "10 * * * * *", range(10, 3600, 60)),
    "checkpoint": ("checkpoint: {}", "45 5/15 * * * *", range(345, 3600, 900)),
    "restore-test": ("restore_test: {}", "20 7/15 * * * *", range(440, 3600, 900)),
    "drill": ("drill: {}", "40 25/30 * * * *", range(1540, 3600, 1800)),
}
SEALED = {"restore-test", "drill"}


def now():
    return datetime.now(timezone.utc)


def instant(text):
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00"))


def ask(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method or ("GET" if body is None else "POST"))
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Soak:
    def __init__(self, options):
        self.dice = random.Random(options.seed)
        self.minutes = options.minutes
        self.work = ROOT / "target" / now().strftime("soak-%Y%m%d-%H%M%S")
        self.work.mkdir(parents=True)
        # Copies: a build meanwhile does not change what runs.
        self.bin = self.work / "bin"
        self.bin.mkdir()
        for name in ("backstop", "examples/blob-double"):
            shutil.copy(pathlib.Path(options.bin) / name, self.bin)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("BACKSTOP_", "OTEL_"))}
        self.helpers, self.daemons, self.said, self.gone = [], {}, [], {}
        self.outage, self.store_failed = None, []

    def say(self, text):
        line = f"{now():%H:%M:%S} {text}"
        self.said.append(line)
        print(line, flush=True)

    # ---- set-up

    def helper(self, name, command):
        process = subprocess.Popen(command, cwd=self.work, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=open(self.work / f"{name}.err", "w"), text=True)
        self.helpers.append(process)
        return json.loads(process.stdout.readline())

    def backstop(self, *arguments, expect=(0,)):
        ran = subprocess.run([self.bin / "backstop", *arguments], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True)
        if ran.returncode not in expect:
            raise SystemExit(f"soak: backstop {' '.join(arguments)} ended with {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return ran

    def rows(self, *arguments, expect=(0,)):
        return [json.loads(line) for line in self.backstop(*arguments, "--json", expect=expect).stdout.splitlines()]

    def set_up(self):
        double = self.helper("double", [self.bin / "blob-double"])
        self.control = double["control"]
        ask(f"{self.control}/containers/attestations", {"versioning": True, "version_level": True}, "PUT")
        ask(f"{self.control}/containers/backstop-leases", {}, "PUT")
        self.env["VAULT_SAS"] = double["sas"]
        tenant = self.helper("tenant", [self.bin / "backstop", "sample", "serve", "--port", "0", "--users", "300",
                                        "--events-per-hour", "300", "--ragged-pages", "--json"])
        self.tenant = tenant["url"]
        (self.work / "tree").mkdir()
        self.backstop("init", "--dir", ".", "--azure", double["endpoint"], "--azure-credential", "sas: { env: VAULT_SAS }")
        (self.work / "keys/tenant-secret.txt").write_text(tenant["client_secret"])
        text = (self.work / "backstop.yaml").read_text()
        access = f'tenant: {tenant["tenant"]}, authority: "{self.tenant}"'
        credential = f'{{ client_secret: {{ client_id: {tenant["client_id"]}, secret_file: keys/tenant-secret.txt }} }}'
        log = f'{access}, endpoint: "{self.tenant}", available: 1d, settle: 1m, lookback: 31h, credential: {credential}'
        parts = {
            "objectives": f"objectives: {{ rpo: {RPO // 60}m, rto: 4h, retention: 7y, availability: 99.9 }}",
            "sources": "sources:\n"
            f'  entra: {{ graph: {{ {access}, endpoint: "{self.tenant}", catalog: [entra, pim], credential: {credential} }} }}\n'
            f'  azure: {{ arm: {{ {access}, arm_endpoint: "{self.tenant}", subscriptions: all, catalog: [azure], credential: {credential} }} }}\n'
            "  tree: { files: { path: ./tree } }",
            "streams": f"streams:\n  sign-ins: {{ graph_log: {{ {log}, log: signIns }} }}\n"
            f"  directory-audits: {{ graph_log: {{ {log}, log: directoryAudits }} }}",
        }
        kept = [parts.get(line.split(":")[0], line) if not line.startswith((" ", "#")) else line for line in text.splitlines()]
        jobs = "jobs:\n" + "".join(f'  {name}: {{ {what}, schedule: "{cron}" }}\n' for name, (what, cron, _) in JOBS.items())
        for who in ("a", "b", "tester", "watch"):
            port = free_port()
            # Agents must agree on all but their state and where they listen.
            alerts = "watch" if who == "watch" else "agents"
            more = f"{jobs}state: .state-{who}\nnotify: {{ file: {{ path: alerts-{alerts}.ndjson }} }}\n" \
                   f"agent: {{ listen: \"127.0.0.1:{port}\", jitter: 2s }}\n"
            (self.work / f"{who}.yaml").write_text("\n".join(kept).replace("jobs: {}", more))
        for who in ("a", "b", "tester"):
            self.backstop("--policy", f"{who}.yaml", "policy", "check")

    def start(self, who):
        identity = ["--identity", "keys/identity-1.txt"] if who == "tester" else []
        command = {"watch": ["watch", "--every", "10", "--audit-every", "120"],
                   "tester": ["run", *(f"--job={job}" for job in sorted(SEALED)), *identity]}
        log = open(self.work / f"{who}.log", "a")
        self.daemons[who] = subprocess.Popen([self.bin / "backstop", "--policy", f"{who}.yaml", *command.get(who, ["run"])],
                                             cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    # ---- what happens

    def later(self, seconds, who):
        self.gone[who] = time.monotonic() + seconds

    def trouble(self):
        who = self.dice.choice("ab")
        kind = self.dice.choice(["kill", "kill", "pause", "end", "reload", "store", "lost", "tenant"])
        if kind in ("kill", "pause", "end", "reload") and self.gone:
            return
        process, seconds = self.daemons[who], self.dice.randint(5, 130)
        if kind == "kill":
            process.kill()
            process.wait()
            self.say(f"{who} is killed, and back in {seconds} s")
            self.later(seconds, who)
        elif kind == "pause":
            process.send_signal(signal.SIGSTOP)
            self.say(f"{who} stands still for {seconds} s")
            self.later(seconds, who)
        elif kind == "end":
            begun = time.monotonic()
            process.terminate()
            code = process.wait(40)
            took = time.monotonic() - begun
            self.say(f"{who} is told to end: {code} after {took:.1f} s, and back in {seconds} s")
            if code != 0 or took > 30:
                raise SystemExit("soak: an agent does not end as it should")
            self.later(seconds, who)
        elif kind == "reload":
            process.send_signal(signal.SIGHUP)
            self.say(f"{who} reads its policy again")
        elif kind == "store":
            self.say("the store answers 503 to the next 40 requests")
            self.store_failed.append(now())
            ask(f"{self.control}/faults", {"fault": "status", "status": 503, "code": "ServerBusy", "times": 40})
        elif kind == "lost":
            self.say("five answers to writes of the store are lost")
            ask(f"{self.control}/faults", {"operation": "PutBlob", "fault": "lost_response", "times": 5})
        else:
            self.say("the tenant answers 429 and 503, and cuts pages")
            ask(f"{self.tenant}/sample/faults", [
                {"path": "/v1.0/*", "kind": "status", "status": 429, "retry_after": 3, "times": 8},
                {"path": "/v1.0/*", "kind": "status", "status": 503, "times": 8, "after": 20},
                {"path": "*", "kind": "truncate", "times": 4, "after": 50}])

    def bring_back(self):
        for who in [who for who, at in self.gone.items() if at <= time.monotonic()]:
            del self.gone[who]
            if self.daemons[who].poll() is None:
                self.daemons[who].send_signal(signal.SIGCONT)
            else:
                self.start(who)

    def live(self):
        self.begun = now()
        for who in ("a", "b", "tester"):
            self.start(who)
        while any(f["kind"] == "no_recovery_point" for f in self.rows("--policy", "a.yaml", "status", expect=(0, 4))[0]["findings"]):
            if now() - self.begun > timedelta(minutes=4):
                raise SystemExit("soak: not everything was backed up within four minutes")
            time.sleep(2)
        self.say("everything was backed up once; from now on it is watched")
        self.start("watch")
        end = time.monotonic() + self.minutes * 60
        # The last minutes are quiet, so that what is under way ends.
        quiet = end - min(180, 20 * self.minutes)
        out_at = time.monotonic() + self.minutes * 60 * 0.5 if self.minutes >= 40 else None
        next_trouble, next_change, n = time.monotonic() + 60, time.monotonic() + 20, 0
        while time.monotonic() < end:
            time.sleep(0.5)
            self.bring_back()
            for who, process in self.daemons.items():
                if who not in self.gone and process.poll() is not None:
                    raise SystemExit(f"soak: {who} ended by itself with {process.returncode}; see {self.work}/{who}.log")
            if out_at and time.monotonic() > out_at:
                out_at, seconds = None, RPO + 180
                for who in ("a", "b"):
                    self.daemons[who].kill()
                    self.daemons[who].wait()
                    self.later(seconds, who)
                self.outage = now(), now() + timedelta(seconds=seconds)
                self.say(f"both agents are killed, and back in {seconds} s")
            if time.monotonic() > next_trouble and time.monotonic() < quiet:
                self.trouble()
                next_trouble = time.monotonic() + self.dice.randint(30, 120)
            if time.monotonic() > next_change and time.monotonic() < end - 130:
                n += 1
                next_change = time.monotonic() + 15
                (self.work / "tree" / f"{n % 40}.json").write_text(json.dumps({"n": n, "x": self.dice.random()}))
                ask(f"{self.tenant}/sample/change", {"count": self.dice.randint(1, 6)})
        self.ended = now()
        for who in ("a", "b", "tester", "watch"):
            if self.daemons[who].poll() is None:
                self.daemons[who].terminate()
        for who, process in self.daemons.items():
            self.say(f"{who} ends with {process.wait(40)}")

    # ---- what is held to account

    def log(self, who):
        for line in (self.work / f"{who}.log").read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def accounts(self):
        ran, told = collections.defaultdict(list), collections.defaultdict(list)
        wrong, counts = [], collections.Counter()
        for who in ("a", "b", "tester"):
            for line in self.log(who):
                said, job = line.get("message", ""), line.get("job")
                word = next((w for w in ("done", "failed", "interrupted", "missed") if said.startswith(w)), None)
                if word == "missed":
                    told[job].append((instant(line["from"]), instant(line["until"])))
                elif word == "done":
                    ran[job, instant(line["due"])].append((who, said.split(",")[0].split(":")[0]))
                if word:
                    counts[job, "found" if said.startswith("done already") else word] += 1
        for job, (_, _, seconds) in JOBS.items():
            at = self.begun.replace(minute=0, second=0, microsecond=0)
            due = [at + timedelta(hours=h, seconds=s) for h in range(int(self.minutes // 60) + 3) for s in seconds]
            due = [d for d in due if self.begun + timedelta(seconds=5) < d < self.ended - timedelta(seconds=60)]
            did = [d for d in due if any(how == "done" for _, how in ran[job, d])]
            missed = [d for d in due if not ran[job, d] and any(a <= d <= b for a, b in told[job])]
            lost = [d for d in due if not ran[job, d] and d not in missed]
            twice = [d for d in due if len([1 for _, how in ran[job, d] if how == "done"]) > 1]
            line = {"job": job, "due": len(due), "run": len(did), "found_in_the_vault": len(due) - len(did) - len(missed) - len(lost),
                    "told_as_missed": len(missed), "twice": [str(d) for d in twice], "unaccounted": [str(d) for d in lost],
                    "tries_that_failed": counts[job, "failed"], "interrupted": counts[job, "interrupted"]}
            print(json.dumps(line))
            wrong += [f"{job}: {key}" for key in ("twice", "unaccounted") if line[key]]
        return wrong

    def windows(self, stream):
        runs = [row["run"] for row in self.rows("ls", "--chain", f"export.{stream}") if row["kind"] == "export"]
        return [self.rows("show", run)[0]["statement"]["predicate"]["window"] for run in reversed(runs)]

    def chains(self):
        wrong, chains = [], collections.defaultdict(list)
        for row in self.rows("ls"):
            chains[row["chain"]].append(row)
        for chain, rows in sorted(chains.items()):
            rows.sort(key=lambda row: row["sequence"])
            numbers = [row["sequence"] for row in rows]
            print(json.dumps({"chain": chain, "attestations": len(rows), "from": numbers[0], "to": numbers[-1]}))
            if numbers != list(range(numbers[0], numbers[0] + len(rows))):
                wrong.append(f"{chain}: numbers {numbers}")
        return wrong

    def contents(self):
        identity = ("--identity", "keys/identity-1.txt")
        said = self.rows("verify", "--deep", *identity, expect=(0, 3, 4))[-1]
        wrong = [] if said["ok"] else [f"verify: {json.dumps(said)[:2000]}"]
        print(json.dumps({"verify": said["ok"], "findings": said.get("findings")}))
        self.backstop("restore", "files", "tree", "--to", "restored-tree", *identity)
        same = subprocess.run(["diff", "-r", "tree", "restored-tree"], cwd=self.work).returncode == 0
        wrong += [] if same else ["the restored tree differs"]
        dump = self.work / "dump.ndjson"
        dump.write_bytes(ask(f"{self.tenant}/sample/dump"))
        for kind, source in (("graph", "entra"), ("arm", "azure")):
            self.backstop("restore", "files", source, "--to", f"restored-{source}", *identity)
            ran = subprocess.run([sys.executable, ROOT / "tests/support/compare_dump.py", kind, dump, f"restored-{source}"],
                                 cwd=self.work, capture_output=True, text=True)
            print(source, ran.stdout.strip()[:300])
            wrong += [] if ran.returncode == 0 else [f"{source} differs from the tenant: {ran.stdout[:500]}"]
        for stream, log in (("sign-ins", "signIns"), ("directory-audits", "directoryAudits")):
            windows = self.windows(stream)
            if any(a["to"] != b["from"] for a, b in zip(windows, windows[1:])):
                wrong.append(f"{stream}: its windows do not follow each other")
            # What is younger may still arrive late, and is found by the look back of a later export.
            first, last = windows[0]["from"], (instant(windows[-1]["to"]) - timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.backstop("restore", "logs", stream, "--from", first, "--to", last, "--out", f"{stream}.ndjson", *identity)
            got = collections.Counter(json.loads(line)["id"] for line in open(self.work / f"{stream}.ndjson"))
            url = f"{self.tenant}/sample/dump/logs?stream={log}&from={first}&to={last}"
            # It tells every version of an event.
            want = collections.Counter({json.loads(line)["id"] for line in ask(url).splitlines()})
            print(json.dumps({"stream": stream, "from": first, "to": last, "events": sum(got.values()), "tenant_has": sum(want.values())}))
            if got != want:
                wrong.append(f"{stream}: {len(want - got)} events lost, {len(got - want)} too many, such as {list((want - got) + (got - want))[:3]}")
        return wrong

    def alerts(self):
        wrong, opened = [], {}
        for line in (self.work / "alerts-watch.ndjson").read_text().splitlines() if (self.work / "alerts-watch.ndjson").exists() else []:
            alert = json.loads(line)
            opened.setdefault(alert["id"], [alert["kind"], alert["subject"], instant(alert["opened"]), None])
            if alert["state"] == "resolved":
                opened[alert["id"]][3] = instant(alert["at"])
        for kind, subject, at, over in opened.values():
            after = self.outage and round((at - self.outage[0]).total_seconds())
            print(json.dumps({"alert": kind, "subject": subject, "opened": str(at), "seconds_after_outage": after, "resolved": str(over)}))
            # Of a vault that is an hour old, an outage is a large part of the month.
            if kind == "availability_missed" and self.outage and at >= self.outage[0]:
                continue
            store = kind == "vault_unreadable" and any(f <= at <= f + timedelta(seconds=120) for f in self.store_failed)
            if not store and (not self.outage or not self.outage[0] <= at <= self.outage[1] + timedelta(seconds=60)):
                wrong.append(f"the watcher told what nobody did: {kind} of {subject} at {at}")
            if not over:
                wrong.append(f"{kind} of {subject} is not over")
        if self.outage and not any(kind == "rpo_exceeded" and at <= self.outage[0] + timedelta(seconds=RPO + 60)
                                   for kind, _, at, _ in opened.values()):
            wrong.append("nobody was told in time that the RPO was exceeded")
        return wrong

    def run(self):
        try:
            self.set_up()
            self.say(f"everything is in {self.work}")
            self.live()
            wrong = self.accounts() + self.chains() + self.contents() + self.alerts()
        finally:
            for process in [*self.daemons.values(), *self.helpers]:
                if process.poll() is None:
                    process.kill()
        for line in wrong:
            print(f"WRONG: {line}")
        print("every claim holds" if not wrong else f"{len(wrong)} claims do not hold")
        return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", default=ROOT / "target/release")
    sys.exit(Soak(parser.parse_args()).run())
