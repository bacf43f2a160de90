"""Runs generated migration files through psql and through Reeve, and compares the outcomes and the databases.

A history is a sequence of files for one database. Reeve applies the files as a system's migrations, several in one run.
psql runs each file in a session of its own: with -1, except that

- a file with '-- reeve: no-transaction', or with BEGIN … COMMIT around it, runs as it is;
- in a file with statements that cannot run in a transaction, BEGIN and COMMIT are put around the statements between
  them, because Reeve runs these in one transaction.

If a file fails, it must fail at the same statement with the same SQLSTATE. A file that was rolled back is removed, and
the history continues without it. After a file that failed half-way, the databases are compared, and the remaining files
begin a new history.

The files depend on the seed only. For each kind of difference, the first files that show it are reduced and kept."""
import collections, concurrent.futures, difflib, json, os, re, shutil, signal, subprocess, sys, tempfile, threading
from common import Cluster, say
from files import SETUP, generate

reeve = sys.argv[1]
count = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
workers = 4  # they mostly wait
length = 12  # files of a history
most_reduced = 12  # kinds of differences whose files are reduced
system = "name: app\nschema: app\n"
# The schema that Reeve's search path begins with, and the rest of the path.
path = "app, pg_temp"


class Outcome(collections.namedtuple("Outcome", "state place")):
    """How a file ended: 'done' or an SQLSTATE, and the index of the statement that failed; None: at the commit."""

    def __str__(self):
        return self.state


class Side:
    """A database that one of the two programs changes."""

    def __init__(self, name, template):
        self.name = name
        subprocess.run(
            ["createdb", "-h", cluster.host, "-U", "postgres", "-T", template, name], check=True,
            env=environment)

    def dump(self):
        """Returns everything that is compared of the database, as lines."""
        dumped = subprocess.run(
            ["pg_dump", "-h", cluster.host, "-U", "postgres", "--exclude-schema=reeve", self.name],
            capture_output=True, env=environment)
        if dumped.returncode != 0:
            return dumped.stderr.decode(errors="replace").splitlines()
        more = subprocess.run(
            ["psql", "-XqAt", "-h", cluster.host, "-U", "postgres", "-d", self.name, "-c", BEYOND_DUMP],
            capture_output=True, env=environment)
        lines = (dumped.stdout + more.stdout + more.stderr).decode(errors="replace").splitlines()
        # pg_dump invents a new key for \restrict each time.
        return [line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict "))]

    def drop(self):
        subprocess.run(
            ["dropdb", "-f", "--if-exists", "-h", cluster.host, "-U", "postgres", self.name], env=environment,
            stderr=subprocess.DEVNULL)


# What pg_dump does not write.
BEYOND_DUMP = """
    SELECT 'index', n.nspname, c.relname, i.indisvalid, i.indisready, i.indislive, i.indisclustered, pg_get_indexdef(c.oid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'reeve' ORDER BY 2, 3;
    SELECT 'partition', inhrelid::regclass, inhparent::regclass, inhdetachpending FROM pg_inherits ORDER BY 2, 3;
    SELECT 'table', n.nspname, c.relname, c.reltuples, c.relpersistence
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'reeve' ORDER BY 2, 3;
    SELECT 'settings', r.rolname, s.setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database() ORDER BY 2;
    SELECT 'locks', count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())"""


# What Reeve says if CREATE INDEX CONCURRENTLY IF NOT EXISTS finds an invalid index.
INVALID = "exists and is invalid, so the statement did nothing"


def run_psql(side, file, folder):
    """Runs one file through psql, and returns its outcome."""
    source, begins, commits = file.for_psql()
    name = f"{folder}/psql.sql"
    with open(name, "wb") as out:
        out.write(source)
    command = ["psql", "-X", "-q", "-h", cluster.host, "-U", "postgres", "-d", side.name, "-v", "ON_ERROR_STOP=1",
        "-v", "VERBOSITY=verbose", *(["-1"] if file.is_one_transaction else []), "-c", f"SET search_path = {path}",
        "-f", name]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment,
            timeout=120)
    if done.returncode == 0:
        return Outcome("done", None), ""
    text = done.stderr.decode(errors="replace")
    found = [line for line in text.splitlines() if re.search(r"(ERROR|FATAL):  \w{5}:", line)]
    if not found:
        return Outcome("refused", None), text
    state = re.search(r"(?:ERROR|FATAL):  (\w{5}):", found[-1])[1]
    at = re.search(r"psql\.sql:(\d+): ", found[-1])
    place = None if at is None or int(at[1]) in commits else statement_at(file, begins, int(at[1]))
    return Outcome(state, place), text


