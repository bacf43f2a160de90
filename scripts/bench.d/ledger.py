"""Measures the queries of a scrape on a ledger with two million runs, the former queries on the runs, and the task tidy.

Measures only the statements, as psql reports their times. Each time is a median, with the tables in memory.
"""
import os, re, subprocess, sys
from common import Cluster, figure, median, say, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])
RUNS = int(os.environ.get("BENCH_RUNS", "2000000"))

FILL = f"""
SET session_replication_role = replica;
INSERT INTO reeve.runs (task, reason, state, instance, started_at, finished_at, message)
SELECT (ARRAY['analyze', 'anchor', 'validate', 'backup', 'verify', 'prune', 'migrate', 'tidy'])[1 + n % 8], 'manual',
    (ARRAY['succeeded', 'failed', 'timed_out', 'cancelled', 'lost'])[1 + (n % 50 = 0)::int * (n % 5)], 'bench',
    now() - n * interval '8 seconds', now() - n * interval '8 seconds' + interval '1 second', 'analysed 3 of 40 tables'
FROM generate_series({RUNS}, 1, -1) n;
INSERT INTO reeve.events (at, kind, subject)
SELECT now() - n * interval '8 seconds', 'run.succeeded', 'analyze' FROM generate_series({RUNS}, 1, -1) n;
INSERT INTO reeve.backup_attempts (place, started_at)
SELECT '/backups', now() - n * interval '1 hour' FROM generate_series(20000, 1, -1) n;
DELETE FROM reeve.task_totals;
INSERT INTO reeve.task_totals
    (task, newest_run, last_started_at, last_succeeded_at, succeeded, failed, timed_out, cancelled, lost)
SELECT task, max(id), max(started_at), max(finished_at) FILTER (WHERE state = 'succeeded'),
    count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
    count(*) FILTER (WHERE state = 'timed_out'), count(*) FILTER (WHERE state = 'cancelled'),
    count(*) FILTER (WHERE state = 'lost')
FROM reeve.runs GROUP BY task;
INSERT INTO reeve.place_totals SELECT place, max(id), max(started_at) FROM reeve.backup_attempts GROUP BY place;
"""

BEFORE = [
    "SELECT task, state, count(*) AS runs, max(started_at) AS started, "
    "max(finished_at) FILTER (WHERE state = 'succeeded') AS succeeded FROM reeve.runs GROUP BY task, state ORDER BY task",
    "SELECT place, max(started_at) FROM reeve.backup_attempts GROUP BY place",
]
NOW = [
    "SELECT * FROM reeve.task_totals ORDER BY task",
    "SELECT place, last_started_at FROM reeve.place_totals",
]

cluster = Cluster(reeve)
cluster.fresh("bench")
environment = dict(os.environ, DATABASE_URL=cluster.url("bench"), REEVE_STATE=cluster.state)


def psql(text):
    done = subprocess.run(
        ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", "postgres", "bench"], input=text,
        capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


def milliseconds(statements):
    out = psql("\\timing on\n\\o /dev/null\n" + ";\n".join(statements) + ";\n")
    return sum(float(found) for found in re.findall(r"Time: ([0-9.]+) ms", out))


timed([reeve, "task", "run", "tidy"], env=environment)
say(f"filling the ledger with {RUNS} runs and as many events")
psql(FILL)
psql("VACUUM ANALYZE")
figure("ledger_runs", RUNS, "-")
for statements in (BEFORE, NOW):
    milliseconds(statements)
before = median([milliseconds(BEFORE) for _ in range(rounds)])
now = median([milliseconds(NOW) for _ in range(rounds)])
figure("scrape_from_runs_ms", f"{before:.1f}", "-")
figure("scrape_from_totals_ms", f"{now:.2f}", "<10")
figure("scrape_to_before", f"{now / before:.5f}", "<0.01")
say("tidying what is older than ledger.keep")
seconds = timed([reeve, "task", "run", "tidy"], env=environment)
left = int(psql("\\t on\nSELECT count(*) FROM reeve.runs").strip())
removed = RUNS - left + RUNS - int(psql("\\t on\nSELECT count(*) FROM reeve.events").strip())
figure("tidy_s", f"{seconds:.2f}", "-")
figure("tidy_rows_per_s", f"{removed / seconds:.0f}", "-")
figure("scrape_after_tidying_ms", f"{median([milliseconds(NOW) for _ in range(rounds)]):.2f}", "<10")
