"""Attacks between a check and the action that relies on it."""
import os, subprocess
from world import World, attack, cluster, reeve


@attack("CodeTrustTests")
def schema_that_appears_while_a_restore_waits(world):
    world.psql("""CREATE SCHEMA s;
        CREATE FUNCTION s.g(anyelement) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'x'::text $$;
        CREATE TABLE s.t (a integer, b text GENERATED ALWAYS AS (s.g('x'::text)) STORED)""", user="postgres")
    world.psql(f"ALTER TABLE s.t OWNER TO {world.role}; GRANT USAGE ON SCHEMA s TO {world.role}", user="postgres")
    world.psql(rf"COMMENT ON TABLE s.t IS 'x\''; COMMIT; ALTER ROLE {world.role} SUPERUSER; --'")
    world.reeve("backup", "create")
    world.psql("DROP SCHEMA s CASCADE", user="postgres")
    world.psql("CREATE SCHEMA m; CREATE FUNCTION m.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    holder, process = world.session("BEGIN; ALTER FUNCTION m.f() COST 5")
    restore = subprocess.Popen(
        [reeve, "backup", "restore", "latest", "--table", "s.t", "--to", cluster.url(world.name)],
        env=world.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    world.psql(f"""DO $$ BEGIN FOR i IN 1..6000 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE {process} = ANY (pg_blocking_pids(pid)));
        PERFORM pg_sleep(0.01); END LOOP; END $$""", user="postgres")
    world.psql("""CREATE SCHEMA s; CREATE FUNCTION s.g(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_catalog.set_config('standard_conforming_strings', 'off', false); RETURN 'x'; END $$""")
    holder.stdin.write("COMMIT;\n")
    holder.stdin.close()
    restore.wait()
    return world.is_won()


@attack("RestoreTargetTests")
def session_that_is_still_starting(world):
    world.psql("CREATE TABLE public.t AS SELECT 1 AS a; GRANT SELECT ON public.t TO PUBLIC")
    world.reeve("backup", "create")
    target = World()
    sleeper = subprocess.Popen(
        ["psql", "-XqAt", "-h", cluster.host, "-U", target.role, target.name, "-c", """DO $$ BEGIN
            FOR i IN 1..1000 LOOP EXIT WHEN to_regclass('public.t') IS NOT NULL; PERFORM pg_sleep(0.01); END LOOP;
            IF current_setting('application_name') = '' THEN RAISE EXCEPTION ''; END IF; END $$""",
         "-c", "SELECT 'inside' FROM pg_database WHERE datname = current_database() AND datconnlimit = 0"],
        env=os.environ | {"PGOPTIONS": "-c post_auth_delay=2", "PGAPPNAME": "sleeper"}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True)
    target.psql("""DO $$ BEGIN FOR i IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE classid = 'pg_database'::regclass AND pid <> pg_backend_pid());
        PERFORM pg_sleep(0.01); END LOOP; END $$""", user="postgres", database="postgres")
    world.reeve("backup", "restore", "latest", "--to", cluster.url(target.name),
                REEVE_BACKUP_HOOKS_RESTORED="sleep 4")
    return "inside" in sleeper.communicate()[0]


@attack("HostileManifestTests")
def setting_that_stops_all_backups(world):
    other = World()
    other.psql(f"""SELECT set_config('search_path', 'a;b', false);
        ALTER ROLE {other.role} IN DATABASE {world.name} SET search_path FROM CURRENT""")
    return world.reeve("backup", "create").returncode != 0