def statement_at(file, begins, line):
    """Returns the index of the statement on a line; None if the statement is COMMIT."""
    index = max((index for index, first in enumerate(begins) if first <= line), default=0)
    return None if file.statements[index].control else index


def run_reeve(side, folder, files):
    """Runs 'reeve migrate up', and returns how many files it applied and the outcome of the one that failed."""
    with open(f"{folder}/reeve.yaml", "w") as out:
        out.write(f"database: {cluster.url(side.name)}\nsystems: [./app]\ntrusted_roles: [drill_app, drill_other]\n")
    done = subprocess.run(
        [reeve, "migrate", "up", "--json"], cwd=folder, capture_output=True, env=environment, timeout=300)
    text = done.stdout.decode(errors="replace")
    try:
        answer = json.loads(text)
    except ValueError:
        return 0, Outcome(f"exit {done.returncode}", None), text + done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return len(files), None, ""
    message = answer["error"]["message"]
    before = re.search(r"^applied before: (\d+)", message, re.M)
    applied = int(before[1]) if before else 0
    file = re.match(r"app/\d+_f failed", message)
    state = re.search(r"\(SQLSTATE (\w{5})\)", message)
    if not file or not state or applied >= len(files):
        return applied, Outcome("refused: " + re.sub(r"\S*/|\d+", "", message.split("\n")[0])[:100], None), message
    at = re.search(r"_f\.up\.sql:(\d+):", message)
    place = statement_at(files[applied][1], files[applied][1].for_reeve()[1], int(at[1])) if at else None
    return applied, Outcome(state[1], place), message


class History:
    """Files that run one after the other in two databases."""

    counter = 0
    guard = threading.Lock()

    def __init__(self):
        with History.guard:
            History.counter += 1
            number = History.counter
        self.folder = f"{work}/{number}"
        shutil.copytree(f"{work}/setup", self.folder)
        self.sides = Side(f"h{number}_psql", "setup_psql"), Side(f"h{number}_reeve", "setup_reeve")
        self.version = 1

    def run(self, files):
        """Runs the files until they are done, differ, or fail half-way. Returns how many were consumed, and the
        differences."""
        pending, differences = [], []
        for file in files:
            self.version += 1
            name = f"{self.folder}/app/{self.version:04}_f.up.sql"
            with open(name, "wb") as out:
                out.write(file.for_reeve()[0])
            pending.append((name, file))
        consumed = 0
        while pending:
            applied, failed, answer = run_reeve(self.sides[1], self.folder, pending)
            last = pending[min(applied, len(pending) - 1)][1]
            if failed and INVALID in answer:
                # psql does nothing if CREATE INDEX CONCURRENTLY IF NOT EXISTS finds an invalid index. The databases differ
                # now, on purpose.
                with lock:
                    numbers["on purpose"] += 1
                return consumed + applied + 1, differences
            refused = next((one for one in pending if os.path.basename(one[0]) in answer), None)
            if failed and failed.state.startswith("refused") and refused:
                # Reeve reads all files before it runs one, so a file that it refuses does not go with the others.
                os.unlink(refused[0])
                pending.remove(refused)
                consumed += 1
                differences.append(Difference(f"reeve {failed}", refused[1], [refused[1]], answer))
                continue
            expected = [*(Outcome("done", None) for _ in range(applied)), *([failed] if failed else [])]
            for (name, file), mine in zip(pending, expected):
                theirs, text = run_psql(self.sides[0], file, self.folder)
                consumed += 1
                if theirs != mine:
                    if is_intended(self.sides[0], file, theirs, mine, text):
                        with lock:
                            numbers["on purpose"] += 1
                        return consumed, differences
                    text = f"psql: {theirs}, {theirs.place}\n{text}\nreeve: {mine}, {mine.place}\n{answer}"
                    differences.append(Difference(outcome_kind(file, theirs, mine), file, files, text))
                    return consumed, differences
            if failed:
                name, file = pending[applied]
                os.unlink(name)
                if not file.is_rolled_back:
                    break
                pending = pending[applied + 1:]
            else:
                pending = []
        return consumed, differences + self.compare(files, last)

    def compare(self, files, last):
        theirs, mine = (side.dump() for side in self.sides)
        # Reeve drops the invalid index that a failed CREATE INDEX or REINDEX CONCURRENTLY leaves behind.
        invalid = re.compile(r"index\|[^|]*\|[^|]*\|f\|")
        if last.has_alone or last.directive:
            theirs = [line for line in theirs if line in mine or not invalid.match(line)]
        if theirs == mine or sorted(theirs) == sorted(mine):
            return []
        lines = list(difflib.unified_diff(theirs, mine, "psql", "reeve", n=2, lineterm=""))
        changed = [line for line in lines[2:] if line[:1] in "+-"]
        kind = "databases: " + re.sub(r"\d+", "N", " ".join(changed[:2]))[:100]
        return [Difference(kind, last, files, "\n".join(lines))]

    def drop(self):
        for side in self.sides:
            side.drop()
        shutil.rmtree(self.folder)


