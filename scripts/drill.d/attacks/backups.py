"""Code in a database that attacks a backup or a restore."""
from common import say
from world import World, attack, cluster


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


def plan(world, expression):
    """Creates a table. Planning any query on it calls the expression's function."""
    world.psql(f"""ALTER DATABASE {world.name} SET constraint_exclusion = on;
        CREATE TABLE p.t AS SELECT i AS a FROM generate_series(1, 2000) i;
        CREATE INDEX ON p.t (a) WHERE {expression} = 1;
        CREATE STATISTICS p.s ON (a + {expression}), (a * 2) FROM p.t;
        ALTER TABLE p.t ADD CHECK ({expression} = 1)""")


@attack("PlanningTests.codeThatPlanningRuns…")
def planning_while_a_backup_is_made(world):
    world.trap("i integer", result="integer", value="1", schema="p", options="IMMUTABLE")
    plan(world, "p.e(1)")
    world.reeve("backup", "create")
    return world.is_won()


@attack("PlanningTests.codeThatPlanningRuns…")
def planning_while_a_backup_is_tested(world):
    world.trap("i integer", result="integer", value="1", schema="p", options="IMMUTABLE")
    # Attacks only in the server of the restore test, which starts later.
    started = world.psql("SELECT pg_postmaster_start_time()")
    world.psql(f"""CREATE FUNCTION p.later(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
        IF pg_postmaster_start_time() > '{started}' THEN PERFORM p.e(1); END IF; RETURN 1; END $$""")
    plan(world, "p.later(1)")
    world.reeve("backup", "create")
    world.reeve("backup", "test")
    return world.is_won()


def declare(world):
    """Creates a function that declares a cursor WITH HOLD, whose query runs at COMMIT."""
    world.shot()
    world.psql(f"""CREATE SCHEMA p;
        CREATE FUNCTION p.declared() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            IF session_user = '{world.role}' THEN RETURN; END IF;
            EXECUTE format('DECLARE %I CURSOR WITH HOLD FOR SELECT pg_catalog.query_to_xml(%L, true, true, %L)',
                gen_random_uuid(), 'SELECT pg_catalog.lo_export(4242, ''{world.marker}'')', ''); END $$;
        CREATE FUNCTION p.declares(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN PERFORM p.declared(); RETURN i; END $$""")


@attack("RiskyExpressionTests.aRestoreEvaluatesNone…")
def cursor_of_a_check(world):
    declare(world)
    world.psql("CREATE TABLE p.t (a integer CHECK (p.declares(a) > 0)); INSERT INTO p.t VALUES (1)")
    world.restored()
    return world.is_won()


@attack("RiskyExpressionTests.aRestoreEvaluatesNone…")
def cursor_of_a_generated_column(world):
    declare(world)
    world.psql("CREATE TABLE p.t (a integer, b integer GENERATED ALWAYS AS (p.declares(a)) STORED)")
    world.psql("INSERT INTO p.t (a) VALUES (1)")
    world.restored()
    return world.is_won()


@attack("CodeTrustTests")
def cursor_of_a_partition_key(world):
    declare(world)
    world.psql("""CREATE TABLE p.t (a integer) PARTITION BY LIST ((p.declares(a)));
        CREATE TABLE p.t_1 PARTITION OF p.t FOR VALUES IN (1); INSERT INTO p.t VALUES (1)""")
    world.restored()
    return world.is_won()


@attack("CodeTrustTests")
def cursor_of_a_foreign_key(world):
    declare(world)
    # The foreign key compares with a cast that the role has created for its own type.
    world.psql("""CREATE TYPE p.kind AS ENUM ('one');
        CREATE FUNCTION p.number(p.kind) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN RETURN p.declares(1); END $$;
        CREATE CAST (p.kind AS integer) WITH FUNCTION p.number(p.kind) AS IMPLICIT;
        CREATE TABLE p.t (a integer PRIMARY KEY); CREATE TABLE p.u (a p.kind REFERENCES p.t);
        INSERT INTO p.t VALUES (1); INSERT INTO p.u VALUES ('one')""")
    world.restored()
    return world.is_won()


def put_in_the_path(world):
    """Creates a function that changes the search path of sessions of others, so that p.lower precedes the server's."""
    world.trap("text", result="text", value="''", schema="p", name="lower", options="IMMUTABLE")
    world.psql(f"""CREATE FUNCTION p.leads() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            IF session_user <> '{world.role}' THEN PERFORM set_config('search_path', 'p, pg_catalog', false); END IF;
            END $$;
        CREATE FUNCTION p.led(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN PERFORM p.leads(); RETURN i; END $$""")
    world.psql("CREATE SCHEMA o; CREATE TABLE o.t AS SELECT 'x'::text AS a", user="postgres")


