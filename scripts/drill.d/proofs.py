"""Makes backups of a database that changes all the time: pgbench writes, and tables are created, dropped, truncated and
altered. Each backup is restored and compared with its manifest, which describes the snapshot. Any difference is a false
alarm."""
import json, os, random, subprocess, sys, threading, time
from common import Cluster, say

reeve, count = sys.argv[1], int(sys.argv[2])
cluster = Cluster(reeve)
cluster.fresh("busy")
subprocess.run(
    ["pgbench", "-i", "-q", "-s", "5", "-h", cluster.host, "-U", "postgres", "busy"], check=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
cluster.sql("busy", """
    CREATE TABLE emptied (id int, t text); CREATE TABLE altered (id serial PRIMARY KEY);
    INSERT INTO emptied SELECT g, md5(g::text) FROM generate_series(1, 1000) g;
    CREATE SEQUENCE numbers""")
key = f"{cluster.state}/key"
subprocess.run([reeve, "backup", "key", "new", key], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
recipient = next(line.split()[-1] for line in open(key) if "public key" in line)
environment = dict(
    os.environ, DATABASE_URL=cluster.url("busy"), REEVE_STATE=cluster.state, REEVE_BACKUP_IDENTITY=key,
    REEVE_BACKUP_REPOSITORY=f"{cluster.state}/backups", REEVE_BACKUP_RECIPIENTS=recipient)
subprocess.run([reeve, "backup", "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
stop = threading.Event()
statements = 0


def change():
    global statements
    number = 0
    while not stop.is_set():
        number += 1
        kind = random.choice([
            "BEGIN; TRUNCATE emptied; INSERT INTO emptied SELECT g, md5(random()::text) FROM generate_series(1, 1000) g; COMMIT",
            f"CREATE TABLE made_{number} AS SELECT g FROM generate_series(1, 100) g",
            "DO $$ DECLARE t text; BEGIN FOR t IN SELECT relname FROM pg_class WHERE relname LIKE 'made_%' AND relkind = 'r'"
            " LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$",
            f"ALTER TABLE altered ADD COLUMN c{number} int; INSERT INTO altered (c{number}) VALUES (1);"
            f" ALTER TABLE altered DROP COLUMN c{number}",
            "SELECT nextval('numbers') FROM generate_series(1, 10)", "TRUNCATE pgbench_history",
            f"CREATE INDEX made_index ON emptied (id); DROP INDEX made_index",
            f"CREATE OR REPLACE VIEW seen AS SELECT id, {number} AS n FROM emptied",
        ])
        cluster.sql("busy", kind, check=False)
        statements += 1
        time.sleep(random.uniform(0.2, 1.5))


bench = subprocess.Popen(
    ["pgbench", "-n", "-c", "2", "-R", "300", "-T", "100000", "-h", cluster.host, "-U", "postgres", "busy"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
changer = threading.Thread(target=change)
changer.start()
proved = alarms = given_up = 0
try:
    while proved + alarms < count:
        made = subprocess.run(
            [reeve, "backup", "create", "--json"], env=environment, capture_output=True, text=True)
        if made.returncode != 0:
            given_up += 1
            say(made.stdout.strip()[:300])
            continue
        test = subprocess.run(
            [reeve, "backup", "test", "latest", "--json"], env=environment, capture_output=True, text=True)
        if test.returncode == 0:
            proved += 1
        else:
            alarms += 1
            say(test.stdout[:2000] + test.stderr[:500])
        if (proved + alarms) % 10 == 0:
            say(f"{proved} proved, {alarms} false alarms, {given_up} given up, {statements} changes")
            subprocess.run(
                [reeve, "backup", "prune", "--confirm=main"], env=environment, stdout=subprocess.DEVNULL)
finally:
    stop.set()
    changer.join()
    bench.terminate()
    bench.wait()
print(f"proofs {proved}")
print(f"false_alarms {alarms}")
print(f"backups_given_up_for_locks {given_up}")
print(f"changes_beside_them {statements}")
