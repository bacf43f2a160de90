"""Measures what workers and dashboards ask of the five systems, with up to a million rows in their main tables.

Each time is a median of what psql reports of the statement alone, rolled back, after a run that is not counted. Those
of the largest size are measured again beside a snapshot that is held open while workers churn. What is slow or grows is
explained on stderr, with the part of the plan that took longest.
"""
import collections, concurrent.futures, importlib, json, os, re, subprocess, sys
from common import Cluster, figure, median, say, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])
SIZES = sorted(int(size) for size in os.environ.get("BENCH_SIZES", "10000,100000,1000000").split(","))
NAMES = os.environ.get("BENCH_SYSTEMS", "videogen,csvbatch,advideo,posters,publisher").split(",")
LOADS = {name: importlib.import_module(f"loads.{name}") for name in NAMES}
CYCLES = 10000
SLOW = 50  # milliseconds

# Indexes are made anew after the rows, as in a restore, which is several times as fast as keeping them.
TAKE_INDEXES = """
CREATE TEMPORARY TABLE taken AS
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND NOT i.indisunique;
SELECT format('DROP INDEX %s', name) FROM taken \\gexec
"""
MAKE_INDEXES = "SELECT definition FROM taken \\gexec\n"
# The settings while rows are made, and only then.
HASTE = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "16GB"}

cluster = Cluster(reeve)


def psql(text, **variables):
    """Runs SQL as the superuser and returns what psql printed; of results and times, that is only the times."""
    command = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", "postgres", "bench"]
    for name, value in variables.items():
        command += ["-v", f"{name}={value}"]
    done = subprocess.run(command, input="\\o /dev/null\n" + text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"psql failed:\n{done.stderr[-3000:]}")
    return done


def pgbench(name, script, clients, cycles, synchronous="on"):
    """Runs a script for pgbench as often by so many clients together, and returns how often it ran in a second."""
    role = getattr(LOADS[name], "CHURN_ROLE", "postgres")
    options = f"-c search_path={name} -c role={role} -c synchronous_commit={synchronous}"
    command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-t", str(cycles // clients),
        "-f", "/dev/stdin", "-h", cluster.host, "-U", "postgres", "bench"]
    done = subprocess.run(
        command, input=script, capture_output=True, text=True, env=dict(os.environ, PGOPTIONS=options))
    if done.returncode != 0:
        sys.exit(f"pgbench failed:\n{done.stderr[-3000:]}")
    return float(re.search(r"tps = ([0-9.]+)", done.stdout).group(1))


def fill(rows):
    """Makes a database with the five systems and so many rows in the main table of each."""
    cluster.fresh("bench")
    environment = dict(
        os.environ, DATABASE_URL=cluster.url("bench"), REEVE_STATE=cluster.state, REEVE_SYSTEMS=",".join(NAMES))
    timed([reeve, "migrate", "up"], env=environment)
    psql("".join(f"ALTER SYSTEM SET {name} = '{value}';\n" for name, value in HASTE.items()))
    psql("SELECT pg_reload_conf()")

    def fill_system(name):
        psql(f"""SET search_path = {name}; SET maintenance_work_mem = '256MB';
            SET session_replication_role = replica; {TAKE_INDEXES} {LOADS[name].FILL} {MAKE_INDEXES}""", rows=rows)

    say(f"filling the systems with {rows} rows")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(fill_system, NAMES))
    psql("VACUUM ANALYZE")
    psql("".join(f"ALTER SYSTEM RESET {name};\n" for name in HASTE))
    psql("SELECT pg_reload_conf()")
    psql("CHECKPOINT")


def transaction(call, begin="", end=""):
    """The call in a transaction of its own that is rolled back, with the role that it is for, between two commands."""
    role = f"SET LOCAL ROLE {call.role};" if call.role else ""
    return f"BEGIN;\n{call.before}\n{role}\n{begin}\n{call.sql}\n;\n{end}\nROLLBACK;\n"


