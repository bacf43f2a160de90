"""Attacks on the ledger."""
import subprocess, sys
from world import World, attack, cluster


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


@attack("AuditTests")
def audit_rewritten_by_its_owner(world):
    world.reeve("migrate", "up", "--system", world.system("CREATE TABLE t (a integer);"), **world.trusting())
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


@attack("SecretTests, ProgramTextTests")
def output_that_no_ledger_can_hold(world):
    world.psql("CREATE TABLE t AS SELECT 1 AS a")
    world.reeve("backup", "create", REEVE_BACKUP_HOOKS_BEFORE="printf 'a\\000b\\377'; exit 1")
    runs = world.reeve("task", "run", "backup", REEVE_BACKUP_HOOKS_BEFORE="printf 'a\\000b\\377'; exit 1")
    state = world.psql("SELECT state FROM reeve.runs WHERE task = 'backup' ORDER BY id DESC LIMIT 1", user="postgres")
    return runs.returncode < 0 or state != "failed"


@attack("ExtremeValueTests")
def date_that_no_calendar_has(world):
    done = world.reeve("task", "next", "30 2 * * *", "--from", "999999-01-01T00:00:00Z")
    return done.returncode < 0 or done.returncode > 2


@attack("LedgerTrustTests")
def ledger_that_a_default_makes_foreign(world):
    world.reeve("task", "run", "analyze")
    # The role may not use the schema, so it refers to the sequence by OID.
    world.psql("""
        CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
        DO $$ BEGIN
            EXECUTE format('CREATE TABLE t (a bigint DEFAULT nextval(%L::regclass) + f())', (
                SELECT min(oid::bigint) FROM pg_class WHERE relkind = 'S' AND relnamespace = (
                    SELECT oid FROM pg_namespace WHERE nspname = 'reeve'))::text);
        END $$""")
    return world.reeve("task", "run", "analyze").returncode != 0
