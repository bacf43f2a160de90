"""What lies in wait in a database for whoever tries it with live rows."""
from world import attack, cluster


@attack("HostileDatabaseTests, LiveTests")
def trial_with_live_rows(world):
    world.trap("x text", result="boolean", value="true", schema="p", options="IMMUTABLE")
    folder = world.system("CREATE TABLE t (id integer PRIMARY KEY, a text NOT NULL);")
    world.reeve("migrate", "up", "--system", folder, **world.trusting())
    world.psql(f"ALTER TABLE t OWNER TO {world.role}", user="postgres")
    world.psql("ALTER TABLE t ADD CONSTRAINT c CHECK (p.e(a))")
    world.reeve("schema", "validate", "--live", "--system", folder)
    return world.is_won()


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
    # A server to which the superuser comes as himself.
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
    # For the statements that follow: the one that runs has its limit.
    world.tried("""CREATE TABLE t (a integer PRIMARY KEY, b text CHECK (b <> ''));
        CREATE FUNCTION lifts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('statement_timeout') = '0' THEN PERFORM pg_sleep(3600); END IF;
            PERFORM set_config('statement_timeout', '0', false); RETURN new; END $$;
        CREATE TRIGGER lifts BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION lifts()""")
    return False
