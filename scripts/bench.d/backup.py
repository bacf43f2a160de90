"""Measures backups of Reeve and of other programs: a database of 1 to 2 GB with one huge table and 2,000 small ones.

Only Reeve's backups are encrypted and contain fingerprints. Measures whole processes, interleaved, and prints medians.
The restore of the huge table alone is compared with
COPY and its indexes, by psql. The time of the restore test does not include the creation of its cluster. It is compared with 'pg_restore -j2' of a
'-Fd' dump into a cluster with the same settings.
"""
import json, os, shutil, subprocess, sys, threading, time
from common import Cluster, figure, median, say, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])
ROWS = int(os.environ.get("BENCH_ROWS", "2600000"))

DATA = """
CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, account int NOT NULL, kind text NOT NULL,
    amount numeric(12, 2), address inet, payload jsonb NOT NULL, note text
);
WITH words AS (SELECT array_agg(substr(md5(n::text), 1, 3 + n % 7)) AS list FROM generate_series(1, 400) n)
INSERT INTO events (at, account, kind, amount, address, payload, note)
SELECT timestamptz '2026-01-01' + n * interval '11 seconds' + random() * interval '10 seconds',
    (random() * random() * 50000)::int, (ARRAY['view', 'click', 'order', 'refund', 'login'])[1 + (random() * 4)::int],
    round((random() * 500)::numeric, 2), '10.0.0.0'::inet + (random() * 16000000)::bigint,
    jsonb_build_object('session', md5((n / 8)::text), 'path', '/shop/' || list[1 + (random() * random() * 399)::int],
        'agent', 'Mozilla/5.0 (X11; Linux x86_64) rv:' || (random() * 20)::int, 'ms', (random() * 900)::int,
        'tags', jsonb_build_array(list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int])),
    concat_ws(' ', list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int],
        list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int],
        list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int], list[1 + (random() * random() * 399)::int])
FROM words, generate_series(1, @ROWS@) n;
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX ON events (account, at);
DO $$ BEGIN FOR n IN 1..2000 LOOP
    EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT now())', n);
    EXECUTE format('INSERT INTO small_%s SELECT g, md5(g::text) FROM generate_series(1, 100) g', n);
    IF n % 100 = 0 THEN COMMIT; END IF;
END LOOP; END $$;
""".replace("@ROWS@", str(ROWS))

FAST = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal",
    "max_wal_senders": "0", "autovacuum": "off", "max_wal_size": "4GB", "maintenance_work_mem": "128MB",
}


def size(path):
    done = subprocess.run(["du", "-sb", path], capture_output=True, text=True)
    return int(done.stdout.split()[0])


def tree(pid):
    pids, grown = {pid}, True
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    while grown:
        more = {child for child, parent in parents.items() if parent in pids} - pids
        grown = bool(more)
        pids |= more
    return pids


