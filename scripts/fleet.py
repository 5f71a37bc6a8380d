"""How many workers one PostgreSQL feeds: see scripts/bench-fleet."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter

STEPS = [tuple(map(int, step.split("x"))) for step in sys.argv[1:]] or [
    (1, 8), (4, 8), (16, 8), (32, 8), (64, 8), (64, 16), (64, 32), (64, 64)]
ORGANISATIONS = int(os.environ.get("ORGANISATIONS", "64"))
# What a photo takes, and how long each step is watched, in seconds.
LOOK, BEFORE, WATCHED = 0.15, 6, 15
TICK = os.sysconf("SC_CLK_TCK")
URL = os.environ["DATABASE_URL"]
PSQL = ["psql", URL, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]


def ask(sql):
    return subprocess.run([*PSQL, "-c", sql], check=True, capture_output=True, text=True).stdout.strip()


def cpu_of(pid, with_ended=False):
    """Seconds of CPU of a process; with those of its children that have ended, if asked for."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0
    return sum(int(field) for field in fields[11:15 if with_ended else 13]) / TICK


class Server:
    def __init__(self):
        place = pathlib.Path(ask("SHOW data_directory"))
        self.pid = int((place / "postmaster.pid").read_text().split()[0])

    def cpu(self):
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return cpu_of(self.pid, with_ended=True) + sum(cpu_of(child) for child in children)


class Waits:
    """What the sessions that are not idle wait for, asked ten times a second."""

    def __init__(self):
        self.psql = subprocess.Popen(PSQL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.psql.stdin.write("""SELECT coalesce(wait_event_type || ':' || wait_event, 'running'), count(*)
            FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
            GROUP BY 1 UNION ALL SELECT 'asked', 1 \\watch 0.1\n""".replace("\n", " ").rstrip() + "\n")
        self.psql.stdin.flush()

    def end(self):
        self.psql.send_signal(signal.SIGINT)
        self.psql.stdin.close()
        found = Counter()
        for line in self.psql.stdout.read().splitlines():
            what, bar, count = line.rpartition("|")
            if bar:
                found[what] += int(count)
        self.psql.wait()
        times = found.pop("asked", 1)
        return [f"{what} {count / times:.1f}" for what, count in found.most_common(4) if count / times >= 0.05]


def fill(photos):
    ask(f"""DO $$ DECLARE v_organisation bigint; BEGIN
        FOR v_i IN 1..{ORGANISATIONS} LOOP
            v_organisation := create_organisation('Club ' || v_i, 'UTC');
            PERFORM top_up(v_organisation, 'admin_grant', 100000000, 'fleet', '', 'fleet');
            PERFORM create_event(v_organisation, 'Marathon', false, false, 'fleet');
        END LOOP; END $$""")
    of_each = photos // ORGANISATIONS + 1
    for first in range(0, of_each, 10_000):
        ask(f"""SELECT count(*) FROM (SELECT enqueue(event_id, 'photo_processing',
                (SELECT array_agg(format('rehearsal/slow-{LOOK * 1000:.0f}/%s.jpg', n) ORDER BY n)
                 FROM generate_series({first}, {min(first + 10_000, of_each) - 1}) n),
                (SELECT array_agg((lpad(to_hex(event_id), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid
                                  ORDER BY n)
                 FROM generate_series({first}, {min(first + 10_000, of_each) - 1}) n), 'fleet') FROM event) enqueued""")
    ask("VACUUM ANALYZE")


def step(processes, slots, log):
    workers = [subprocess.Popen([os.environ["PHOTOGATE"], "work", "--rehearse", "--slots", str(slots)],
                                env=os.environ | {"REDIS_URL": "", "PHOTOGATE_LOG": "warn"}, stdout=log, stderr=log)
               for _ in range(processes)]
    try:
        time.sleep(BEFORE + processes / 16)
        waits = Waits()
        done, busy, theirs = int(ask("SELECT sum(spent) FROM account")), server.cpu(), sum(cpu_of(w.pid) for w in workers)
        began = time.monotonic()
        time.sleep(WATCHED)
        took = time.monotonic() - began
        done, busy = int(ask("SELECT sum(spent) FROM account")) - done, server.cpu() - busy
        theirs = sum(cpu_of(w.pid) for w in workers) - theirs
        waited = waits.end()
        if any(w.poll() is not None for w in workers):
            sys.exit("a worker ended by itself")
        if ask("SELECT count(*) FROM queue WHERE NOT drained") == "0":
            sys.exit("nothing waits any more: the figures would be too low")
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
    rate = done / took
    print(f"| {processes} x {slots} | {processes * slots / LOOK:,.0f} | {rate:,.0f} | {rate * LOOK / processes / slots:.0%} "
          f"| {busy / took:.2f} | {busy / max(done, 1) * 1e6:,.0f} | {theirs / took:.2f} | {', '.join(waited)} |", flush=True)


log = open(os.environ.get("LOG", os.devnull), "w")
server = Server()
fill(int(sum(processes * slots / LOOK * (BEFORE + processes / 16 + WATCHED + 5) for processes, slots in STEPS)))
print(f"PostgreSQL {ask('SHOW server_version')}, organisations: {ORGANISATIONS}, cores: {os.cpu_count()}\n")
print("| processes x slots | photos/s that the slots could do | photos/s | slots at work | cores: PostgreSQL "
      "| µs a photo | cores: workers | sessions that are active, and what they wait for |")
print("|---|---|---|---|---|---|---|---|", flush=True)
for step_of in STEPS:
    step(*step_of, log)
