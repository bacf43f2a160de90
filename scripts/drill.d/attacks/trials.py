"""Code in a database that attacks a trial with live rows."""
from world import attack, cluster


@attack("HostileDatabaseTests, LiveTests")
def trial_with_live_rows(world):
    world.trap("x text", result="boolean", value="true", schema="p", options="IMMUTABLE")
    folder = world.system("CREATE TABLE t (id integer PRIMARY KEY, a text NOT NULL);")
    world.reeve("migrate", "up", "--system", folder, **world.trusting())
    world.psql(f"ALTER TABLE t OWNER TO {world.role}", user="postgres")
    world.psql("ALTER TABLE t ADD CONSTRAINT c CHECK (p.e(a))")
    world.reeve("schema", "validate", "--live", "--system", folder)
    world.reeve("schema", "validate", "--live", "--system", folder, **world.trusting())
    return world.is_won()


@attack("LiveTrustTests")
def default_of_an_argument(world):
    world.psql("SELECT lo_create(4242)")
    world.tried(f"""CREATE FUNCTION f(a integer, b integer DEFAULT pg_catalog.lo_export(4242, '{world.marker}'))
            RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
        CREATE TABLE checked (a integer CHECK (f(a)))""", is_trusted=False)
    return world.is_won()


@attack("LiveTrustTests")
def argument_that_only_a_superuser_may_read(world):
    world.tried("""CREATE SEQUENCE told;
        CREATE FUNCTION leak(a text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN PERFORM setval('told', length(a)); RETURN true; END $$;
        CREATE TABLE checked (a integer CHECK (leak(current_setting('data_directory'))))""", is_trusted=False)
    return world.psql("SELECT is_called FROM told") == "t"


@attack("RiskyExpressionTests.aTrialWithLiveRows…")
def rule_that_reads_a_view(world):
    world.tried(f"""CREATE VIEW seen AS SELECT 1 AS a WHERE {world.shot()};
        CREATE TABLE ruled (a integer PRIMARY KEY);
        CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT * FROM seen""")
    return world.is_won()


@attack("RiskyExpressionTests.aTrialWithLiveRows…")
def rule_that_writes_to_a_checked_table(world):
    world.tried(f"""CREATE SCHEMA p; CREATE TABLE p.checked (a integer CHECK ({world.shot()}));
        CREATE TABLE ruled (a integer PRIMARY KEY);
        CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO p.checked VALUES (new.a)""")
    return world.is_won()


@attack("RiskyExpressionTests.aTrialWithLiveRows…")
def extension_that_runs_a_query(world):
    world.shot()
    world.tried(f"""CREATE EXTENSION tablefunc; CREATE TABLE ruled (a integer PRIMARY KEY);
        CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT * FROM crosstab($$
            SELECT pg_catalog.lo_export(4242, '{world.marker}')::text, ''::text, ''::text$$) AS c (a text, b text)""")
    return world.is_won()


@attack("RiskyExpressionTests.aTrialWithLiveRows…")
def aggregate_of_the_servers_functions(world):
    victim, process = world.session("SELECT pg_sleep(600)", user="postgres")
    world.tried(f"""CREATE AGGREGATE cancels(integer) (SFUNC = int4larger, STYPE = integer, FINALFUNC = pg_cancel_backend);
        CREATE TABLE ruled (a integer PRIMARY KEY);
        CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT cancels({process})""")
    state = world.psql(f"SELECT state FROM pg_stat_activity WHERE pid = {process}", user="postgres")
    world.psql(f"SELECT pg_terminate_backend({process})", user="postgres")
    victim.kill()
    return state != "active"


