"""Attacks on migrations of a superuser in schemas that are open to other roles, and on interrupted migrations."""
import signal, subprocess, sys, time
from world import attack, reeve


@attack("InterruptionTests")
def interrupted_statement_stays(world):
    folder = world.system("CREATE TABLE t (a integer); SELECT pg_sleep(30);")
    child = subprocess.Popen(
        [reeve, "migrate", "up", "--system", folder], env=world.environment(**world.trusting()),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    active = f"""SELECT count(*) FROM pg_stat_activity
        WHERE datname = '{world.name}' AND state = 'active' AND wait_event = 'PgSleep' AND pid <> pg_backend_pid()"""
    for _ in range(200):
        if world.psql(active, user="postgres") != "0":
            break
        time.sleep(0.1)
    else:
        sys.exit("the statement did not begin")
    child.send_signal(signal.SIGINT)
    child.wait()
    return world.psql(active, user="postgres") != "0"


def refused(world, grant):
    world.trap("text, text", result="text", value="NULL", schema="p")
    world.psql(grant, user="postgres")
    # Its argument types fit better than those of the server's format.
    world.psql("CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT p.e($1, $2)'")
    folder = world.system("CREATE TABLE t AS SELECT format('%s', 'x'::text) AS a;")
    done = world.reeve("migrate", "up", "--system", folder)
    return done.returncode == 4 and not world.is_won()


@attack("MigratorTests")
def migration_in_a_schema_of_others(world):
    return not refused(world, f"ALTER SCHEMA public OWNER TO {world.role}")


@attack("MigratorTests")
def migration_in_a_schema_that_is_open_to_others(world):
    return not refused(world, f"ALTER SCHEMA public OWNER TO postgres; GRANT CREATE ON SCHEMA public TO {world.role}")


@attack("SystemPathTests")
def domain_in_the_schema_of_a_system(world):
    # Created while the role still had the right to create objects in the schema.
    world.trap("x text", result="boolean", value="true", schema="p")
    world.psql("CREATE DOMAIN public.mail AS text CHECK (p.e(value))")
    world.psql("ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC", user="postgres")
    world.psql("CREATE SCHEMA ext; CREATE DOMAIN ext.mail AS text", user="postgres")
    folder = world.system("CREATE TABLE users (address mail); INSERT INTO users VALUES ('a@example.com');")
    world.reeve("migrate", "up", "--system", folder)
    return world.is_won()