def outcome_kind(file, theirs, mine):
    place = theirs.place if theirs.state != "done" else mine.place
    at = "the commit" if place is None or place >= len(file.statements) else file.statements[place].kind
    where = "" if theirs.state != mine.state else " elsewhere"
    return f"psql {theirs}, reeve {mine}{where}, at {at}"


def is_intended(side, file, theirs, mine, text):
    """Whether Reeve deviates from psql on purpose. The databases may differ then, so the history ends."""
    # An invalid index of the same name is in the way: if it has the same definition, Reeve drops it and builds it again.
    exists = re.search(r'ERROR:  42P07: relation "(.*)" already exists', text)
    if exists:
        invalid = subprocess.run(
            ["psql", "-XqAt", "-h", cluster.host, "-U", "postgres", "-d", side.name, "-c",
                "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid"],
            capture_output=True, env=environment)
        return exists[1] in invalid.stdout.decode().splitlines()
    # The statements of a transaction are sent together, and the server parses all of them before it runs the first.
    if mine.state == "42601" and theirs.state != "done" and file.is_rolled_back:
        return True
    # Each statement of a file without a transaction has a transaction of its own, so SAVEPOINT and the like succeed.
    if theirs.state == "25P01" and file.directive:
        return True
    # The ledger's row cannot be written in a read-only transaction.
    if mine.state == "25006" and theirs.state == "done":
        return True
    # Reeve makes its settings in the same transaction before the first statement.
    return mine.state == "25001" and any("SET TRANSACTION" in one.text.upper() for one in file.statements)


class Difference:
    """A difference at a file; `files` are those that ran in the history."""

    def __init__(self, kind, file, files, text):
        self.kind, self.file, self.files, self.text = kind, file, files, text

    @property
    def family(self):
        """What must remain while the files are reduced."""
        return "databases" if self.kind.startswith("databases") else self.kind


def try_alone(files):
    """Runs files in a history of their own, one by one, and returns the first difference."""
    history = History()
    try:
        for index, file in enumerate(files):
            _, found = history.run([file])
            if found:
                found[0].files = files[:index + 1]
                return found[0]
        return None
    finally:
        history.drop()


def reduced(difference, tries=40):
    """Removes files and statements as long as a difference of the same family remains."""
    best = difference

    def still(files):
        nonlocal tries, best
        tries -= 1
        found = try_alone(files) if tries >= 0 else None
        if found and found.family == difference.family:
            best = found
        return bool(found) and found.family == difference.family

    if not still([difference.file]) and not still(difference.files):
        return best
    index = 0
    while len(best.files) > 1 and index < len(best.files) - 1:
        index += not still(best.files[:index] + best.files[index + 1:])
    for index in reversed(range(len(best.files))):
        for size in (4, 2, 1):
            at = 0
            while at < len(best.files[index].statements) and tries > 0:
                smaller = best.files[index].without(range(at, at + size))
                less = len(smaller.statements) < len(best.files[index].statements)
                if not (less and smaller.statements and still(best.files[:index] + [smaller] + best.files[index + 1:])):
                    at += size
    return best


kinds = {}
lock = threading.Lock()
numbers = collections.Counter()


def record(difference, first):
    with lock:
        numbers["differs"] += 1
        kinds.setdefault(difference.kind, []).append((first, difference))
        if len(kinds[difference.kind]) == 1:
            place = write(difference, len(kinds), first)
            print(f"difference {len(kinds)}, seed {seed}, file {first}, in {place}: {difference.kind}", flush=True)