@attack("RiskyExpressionTests.aTrialWithLiveRows…")
def foreign_table_below_a_table(world):
    # A foreign server on which the superuser's user mapping is the superuser.
    world.psql(f"""CREATE EXTENSION postgres_fdw;
        CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{cluster.host}', dbname '{world.name}');
        CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'postgres');
        GRANT USAGE ON FOREIGN SERVER s TO {world.role}""", user="postgres")
    world.trap("", result="boolean", value="true", schema="p")
    world.tried("""CREATE VIEW p.there AS SELECT 1 AS a WHERE p.e();
        CREATE TABLE parent (a integer PRIMARY KEY);
        CREATE FOREIGN TABLE child () INHERITS (parent) SERVER s OPTIONS (schema_name 'p', table_name 'there')""")
    return world.is_won()


@attack("no test")
def trigger_that_lifts_the_time_limit(world):
    # Affects the following statements: the limit of the running statement is already set.
    world.tried("""CREATE TABLE t (a integer PRIMARY KEY, b text CHECK (b <> ''));
        CREATE FUNCTION lifts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('statement_timeout') = '0' THEN PERFORM pg_sleep(3600); END IF;
            PERFORM set_config('statement_timeout', '0', false); RETURN new; END $$;
        CREATE TRIGGER lifts BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION lifts()""")
    return False


@attack("LiveTrustTests")
def row_of_another_table(world):
    shot = world.shot()
    world.tried(f"""CREATE SCHEMA q; CREATE TABLE parent (a integer) PARTITION BY LIST (a);
        CREATE TABLE q.x PARTITION OF parent DEFAULT;
        CREATE FUNCTION leads() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM set_config('search_path', 'q', true); RETURN new; END $$;
        CREATE FUNCTION follows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER leads BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION leads();
        CREATE TRIGGER follows BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION follows();
        CREATE TABLE x (a integer); INSERT INTO x SELECT generate_series(1, 200);
        ALTER TABLE x ADD CHECK ({shot}) NOT VALID""")
    return world.is_won()


def while_tried(world, tables, change):
    """Tries tables that take a second for each row, and runs a change in the meantime."""
    folder = world.system("CREATE TABLE first (id integer PRIMARY KEY);")
    world.reeve("migrate", "up", "--system", folder, **world.trusting())
    world.psql(f"""{tables};
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN new; END';
        CREATE TRIGGER slow BEFORE INSERT ON tried FOR EACH ROW EXECUTE FUNCTION slow()""")
    changer, _ = world.session(f"""BEGIN; DO $$ DECLARE began timestamptz := clock_timestamp(); BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'tried'::regclass AND pid <> pg_backend_pid()
                AND mode = 'RowExclusiveLock') AND clock_timestamp() < began + interval '30 s'
            LOOP PERFORM pg_sleep(0.01); END LOOP; END $$; SET lock_timeout = '2s'; {change}; COMMIT""")
    try:
        world.reeve("schema", "validate", "--live", "--system", folder)
    finally:
        changer.kill()
    return world.is_won()


@attack("LiveTrustTests")
def operator_that_becomes_the_negator(world):
    world.trap("integer, integer", result="boolean", value="true", schema="p", options="IMMUTABLE")
    return while_tried(
        world, """CREATE OPERATOR <<< (PROCEDURE = int4lt, LEFTARG = integer, RIGHTARG = integer);
            CREATE TABLE tried (a integer CHECK (NOT (a OPERATOR(public.<<<) -5)))""",
        """CREATE FUNCTION p.new(integer, integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
                'BEGIN PERFORM p.attack(); RETURN true; END';
            CREATE OPERATOR public.>>> (PROCEDURE = p.new, LEFTARG = integer, RIGHTARG = integer,
                NEGATOR = OPERATOR(public.<<<))""")


@attack("LiveTrustTests")
def domain_that_is_named_by_its_number(world):
    shot = world.shot()
    world.psql("CREATE DOMAIN d AS text; CREATE TYPE c AS (x d)")
    number = world.psql("SELECT 'c'::regtype::oid")
    return while_tried(
        world, f"""CREATE TABLE tried (a text CHECK (
            record_in(textout('(' || coalesce(a, '') || ')'), {number}, -1)::text IS NOT NULL))""",
        f"ALTER DOMAIN d ADD CHECK ({shot}) NOT VALID")