def peak(command, environment):
    """Returns the peak memory of a command and its child processes, in MiB: the sum of proportional set sizes."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = own = 0
    while child.poll() is None:
        total = 0
        for pid in tree(child.pid):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    pss = next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
                total += pss
                if pid == child.pid:
                    own = max(own, pss)
            except (OSError, StopIteration):
                pass
        most = max(most, total)
        time.sleep(0.05)
    if child.returncode != 0:
        sys.exit(f"{command} failed")
    return most / 1024, own / 1024


cluster = Cluster(reeve)
cluster.fresh("bench")
say(f"filling a database with {ROWS} rows and 2,000 small tables")
done = subprocess.run(
    ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", "postgres", "bench"], input=DATA, text=True)
if done.returncode != 0:
    sys.exit("the database was not filled")
cluster.sql("bench", "VACUUM ANALYZE")
cluster.sql("bench", "CHECKPOINT")
total = subprocess.run(
    ["psql", "-XqAt", "-h", cluster.host, "-U", "postgres", "bench", "-c", "SELECT pg_database_size('bench')"],
    capture_output=True, text=True).stdout.strip()
figure("database_mb", f"{int(total) / 1e6:.0f}", "1000-2000")

folder = f"{cluster.state}/backups"
key = f"{cluster.state}/key"
subprocess.run([reeve, "backup", "key", "new", key], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
recipient = next(line.split()[-1] for line in open(key) if "public key" in line)
environment = dict(
    os.environ, DATABASE_URL=cluster.url("bench"), REEVE_STATE=cluster.state, REEVE_BACKUP_REPOSITORY=f"{folder}/reeve",
    REEVE_BACKUP_RECIPIENTS=recipient, REEVE_BACKUP_IDENTITY=key)


def dump(name, *options):
    path = f"{folder}/{name}"
    return ["pg_dump", *options, "-h", cluster.host, "-U", "postgres", "-f", path, "bench"], path


peers = {
    "fc": dump("fc", "-Fc"), "fd_j2": dump("fd", "-Fd", "-j2"), "fd_j2_z1": dump("fdz1", "-Fd", "-j2", "-Z1"),
}
installed = shutil.which("pgbackrest") is not None or subprocess.run(
    ["apt-get", "install", "-y", "--no-install-recommends", "pgbackrest"], stdout=subprocess.DEVNULL).returncode == 0
if installed:
    config = f"{cluster.state}/pgbackrest.conf"
    with open(config, "w") as file:
        file.write(f"""[global]
