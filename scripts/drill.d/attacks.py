"""Attacks a steward that works as a superuser, as a plain role, a database's owner, a file or a client would, and tells
which of them get through. PROGRAM names another build to attack, for comparison."""
import os, signal, socket, subprocess, sys, time
from common import Cluster, say

reeve = os.environ.get("PROGRAM", sys.argv[1])
only = sys.argv[2:]
cluster = Cluster(reeve)
os.makedirs(f"{cluster.state}/open")
os.chmod(f"{cluster.state}/open", 0o777)
acute = "\u0301"
number = 0


class World:
    """A database that a plain role owns, and a state folder of its own."""

    def __init__(self):
        global number
        number += 1
        self.name, self.role = f"attack{number}", f"evil{number}"
        cluster.sql("postgres", f"CREATE ROLE {self.role} LOGIN")
        cluster.sql("postgres", f"CREATE DATABASE {self.name} OWNER {self.role}")
        self.psql(f"ALTER SCHEMA public OWNER TO {self.role}", user="postgres")
        self.state = f"{cluster.state}/{self.name}"
        # What a rollback does not take back.
        self.marker = f"{cluster.state}/open/{self.name}"
        os.makedirs(self.state)
        os.chmod(self.state, 0o755)
        self.key = f"{self.state}/key"
        subprocess.run([reeve, "backup", "key", "new", self.key], check=True, capture_output=True)
        self.recipient = next(line.split()[-1] for line in open(self.key) if "public key" in line)

    def environment(self, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REEVE", "DATABASE"))}
        return clean | {
            "DATABASE_URL": cluster.url(self.name), "REEVE_STATE": self.state, "REEVE_BACKUP_IDENTITY": self.key,
            "REEVE_BACKUP_REPOSITORY": f"{self.state}/backups", "REEVE_BACKUP_RECIPIENTS": self.recipient,
            "REEVE_BACKUP_CHECK_ROOM": "no",
        } | more

    def trusting(self):
        """The schema that is migrated belongs to the attacker, which is refused otherwise."""
        return {"REEVE_MIGRATE_TRUSTED_ROLES": self.role}

    def psql(self, text, user=None, check=True, database=None):
        done = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", user or self.role, database or self.name],
            input=text, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"psql: {done.stderr}")
        return done.stdout.strip()

    def reeve(self, *arguments, limit=120, **environment):
        return subprocess.run(
            [reeve, *arguments], env=self.environment(**environment), capture_output=True, text=True, timeout=limit,
            stdin=subprocess.DEVNULL)

    def system(self, sql):
        folder = f"{self.state}/system"
        os.makedirs(folder, exist_ok=True)
        open(f"{folder}/system.yaml", "w").write("name: shop\nschema: public\n")
        open(f"{folder}/0001_first.up.sql", "w").write(sql)
        return folder

    def is_won(self):
        # Asked elsewhere: psql would run what lies in wait here.
        rights = self.psql(
            f"SELECT rolsuper FROM pg_roles WHERE rolname = '{self.role}'", user="postgres", database="postgres")
        return rights == "t" or os.path.exists(self.marker)

    def trap(self, arguments, result="void", value="", schema="public", name="e", options=""):
        """A function that makes its owner a superuser when a superuser runs it."""
        # In two functions, for one that is declared IMMUTABLE changes nothing itself.
        self.psql(f"""
            CREATE SCHEMA IF NOT EXISTS {schema};
            CREATE OR REPLACE FUNCTION {schema}.attack() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
                BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
                BEGIN EXECUTE 'ALTER ROLE {self.role} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
                BEGIN EXECUTE $p$COPY (SELECT 1) TO PROGRAM 'touch {self.marker}'$p$; EXCEPTION WHEN OTHERS THEN NULL;
                END; END $$;
            CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql {options} AS $$ BEGIN
                PERFORM {schema}.attack(); RETURN {value}; END $$;""")


attacks = {}


def attack(test):
    def made(function):
        attacks[function.__name__] = (function, test)
        return function
    return made


@attack("QuotingTests, HostileBackupTests.namesAreNames…")
def name_of_a_sequence(world):
    world.trap("", schema="p")
    world.psql(f'CREATE SEQUENCE "x""{acute}, p.e() t--"')
    done = world.reeve("backup", "create")
    return world.is_won() or done.returncode != 0


@attack("HostileBackupTests.namesAreNames…")
def name_of_a_table_stops_backups(world):
    world.psql(f'CREATE TABLE "x""{acute}" AS SELECT 1 AS a')
    return world.reeve("backup", "create").returncode != 0


@attack("HostileBackupTests.namesAreNames…, PureTests.aSnapshotOfWhateverNames…")
def name_with_a_line_feed_stops_proofs(world):
    world.psql('CREATE SCHEMA "a\nb"; CREATE TABLE "a\nb".t AS SELECT 1 AS a')
    return world.reeve("backup", "create").returncode != 0 or world.reeve("backup", "test").returncode != 0