@attack("CodeTrustTests")
def path_of_a_row_that_is_brought_back(world):
    put_in_the_path(world)
    world.psql("CREATE TABLE p.aa (a integer, b integer GENERATED ALWAYS AS (p.led(a)) STORED)")
    world.psql("INSERT INTO p.aa (a) VALUES (1)")
    world.psql("CREATE INDEX ON o.t (lower(a))", user="postgres")
    world.reeve("backup", "create")
    world.psql("DROP TABLE p.aa, o.t", user="postgres")
    world.reeve("backup", "restore", "latest", "--table", "p.aa", "--table", "o.t", "--to", cluster.url(world.name))
    # If the restore was refused, the table does not exist.
    world.psql("INSERT INTO o.t VALUES ('y')", user="postgres", check=False)
    return world.is_won()


@attack("CodeTrustTests")
def path_of_a_foreign_key(world):
    put_in_the_path(world)
    world.psql("""CREATE TYPE p.kind AS ENUM ('one');
        CREATE FUNCTION p.number(p.kind) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN p.led(1); END $$;
        CREATE CAST (p.kind AS integer) WITH FUNCTION p.number(p.kind) AS IMPLICIT;
        CREATE TABLE p.t (a integer PRIMARY KEY); CREATE TABLE p.u (a p.kind REFERENCES p.t);
        INSERT INTO p.t VALUES (1); INSERT INTO p.u VALUES ('one')""")
    world.psql("CREATE POLICY y ON o.t USING (lower(a) = 'x')", user="postgres")
    # One job, so that one session creates both objects.
    world.restored(REEVE_BACKUP_JOBS="1")
    return "p.lower" in world.psql(
        "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy", user="postgres", database=f"{world.name}_restored")


def meddle(world, change):
    """Creates tables with a function that changes another table if a session of another role calls it."""
    world.psql(f"""CREATE SCHEMA p;
        CREATE FUNCTION p.react() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE FUNCTION p.meddles() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
            IF session_user <> '{world.role}' THEN EXECUTE $q${change}$q$; END IF;
            EXCEPTION WHEN OTHERS THEN NULL; END $f$;
        CREATE FUNCTION p.meddled(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN PERFORM p.meddles(); RETURN i; END $$;
        CREATE TABLE p.aa (a integer, b integer GENERATED ALWAYS AS (p.meddled(a)) STORED);
        CREATE TABLE p.zz (a integer PRIMARY KEY);
        INSERT INTO p.aa (a) VALUES (1); INSERT INTO p.zz VALUES (1)""")


@attack("RiskyExpressionTests.aRestoreEvaluatesNone…")
def check_that_confined_code_adds(world):
    meddle(world, f"ALTER TABLE p.zz ADD CHECK ({world.shot()}) NOT VALID")
    world.restored()
    return world.is_won()


@attack("RiskyExpressionTests.aRestoreEvaluatesNone…")
def trigger_that_confined_code_adds(world):
    meddle(world, f"CREATE TRIGGER t BEFORE INSERT ON p.zz FOR EACH ROW WHEN ({world.shot()}) EXECUTE FUNCTION p.react()")
    world.restored()
    return world.is_won()


@attack("DatabaseRoleTests")
def role_that_a_database_sets_stops_backups(world):
    world.psql("CREATE SCHEMA o; CREATE TABLE o.t AS SELECT 1 AS a", user="postgres")
    world.psql(f"ALTER DATABASE {world.name} SET role = '{world.role}'")
    return world.reeve("backup", "create").returncode != 0


@attack("RestoreTargetTests.whoHoldsWhatPgDumpWaitsFor…")
def lock_that_a_backup_waits_for(world):
    world.psql("CREATE MATERIALIZED VIEW v AS SELECT 1 AS a")
    # pg_dump reads the definition by name, and waits. LOCK TABLE does not accept a materialized view.
    holder, process = world.session("BEGIN; ALTER MATERIALIZED VIEW v RENAME TO w")
    try:
        done = world.reeve("backup", "create")
    finally:
        holder.kill()
    return done.returncode == 0 or f"process {process} of {world.role}" not in done.stderr


def turn_strings(world):
    """Creates a function that changes the sessions of other roles so that backslashes in literals are escapes, and a
    comment that contains commands in that case."""
    world.psql(f"""CREATE SCHEMA p;
        CREATE FUNCTION p.turns() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            IF session_user <> '{world.role}' THEN
                PERFORM set_config('standard_conforming_strings', 'off', false);
                PERFORM set_config('backslash_quote', 'on', false); END IF; END $$;
        CREATE FUNCTION p.turned(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN PERFORM p.turns(); RETURN i; END $$""")


def comment(world, commands):
    world.psql(f"COMMENT ON TABLE p.t IS '\\''; {commands} --'")


@attack("CodeTrustTests")
def constant_in_a_partition_key(world):
    turn_strings(world)
    world.psql("CREATE TABLE p.t (a integer) PARTITION BY LIST ((a + p.turned(1)))")
    comment(world, f"ALTER ROLE {world.role} SUPERUSER;")
    world.restored()
    return world.is_won()