repo1-path={folder}/pgbackrest
repo1-retention-full=1
compress-type=zst
compress-level=3
process-max=2
start-fast=y
log-level-console=off
log-level-file=off
lock-path={cluster.state}/pgbackrest.lock
spool-path={cluster.state}/pgbackrest.spool
[bench]
pg1-path={cluster.state}/cluster/data
pg1-socket-path={cluster.host}
pg1-user=postgres
""")
    rest = ["pgbackrest", f"--config={config}", "--stanza=bench"]
    peers["pgbackrest"] = (
        [*rest, "--type=full", "--no-archive-check", "backup"],
        f"{folder}/pgbackrest/backup/bench")
else:
    say("pgbackrest cannot be installed; it is left out")

ours = [reeve, "backup", "create", "--full"]
again = [reeve, "backup", "create"]
times = {name: [] for name in ["ours", "again", *peers]}
sizes, news = {}, []
os.makedirs(folder, exist_ok=True)
for _ in range(rounds):
    for name, (command, path) in peers.items():
        if name != "pgbackrest":
            shutil.rmtree(path, ignore_errors=True)
            if os.path.isfile(path):
                os.unlink(path)
        else:
            shutil.rmtree(f"{folder}/pgbackrest", ignore_errors=True)
            os.makedirs(f"{folder}/pgbackrest")
            subprocess.run([*rest, "--no-online", "stanza-create"], check=True, stdout=subprocess.DEVNULL)
        times[name].append(timed(command))
        sizes[name] = size(path)
        say(f"{name} {times[name][-1]:.2f} s, {sizes[name] / 1e6:.1f} MB")
    # A new repository, and a ledger that knows no other.
    shutil.rmtree(f"{folder}/reeve", ignore_errors=True)
    cluster.sql("bench", "DROP SCHEMA IF EXISTS reeve CASCADE")
    subprocess.run([reeve, "backup", "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
    times["ours"].append(timed(ours, env=environment))
    sizes["ours"] = size(f"{folder}/reeve")
    times["again"].append(timed(again, env=environment))
    say(f"ours {times['ours'][-1]:.2f} s, again {times['again'][-1]:.2f} s")
    news.append(size(f"{folder}/reeve") - sizes["ours"])

for name in ["ours", "again", *peers]:
    figure(f"backup_{name}_s", f"{median(times[name]):.2f}", "-")
for name in ["ours", *peers]:
    figure(f"backup_{name}_mb", f"{sizes[name] / 1e6:.1f}", "-")
base = median(times["ours"])
figure("backup_to_fc", f"{base / median(times['fc']):.2f}", "<=0.35")
figure("backup_to_fd_j2", f"{base / median(times['fd_j2']):.2f}", "<=0.6")
figure("backup_to_fd_j2_z1", f"{base / median(times['fd_j2_z1']):.2f}", "-")
if installed:
    figure("backup_to_pgbackrest", f"{base / median(times['pgbackrest']):.2f}", "-")
figure("backup_bytes_to_fc", f"{sizes['ours'] / sizes['fc']:.2f}", "<=0.9")
figure("unchanged_to_first", f"{median(times['again']) / base:.2f}", "<=0.5")
figure("unchanged_bytes_pct", f"{100 * median(news) / sizes['ours']:.2f}", "<1")
tree_mb, own_mb = peak(ours, environment)
figure("backup_memory_mib", f"{tree_mb:.0f}", "<128")
figure("backup_memory_reeve_alone_mib", f"{own_mb:.0f}", "-")

say("one table")
# By hand: COPY from a file, and the indexes, in one transaction.
script = f"{folder}/events.sql"
subprocess.run(
    ["pg_dump", "-h", cluster.host, "-U", "postgres", "-t", "events", "-f", script, "bench"], check=True,
    stdout=subprocess.DEVNULL)
restored, copied = [], []
for _ in range(rounds):
    cluster.fresh("one")
    copied.append(timed(["psql", "-Xq1", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", "postgres", "-f", script, "one"]))
    cluster.fresh("one")
    restored.append(timed(
        [reeve, "backup", "restore", "latest", "--table", "public.events", "--to", cluster.url("one")], env=environment))
    say(f"restored {restored[-1]:.2f} s, COPY {copied[-1]:.2f} s")
cluster.sql("postgres", "DROP DATABASE one")
os.unlink(script)
figure("one_table_s", f"{median(restored):.2f}", "-")
figure("one_table_to_copy", f"{median(restored) / median(copied):.2f}", "<=1.5")
say("restore tests")
proofs, raws = [], []
raw = f"{cluster.state}/raw"
programs = sorted(os.listdir("/usr/lib/postgresql"))[-1]
binaries = f"/usr/lib/postgresql/{programs}/bin"
as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
for _ in range(rounds):
    done = subprocess.run(
        [reeve, "backup", "test", "latest", "--json"], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"the restore test failed: {done.stdout}{done.stderr}")
    proof = json.loads(done.stdout)
    proofs.append((proof["restore_seconds"], proof["seconds"]))
    os.makedirs(raw)
    if as_postgres:
        shutil.chown(raw, "postgres", "postgres")
    subprocess.run(
        [*as_postgres, f"{binaries}/initdb", "-D", f"{raw}/data", "-A", "trust", "-U", "postgres", "-N"], check=True,
        stdout=subprocess.DEVNULL, cwd="/")
    with open(f"{raw}/data/postgresql.conf", "a") as file:
        file.write("".join(f"{name} = '{value}'\n" for name, value in FAST.items()))
        file.write(f"listen_addresses = ''\nunix_socket_directories = '{raw}'\n")
    server = subprocess.Popen(
        [*as_postgres, f"{binaries}/postgres", "-D", f"{raw}/data"], stderr=subprocess.DEVNULL, cwd="/")
    while subprocess.run(
            ["psql", "-XqAt", "-h", raw, "-U", "postgres", "-c", "CREATE DATABASE bench"], stderr=subprocess.DEVNULL
    ).returncode != 0:
        time.sleep(0.1)
    raws.append(timed(["pg_restore", "-j2", "-h", raw, "-U", "postgres", "-d", "bench", f"{folder}/fd"]))
    server.terminate()
    server.wait()
    shutil.rmtree(raw)
figure("restore_s", f"{median([proof[0] for proof in proofs]):.2f}", "-")
figure("restore_test_s", f"{median([proof[1] for proof in proofs]):.2f}", "-")
figure("pg_restore_j2_s", f"{median(raws):.2f}", "-")
figure("restore_test_to_pg_restore", f"{median([proof[1] for proof in proofs]) / median(raws):.2f}", "<=1.3")