@attack("QuotingTests")
def literal_with_a_combining_mark(world):
    folder = world.system(f"CREATE TABLE t AS SELECT translate('x', '{acute}\u0300', '') AS a;")
    return world.reeve("migrate", "up", "--system", folder, **world.trusting()).returncode != 0


@attack("HostileDatabaseTests")
def function_that_shadows(world):
    world.trap("text[]", result="SETOF text", name="unnest")
    world.psql(f"ALTER DATABASE {world.name} SET search_path = public, pg_catalog")
    world.psql("CREATE TABLE t AS SELECT 1 AS a")
    for command in ["backup create", "schema validate --live", "migrate status", "task run analyze", "audit verify"]:
        world.reeve(*command.split())
    return world.is_won()


@attack("HostileDatabaseTests")
def operator_that_shadows(world):
    for kind in ["name", "text", "oid", "bigint"]:
        world.trap(f"{kind}, {kind}", result="boolean", value="true", name="same")
        world.psql(f"CREATE OPERATOR public.= (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = public.same)")
    world.psql(f"ALTER DATABASE {world.name} SET search_path = public, pg_catalog")
    world.psql("CREATE TABLE t AS SELECT 1 AS a")
    for command in ["backup create", "schema validate", "migrate status", "task run analyze"]:
        world.reeve(*command.split())
    return world.is_won()


@attack("LedgerTrustTests")
def ledger_made_beforehand(world):
    made = World()
    made.reeve("task", "run", "analyze")
    dump = subprocess.run(
        ["pg_dump", "-h", cluster.host, "-U", "postgres", "-O", "-x", "-n", "reeve", made.name], capture_output=True,
        text=True, check=True).stdout
    world.psql(dump)
    world.psql("DROP TABLE IF EXISTS p; CREATE SCHEMA p")
    world.trap("", result="trigger", value="new", schema="p")
    for table in ["runs", "ledger", "migrations", "events", "audit"]:
        world.psql(f"CREATE TRIGGER a BEFORE INSERT OR UPDATE ON reeve.{table} FOR EACH ROW EXECUTE FUNCTION p.e()",
                   check=False)
    world.reeve("task", "run", "analyze")
    world.reeve("migrate", "up", "--system", world.system("CREATE TABLE t (a integer);"))
    return world.is_won()


@attack("HostileBackupTests.restoringABackup…")
def restore_of_a_hostile_dump(world):
    world.trap("x text", result="boolean", value="true", schema="p", options="IMMUTABLE")
    world.psql("""CREATE TABLE p.t (a text CHECK (p.e(a))); INSERT INTO p.t VALUES ('x'); CREATE INDEX ON p.t (p.e(a));
        CREATE MATERIALIZED VIEW p.m AS SELECT p.e(a) FROM p.t""")
    world.reeve("backup", "create")
    target = World()
    cluster.sql("postgres", f"DROP DATABASE {target.name}")
    cluster.sql("postgres", f"CREATE DATABASE {target.name}")
    done = world.reeve("backup", "restore", "latest", "--to", cluster.url(target.name))
    if done.returncode != 0:
        say(done.stdout + done.stderr)
    return world.is_won()


@attack("HostileDatabaseTests, LiveTests")
def trial_with_live_rows(world):
    world.trap("x text", result="boolean", value="true", schema="p", options="IMMUTABLE")
    folder = world.system("CREATE TABLE t (id integer PRIMARY KEY, a text NOT NULL);")
    world.reeve("migrate", "up", "--system", folder, **world.trusting())
    world.psql(f"ALTER TABLE t OWNER TO {world.role}", user="postgres")
    world.psql("ALTER TABLE t ADD CONSTRAINT c CHECK (p.e(a))")
    world.reeve("schema", "validate", "--live", "--system", folder)
    return world.is_won()


