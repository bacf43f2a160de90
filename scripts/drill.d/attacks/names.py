"""Names and functions that are found in place of others."""
from world import attack

acute = "\u0301"


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