@attack("CodeTrustTests")
def constant_in_a_generated_column(world):
    turn_strings(world)
    world.psql("CREATE TABLE p.t (a integer, b integer GENERATED ALWAYS AS (a + p.turned(1)) STORED)")
    comment(world, f"ALTER ROLE {world.role} SUPERUSER;")
    world.restored()
    return world.is_won()


@attack("CodeTrustTests")
def negator_in_a_generated_column(world):
    declare(world)
    world.psql("""CREATE FUNCTION p.less(integer, integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN PERFORM p.declared(); RETURN true; END $$;
        CREATE OPERATOR p.<<< (PROCEDURE = int4lt, LEFTARG = integer, RIGHTARG = integer);
        CREATE OPERATOR p.>=> (PROCEDURE = p.less, LEFTARG = integer, RIGHTARG = integer, NEGATOR = OPERATOR(p.<<<));
        CREATE TABLE p.t (a integer, b boolean GENERATED ALWAYS AS (NOT (a OPERATOR(p.<<<) 0)) STORED);
        INSERT INTO p.t VALUES (1)""")
    world.restored()
    return world.is_won()


@attack("CodeTrustTests")
def default_argument_of_a_late_check(world):
    shot = world.shot()
    world.psql(f"""CREATE SCHEMA p; CREATE TABLE p.t (a integer);
        CREATE FUNCTION p.f(r p.t, b boolean DEFAULT true) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
            'BEGIN RETURN true; END';
        ALTER TABLE p.t ADD CHECK (p.f(t)); INSERT INTO p.t VALUES (1);
        CREATE OR REPLACE FUNCTION p.f(r p.t, b boolean DEFAULT {shot}) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
            'BEGIN RETURN true; END'""")
    world.restored()
    return world.is_won()


@attack("CodeTrustTests")
def captured_server_of_a_table_of_somebody_else(world):
    turn_strings(world)
    world.psql("CREATE SCHEMA v; CREATE TABLE v.t (a integer DEFAULT 42)", user="postgres")
    world.psql("CREATE TABLE p.t (a integer) PARTITION BY LIST ((a + p.turned(1)))")
    comment(world, f"""ALTER FUNCTION pg_catalog.pg_get_expr(pg_node_tree, oid) RENAME TO pg_get_expr_before;
        CREATE FUNCTION pg_catalog.pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE plpgsql STRICT STABLE AS $q$
        DECLARE r text := pg_catalog.pg_get_expr_before($1, $2); BEGIN IF r = $x$42$x$ THEN
        RETURN $x$42); ALTER ROLE {world.role} SUPERUSER; CREATE TABLE v.z (a int$x$; END IF; RETURN r; END $q$;""")
    world.reeve("backup", "create")
    world.psql("DROP TABLE v.t", user="postgres")
    world.reeve("backup", "restore", "latest", "--table", "v.t", "--to", cluster.url(world.name))
    return world.is_won()


@attack("CodeTrustTests")
def function_of_an_extension_that_was_exchanged(world):
    world.psql("""CREATE SCHEMA p; CREATE EXTENSION intarray SCHEMA p;
        CREATE TABLE p.t (a integer) PARTITION BY LIST ((a + p.icount('{1}'::integer[])))""")
    comment(world, f"ALTER ROLE {world.role} SUPERUSER; COMMIT;")
    world.reeve("backup", "create")
    world.psql("DROP TABLE p.t; DROP EXTENSION intarray; DROP SCHEMA p")
    turn_strings(world)
    world.psql("""CREATE FUNCTION p.icount(integer[]) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN PERFORM p.turns(); RETURN 1; END $$""")
    world.reeve("backup", "restore", "latest", "--table", "p.t", "--to", cluster.url(world.name))
    return world.is_won()


@attack("SnapshotTests")
def table_in_the_place_of_a_sequence(world):
    world.trap("i integer", result="integer", value="i", schema="p", options="IMMUTABLE")
    world.psql("""CREATE TABLE p.sentinel (a integer);
        DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('CREATE SEQUENCE p.q%s', to_char(i, 'FM00000'));
            IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$;
        CREATE PROCEDURE p.exchange() LANGUAGE plpgsql AS $$ DECLARE began timestamptz := clock_timestamp(); BEGIN
            WHILE (SELECT count(DISTINCT pid) FROM pg_locks
                    WHERE relation = 'p.sentinel'::regclass AND pid <> pg_backend_pid()) < 2
                AND clock_timestamp() < began + interval '60 s' LOOP COMMIT; PERFORM pg_sleep(0.001); END LOOP;
            SET LOCAL lock_timeout = '5s';
            DROP SEQUENCE p.q03000;
            CREATE TABLE p.q03000 (last_value bigint, is_called boolean, x integer);
            CREATE INDEX ON p.q03000 (x) WHERE p.e(5) = 5; END $$""")
    exchanger, _ = world.session("CALL p.exchange()")
    try:
        world.reeve("backup", "create")
    finally:
        exchanger.kill()
    return world.is_won()
