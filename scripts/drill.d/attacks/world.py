"""The targets of the attacks: a cluster with one database for each attack, owned by a role without rights."""
import os, subprocess, sys, time
from common import Cluster, say

reeve = os.environ.get("PROGRAM", sys.argv[1])
cluster = Cluster(reeve)
os.makedirs(f"{cluster.state}/open")
os.chmod(f"{cluster.state}/open", 0o777)
number = 0


class World:
    """A database that a role without rights owns, and a state folder."""

    def __init__(self):
        global number
        number += 1
        self.name, self.role = f"attack{number}", f"evil{number}"
        cluster.sql("postgres", f"CREATE ROLE {self.role} LOGIN")
        cluster.sql("postgres", f"CREATE DATABASE {self.name} OWNER {self.role}")
        self.psql(f"ALTER SCHEMA public OWNER TO {self.role}", user="postgres")
        self.state = f"{cluster.state}/{self.name}"
        # A file, because a rollback does not remove it.
        self.marker = f"{cluster.state}/open/{self.name}"
        os.makedirs(self.state)
        os.chmod(self.state, 0o755)
        self.key = f"{self.state}/key"
        subprocess.run([reeve, "backup", "key", "new", self.key], check=True, capture_output=True)
        self.recipient = next(line.split()[-1] for line in open(self.key) if "public key" in line)
        subprocess.run([reeve, "backup", "init"], env=self.environment(), check=True, capture_output=True)

    def environment(self, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REEVE", "DATABASE"))}
        return clean | {
            "DATABASE_URL": cluster.url(self.name), "REEVE_STATE": self.state, "REEVE_BACKUP_IDENTITY": self.key,
            "REEVE_BACKUP_REPOSITORY": f"{self.state}/backups", "REEVE_BACKUP_RECIPIENTS": self.recipient,
            "REEVE_BACKUP_CHECK_ROOM": "no",
        } | more

    def trusting(self):
        """Returns settings that trust the attacker. Otherwise, Reeve refuses to migrate or try the attacker's schema."""
        return {"REEVE_TRUSTED_ROLES": self.role}

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
        # In another database, because in this one psql would run the attacker's code.
        rights = self.psql(
            f"SELECT rolsuper FROM pg_roles WHERE rolname = '{self.role}'", user="postgres", database="postgres")
        return rights == "t" or os.path.exists(self.marker)

    def trap(self, arguments, result="void", value="", schema="public", name="e", options=""):
        """Creates a function that makes its owner a superuser if a superuser runs it."""
        # In two functions, because an IMMUTABLE function cannot change anything itself.
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

    def shot(self):
        """Returns an expression that creates the marker if a superuser evaluates it. It calls only functions of PostgreSQL,
        which cannot be confined to the rights of their owner."""
        self.psql("SELECT lo_create(4242)")
        return (f"CASE WHEN current_user = '{self.role}' THEN true ELSE pg_catalog.query_to_xml("
                f"'SELECT pg_catalog.lo_export(4242, ''{self.marker}'')', true, true, '') IS NOT NULL END")

    def restored(self, **environment):
        """Makes a backup and restores it into a new database."""
        self.reeve("backup", "create")
        cluster.sql("postgres", f"CREATE DATABASE {self.name}_restored TEMPLATE template0")
        done = self.reeve("backup", "restore", "latest", "--to", cluster.url(f"{self.name}_restored"), **environment)
        if done.returncode != 0:
            say(done.stdout + done.stderr)
        return done

    def tried(self, sql, is_trusted=True):
        """Tries the role's tables with live rows. If `is_trusted`, tries them again as a trusted role's tables."""
        folder = self.system("CREATE TABLE first (id integer PRIMARY KEY);")
        self.reeve("migrate", "up", "--system", folder, **self.trusting())
        self.psql(sql)
        done = self.reeve("schema", "validate", "--live", "--system", folder)
        return self.reeve("schema", "validate", "--live", "--system", folder, **self.trusting()) if is_trusted else done

    def session(self, text, user=None):
        """Returns a session that stays open, and its process ID on the server."""
        child = subprocess.Popen(
            ["psql", "-XqAt", "-h", cluster.host, "-U", user or self.role, self.name], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        child.stdin.write(f"SELECT pg_backend_pid();\n{text};\n")
        child.stdin.flush()
        process = child.stdout.readline().strip()
        while self.psql(f"SELECT xact_start IS NULL FROM pg_stat_activity WHERE pid = {process}", user="postgres") == "t":
            time.sleep(0.1)
        return child, process


attacks = {}


def attack(test):
    def made(function):
        attacks[function.__name__] = (function, test)
        return function
    return made