def measure(name):
    """Returns the median of each call, in milliseconds. What is to be quick runs more often."""
    script, times = f"SET search_path = {name};\n", {}
    for call in LOADS[name].CALLS:
        counted = 3 * rounds if call.target == "<50" else rounds
        script += f"\\echo {call.name}\n" + transaction(call)
        script += transaction(call, "\\timing on", "\\timing off") * counted
    for line in psql(script).stdout.splitlines():
        if line.startswith("Time: "):
            times[current].append(float(line.split()[1]))
        elif line:
            current = line
            times[current] = []
    return {call: median(values) for call, values in times.items()}


def nodes(plan):
    """The nodes of a plan with the time that each took itself."""
    own = plan.get("Actual Total Time", 0) * plan.get("Actual Loops", 0)
    for child in plan.get("Plans", []):
        yield from nodes(child)
        own -= child.get("Actual Total Time", 0) * child.get("Actual Loops", 0)
    what = [plan["Node Type"]] + [f"on {plan[key]}" for key in ("Relation Name", "Index Name") if key in plan]
    what += [f"{key.lower()} {plan[key]}" for key in ("Index Cond", "Filter", "Sort Key", "Group Key") if key in plan]
    yield " ".join(what), own


def blame(name, call):
    """Says which nodes of the plans took longest, of the call and of all that its functions and triggers ran."""
    text = psql(f"""LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;
        SET auto_explain.log_nested_statements = on; SET auto_explain.log_format = json; SET search_path = {name};
        {transaction(call, "SET LOCAL client_min_messages = log;", "SET LOCAL client_min_messages = error;")}""").stderr
    spent, ran = collections.Counter(), collections.Counter()
    for found in re.findall(r"^LOG:  duration: [0-9.]+ ms  plan:\n(\{.*?^\})", text, re.M | re.S):
        found = json.loads(found)
        compiling = found.get("JIT", {}).get("Timing", {}).get("Total", 0)
        for what, own in [*nodes(found["Plan"]), ("JIT compilation", compiling)]:
            spent[what] += own
            ran[what] += 1
    # What only waits for the statements of a function has their time as its own.
    inner = [item for item in spent.most_common() if not item[0].startswith(("Result", "Function Scan"))]
    for what, own in (inner or spent.most_common())[:2]:
        say(f"  {call.name}: {own:.0f} ms in {ran[what]} plans: {what[:300]}")


def print_times(name, size, times, before=None):
    for call in LOADS[name].CALLS:
        value = times[call.name]
        figure(f"{name}_{size}_{call.name}_ms", f"{value:.2f}", call.target)
        growing = before is not None and value > 5 and value > 10 * before[call.name]
        if before is not None and (value > SLOW or growing):
            blame(name, call)


def print_claims(name, size):
    load = LOADS[name]
    for workers in (1, 20):
        psql(f"SET search_path = {name}; {load.SUPPLY}")
        figure(f"{name}_{size}_claims_per_s_by_{workers}", f"{pgbench(name, load.CLAIM, workers, 2000):.0f}", "-")


def hold_snapshot():
    """Begins a transaction that sees the database as it is now, until the database is removed."""
    command = ["psql", "-Xq", "-h", cluster.host, "-U", "postgres", "bench"]
    for statement in ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM pg_class", "SELECT pg_sleep(100000)"):
        command += ["-c", statement]
    subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.readline()


def churn(name):
    load = LOADS[name]
    psql(f"SET search_path = {name}; {getattr(load, 'CHURN_SUPPLY', '')}")
    figure(f"{name}_churn_cycles_per_s", f"{pgbench(name, load.CHURN, 4, CYCLES, 'off'):.0f}", "-")


medians = {}
for size in SIZES:
    fill(size)
    for name in NAMES:
        medians[name, size] = measure(name)
        print_times(name, size, medians[name, size], medians[name, SIZES[0]] if size == SIZES[-1] else None)
        if hasattr(LOADS[name], "CLAIM"):
            print_claims(name, size)

say(f"{CYCLES} cycles of workers of each system, beside a snapshot that stays open")
hold_snapshot()
for name in NAMES:
    churn(name)
    print_times(name, f"{SIZES[-1]}_churned", measure(name), medians[name, SIZES[-1]])

for name in NAMES:
    for call in LOADS[name].CALLS:
        growth = medians[name, SIZES[-1]][call.name] / medians[name, SIZES[0]][call.name]
        figure(f"{name}_{call.name}_growth", f"{growth:.1f}", "-")