@attack("SecretTests")
def environment_of_the_embedded_server(world):
    state = f"{world.state}/own"
    clean = {k: v for k, v in world.environment().items() if k not in ("DATABASE_URL",)}
    # Taken by the program's own door to the server: a command that runs a statement as the superuser.
    folder = world.system("CREATE TABLE env (line text); COPY env FROM PROGRAM 'env';")
    subprocess.run(
        [reeve, "migrate", "up", "--system", folder], capture_output=True, stdin=subprocess.DEVNULL,
        env=clean | {"REEVE_STATE": state, "AWS_SECRET_ACCESS_KEY": "s3cr3t"})
    done = subprocess.run(
        [reeve, "database", "url"], capture_output=True, text=True, env=clean | {"REEVE_STATE": state})
    service = subprocess.Popen(
        [reeve, "serve"], env=clean | {"REEVE_STATE": state, "REEVE_HTTP_LISTEN": "off"}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            read = subprocess.run(
                ["psql", "-XqAt", done.stdout.strip(), "-c", "TABLE public.env"], capture_output=True, text=True)
            if read.returncode == 0:
                return "s3cr3t" in read.stdout
            time.sleep(0.1)
        sys.exit("the embedded server did not answer")
    finally:
        service.terminate()
        service.wait()


@attack("AuditTests")
def audit_rewritten_by_its_owner(world):
    world.reeve("migrate", "up", "--system", world.system("CREATE TABLE t (a integer);"))
    world.reeve("audit", "anchor")
    world.psql("""
        ALTER TABLE reeve.audit DISABLE TRIGGER ALL;
        DO $$ DECLARE one record; last bytea := decode(repeat('00', 32), 'hex'); BEGIN
            FOR one IN SELECT * FROM reeve.audit ORDER BY seq LOOP
                one.entry := replace(one.entry, '"shop', '"shed');
                UPDATE reeve.audit SET entry = one.entry, previous = last,
                    hash = sha256(last || convert_to(one.entry, 'UTF8')) WHERE seq = one.seq RETURNING hash INTO last;
            END LOOP;
            UPDATE reeve.audit_head SET hash = last;
        END $$;
        ALTER TABLE reeve.audit ENABLE TRIGGER ALL;""", user="postgres")
    if world.psql("SELECT count(*) FROM reeve.audit WHERE entry LIKE '%shed%'", user="postgres") == "0":
        sys.exit("the audit chain was not changed")
    return world.reeve("audit", "verify").returncode == 0


def serve(world, **environment):
    return subprocess.Popen(
        [reeve, "serve"], env=world.environment(**environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answer(port, host, path="/livez", limit=5):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=limit) as one:
            one.settimeout(limit)
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return one.recv(64).decode().split(" ")[1]
    except (OSError, IndexError):
        return None


def wait_for(port):
    for _ in range(300):
        if answer(port, f"127.0.0.1:{port}", limit=1):
            return
        time.sleep(0.1)
    sys.exit("the service did not answer")


@attack("UnixSocketTests")
def file_in_the_place_of_the_socket(world):
    path = f"{world.state}/precious"
    open(path, "w").write("precious")
    service = serve(world, REEVE_HTTP_LISTEN=f"unix:{path}")
    time.sleep(3)
    service.terminate()
    service.wait()
    return not os.path.isfile(path) or open(path).read() != "precious"


@attack("HostTests")
def listening_for_other_machines(world):
    port = free_port()
    service = serve(world, REEVE_HTTP_LISTEN=f"0.0.0.0:{port}")
    found = None
    for _ in range(50):
        found = found or answer(port, f"127.0.0.1:{port}", limit=1)
        time.sleep(0.1)
    service.terminate()
    service.wait()
    return found is not None


@attack("HostTests")
def rebinding(world):
    port = free_port()
    service = serve(world, REEVE_HTTP_LISTEN=f"127.0.0.1:{port}")
    wait_for(port)
    found = answer(port, "evil.example")
    service.terminate()
    service.wait()
    return found == "200"


@attack("SlowClientTests")
def silent_clients(world):
    port = free_port()
    service = serve(world, REEVE_HTTP_LISTEN=f"127.0.0.1:{port}")
    wait_for(port)
    held = []
    for _ in range(1200):
        try:
            one = socket.create_connection(("127.0.0.1", port), timeout=1)
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: ")
            held.append(one)
        except OSError:
            break
    found = answer(port, f"127.0.0.1:{port}")
    for one in held:
        one.close()
    service.terminate()
    service.wait()
    return found != "200"


@attack("InterruptionTests")
def interrupted_statement_stays(world):
    folder = world.system("CREATE TABLE t (a integer); SELECT pg_sleep(30);")
    child = subprocess.Popen(
        [reeve, "migrate", "up", "--system", folder], env=world.environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    active = f"""SELECT count(*) FROM pg_stat_activity
        WHERE datname = '{world.name}' AND state = 'active' AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"""
    for _ in range(200):
        if world.psql(active, user="postgres") != "0":
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    child.wait()
    return world.psql(active, user="postgres") != "0"


@attack("ExtremeValueTests")
def date_that_no_calendar_has(world):
    done = world.reeve("task", "next", "30 2 * * *", "--from", "999999-01-01T00:00:00Z")
    return done.returncode < 0 or done.returncode > 2


@attack("SecretTests, ProgramTextTests")
def output_that_no_ledger_can_hold(world):
    world.psql("CREATE TABLE t AS SELECT 1 AS a")
    world.reeve("backup", "create", REEVE_BACKUP_HOOKS_BEFORE="printf 'a\\000b\\377'; exit 1")
    runs = world.reeve("task", "run", "backup", REEVE_BACKUP_HOOKS_BEFORE="printf 'a\\000b\\377'; exit 1")
    state = world.psql("SELECT state FROM reeve.runs WHERE task = 'backup' ORDER BY id DESC LIMIT 1", user="postgres")
    return runs.returncode < 0 or state != "failed"


def main():
    unknown = [name for name in only if name not in attacks]
    if unknown:
        sys.exit(f"there is no attack {', '.join(unknown)}; there are: {', '.join(attacks)}")
    through = 0
    for name, (function, test) in attacks.items():
        if only and name not in only:
            continue
        try:
            is_open = function(World())
        except subprocess.TimeoutExpired:
            is_open = True
        through += is_open
        print(f"{name} {'OPEN' if is_open else 'held'} {test}", flush=True)
    say(f"{through} attacks got through")
    sys.exit(1 if through else 0)


main()