def write(difference, number, first):
    """Keeps the files of a difference, for Reeve and for psql, and what the programs said."""
    place = f"{kept}/{number:03}"
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    for index, file in enumerate(difference.files):
        with open(f"{place}/{index + 2:04}_f.up.sql", "wb") as out:
            out.write(file.for_reeve()[0])
        with open(f"{place}/{index + 2:04}_f.psql.sql", "wb") as out:
            out.write(file.for_psql()[0])
    with open(f"{place}/difference", "w") as out:
        out.write(f"{difference.kind}\nseed {seed}, file {first}\n{difference.text}\n")
    return place


def work_on(first):
    """Runs the files of a history from the file with the number `first`."""
    files = [generate(seed, number) for number in range(first, min(first + length, count))]
    while files:
        history = History()
        try:
            consumed, differences = history.run(files)
        finally:
            history.drop()
        ran, files = files[:consumed], files[consumed:]
        with lock:
            numbers["ran"] += len(ran)
            if numbers["ran"] // 200 != (numbers["ran"] - len(ran)) // 200:
                say(f"{numbers['ran']} files, {numbers['differs']} differ")
        for difference in differences:
            difference.files = ran if difference.files[0] in ran and len(difference.files) > 1 else difference.files
            record(difference, first)


def prepare():
    """Makes the two databases that the histories begin with."""
    for name in ["drill_app", "drill_other"]:
        cluster.sql("postgres", f"CREATE ROLE {name}")
    cluster.sql("postgres", "GRANT drill_other TO drill_app")
    os.makedirs(f"{work}/setup/app")
    with open(f"{work}/setup/app/system.yaml", "w") as out:
        out.write(system)
    with open(f"{work}/setup/app/0001_setup.up.sql", "w") as out:
        out.write(SETUP)
    Side("setup_psql", "template0")
    cluster.sql("setup_psql", "CREATE SCHEMA app")
    subprocess.run(
        ["psql", "-Xq", "-h", cluster.host, "-U", "postgres", "-d", "setup_psql", "-c", f"SET search_path = {path}",
        "-f",
            f"{work}/setup/app/0001_setup.up.sql"], stderr=subprocess.DEVNULL, check=True, env=environment)
    _, failed, text = run_reeve(Side("setup_reeve", "template0"), f"{work}/setup", [None])
    if failed:
        sys.exit(text)
    # The statement fails, and leaves an invalid index.
    for name in ["setup_psql", "setup_reeve"]:
        cluster.sql(name, "CREATE UNIQUE INDEX CONCURRENTLY stale ON app.dups (code)", check=False)


# An interrupted drill stops the server, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
cluster = Cluster(reeve)
# The styles are not those of Reeve's own statements.
for setting in [
    "fsync = off", "autovacuum = off", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'postgres_verbose'",
    "TimeZone = 'Europe/Berlin'",
]:
    cluster.sql("postgres", f"ALTER SYSTEM SET {setting}")
cluster.sql("postgres", "SELECT pg_reload_conf()")
environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "POSTGRES", "DATABASE", "REEVE"))}
environment |= {"PGCLIENTENCODING": "UTF8", "REEVE_STATE": f"{cluster.state}/client", "REEVE_NO_INPUT": "1"}
work = f"{cluster.state}/psql"
kept = tempfile.mkdtemp(prefix="reeve-drill-psql.", dir="/tmp")
prepare()
pool = concurrent.futures.ThreadPoolExecutor(workers)
try:
    for done in [pool.submit(work_on, first) for first in range(0, count, length)]:
        done.result()
    for number, (kind, found) in enumerate(list(kinds.items()), 1):
        say(f"{len(found)} × {kind}: files {', '.join(str(first) for first, _ in found[:5])}")
        if number <= most_reduced:
            pool.submit(lambda number=number, found=found: write(reduced(found[0][1]), number, found[0][0]))
finally:
    pool.shutdown(cancel_futures=sys.exc_info()[0] is not None)
say(f"{numbers['on purpose']} of the equal files differ on purpose")
print(f"equal {numbers['ran'] - numbers['differs']}, differs {numbers['differs']}")
sys.exit(1 if numbers["differs"] else 0)
