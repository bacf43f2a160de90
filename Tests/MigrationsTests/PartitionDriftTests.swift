import Catalog
import Foundation
import Postgres
import TestSupport
import Testing

@testable import Migrations

/// Partitions that functions and retention policies create and drop are data.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct PartitionDriftTests {
    private static let files = [
        "0001_visits.up.sql": """
        CREATE TABLE visits (
            id bigint GENERATED ALWAYS AS IDENTITY, at date NOT NULL, who text NOT NULL DEFAULT 'nobody',
            n integer CHECK (n > 0), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE INDEX visits_by_who ON visits (who);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER touched BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TABLE visits_2024_01 PARTITION OF visits FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
        CREATE TABLE visits_2024_02 PARTITION OF visits FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
        CREATE TABLE visits_2024_03 PARTITION OF visits FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
        CREATE TABLE visits_rest PARTITION OF visits DEFAULT;

        CREATE FUNCTION make_month(first date) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE part text := 'visits_' || to_char(first, 'YYYY_MM');
        BEGIN
            EXECUTE format('CREATE TABLE app.%I PARTITION OF app.visits FOR VALUES FROM (%L) TO (%L)',
                part, first, first + interval '1 month');
            RETURN part;
        END $$;
        CREATE FUNCTION attach_month(first date, what text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE part text := 'visits_' || to_char(first, 'YYYY_MM');
        BEGIN
            EXECUTE format('CREATE TABLE app.%I (LIKE app.visits %s)', part, what);
            EXECUTE format('ALTER TABLE app.visits ATTACH PARTITION app.%I FOR VALUES FROM (%L) TO (%L)',
                part, first, first + interval '1 month');
            RETURN part;
        END $$;
        SELECT app.make_month('2023-12-01');

        CREATE TABLE events (kind text, at timestamptz) PARTITION BY LIST (kind);
        CREATE FUNCTION make_kind(kind text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE format('CREATE TABLE app.%I PARTITION OF app.events FOR VALUES IN (%L) PARTITION BY RANGE (at)',
                'events_' || kind, kind);
            EXECUTE format('CREATE TABLE app.%I PARTITION OF app.%I DEFAULT', 'events_' || kind || '_all', 'events_' || kind);
        END $$;
        """
    ]

    private func report(_ fixture: MigrationFixture, _ settings: ConnectionSettings) async throws -> SchemaReport {
        try await SchemaValidator(database: Database(settings), systems: [fixture.system()]).validate()
    }

    private func differences(_ fixture: MigrationFixture, _ settings: ConnectionSettings) async throws -> [String] {
        try await report(fixture, settings).differences.map {
            "\($0.object.kind.name) \($0.object): \($0.property ?? ($0.found == nil ? "missing" : "unexpected"))"
        }
    }

    private func migrated() async throws -> (MigrationFixture, TestDatabase) {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        return (fixture, database)
    }

    @Test(.database) func whatAFunctionMakesIsNoDrift() async throws {
        let (fixture, database) = try await migrated()
        try await database.execute(
            "SELECT app.make_month(d::date) FROM generate_series('2024-04-01'::date, '2024-08-01', '1 month') d",
            "SELECT app.attach_month('2024-09-01', 'INCLUDING CONSTRAINTS')",
            "SELECT app.attach_month('2024-10-01', 'INCLUDING ALL EXCLUDING IDENTITY')",
            "SELECT app.make_kind('sale')", "SELECT app.make_kind('refund')",
            "INSERT INTO app.visits (at, n) SELECT '2024-01-05'::date + 10 * i, 1 FROM generate_series(0, 20) i",
            "INSERT INTO app.events VALUES ('sale', now())",
            // What concerns the storage of one partition, and its own comment.
            "ALTER TABLE app.visits_2024_04 SET (fillfactor = 50)", "COMMENT ON TABLE app.visits_2024_04 IS 'x'",
            "ALTER TABLE app.visits_2024_04 ALTER COLUMN who SET STATISTICS 9",
            "CREATE STATISTICS app.s ON who, n FROM app.visits_2024_04")
        let report = try await report(fixture, database.settings)
        #expect(report.differences == [])
        #expect(report.mend().isEmpty)
    }

    /// The row level security of a parent does not apply to statements that name a partition.
    @Test(.database) func aWayAroundRowLevelSecurityIsReported() async throws {
        let role = "p_\(UUID().uuidString.prefix(8).lowercased())"
        let database = try TestDatabase.current
        try await database.execute("CREATE ROLE \(role)")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE TABLE p (tenant text, at date, secret text) PARTITION BY RANGE (at);
            CREATE TABLE q (tenant text, at date, secret text) PARTITION BY RANGE (at);
            ALTER TABLE p ENABLE ROW LEVEL SECURITY; ALTER TABLE q ENABLE ROW LEVEL SECURITY;
            GRANT SELECT ON p TO \(role); GRANT SELECT (tenant, secret) ON q TO \(role);
            ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO \(role);
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        let bounds = "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"
        try await database.execute(
            "CREATE TABLE app.p1 PARTITION OF app.p \(bounds) PARTITION BY RANGE (at)",
            "REVOKE ALL ON app.p1 FROM \(role)", "CREATE TABLE app.p2 PARTITION OF app.p1 \(bounds)",
            "CREATE TABLE app.q1 PARTITION OF app.q \(bounds)", "REVOKE ALL ON app.q1 FROM \(role)",
            "GRANT SELECT (tenant, secret) ON app.q1 TO \(role)")
        let found = try await differences(fixture, database.settings)
        #expect(
            Set(found) == [
                "table app.p2: privileges of \(role)", "column app.q1.tenant: privileges of \(role)",
                "column app.q1.secret: privileges of \(role)",
            ])
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(.database) func aPartitionThatDeviatesFromItsParentIsReported() async throws {
        let (fixture, database) = try await migrated()
        let role = "p_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role)",
            "SELECT app.make_month(d::date) FROM generate_series('2024-04-01'::date, '2024-08-01', '1 month') d",
            "ALTER TABLE app.visits_2024_04 ADD CONSTRAINT more CHECK (n < 100)",
            "CREATE INDEX extra ON app.visits_2024_04 (n)",
            "ALTER TABLE app.visits_2024_05 OWNER TO \(role)",
            "ALTER TABLE app.visits_2024_06 ALTER COLUMN who SET DEFAULT 'somebody'",
            "ALTER TABLE app.visits_2024_06 ALTER COLUMN n SET NOT NULL",
            "ALTER TABLE app.visits_2024_07 DISABLE TRIGGER touched",
            "GRANT SELECT ON app.visits_2024_08 TO \(role)", "CREATE TABLE app.visits_2024_09 (LIKE app.visits)",
            "ALTER TABLE app.visits DETACH PARTITION app.visits_2024_02", "DROP TABLE app.visits_2024_02",
            "CREATE FOREIGN DATA WRAPPER \(role)", "CREATE SERVER \(role) FOREIGN DATA WRAPPER \(role)",
            "CREATE FOREIGN TABLE app.events_far PARTITION OF app.events FOR VALUES IN ('far') SERVER \(role)")
        let found = try await differences(fixture, database.settings)
        #expect(
            Set(found) == [
                "constraint app.visits_2024_04.more: unexpected", "index app.visits_2024_04.extra: unexpected",
                "table app.visits_2024_05: owner", "column app.visits_2024_06.who: default",
                "column app.visits_2024_06.n: not null", "table app.visits_2024_07: disabled inherited triggers",
                "table app.visits_2024_08: privileges of \(role)", "table app.visits_2024_09: unexpected",
                "table app.visits_2024_02: missing", "foreign table app.events_far: unexpected",
                "foreign-data wrapper \(role): unexpected", "foreign server \(role): unexpected",
            ])
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(.database) func aChangeOfTheParentIsReportedOnceAndMendedWithItsPartitions() async throws {
        let (fixture, database) = try await migrated()
        try await database.execute(
            "SELECT app.make_month(d::date) FROM generate_series('2024-04-01'::date, '2024-08-01', '1 month') d",
            "INSERT INTO app.visits (at, n) SELECT '2024-01-05'::date + 10 * i, 1 FROM generate_series(0, 20) i",
            // The columns get the order of the migrations again, so the tables are created again.
            "ALTER TABLE app.visits DROP COLUMN who",
            "ALTER TABLE app.visits ADD COLUMN who text NOT NULL DEFAULT 'x'",
            "CREATE INDEX visits_by_who ON app.visits (who)")
        let before = try await report(fixture, database.settings)
        #expect(before.differences.map(\.object.description) == ["app.visits", "app.visits.who"])
        try await database.execute(before.mend().text)
        #expect(try await differences(fixture, database.settings) == [])
        let rows: Int = try await database.value("SELECT count(*) FROM app.visits")
        #expect(rows == 21)
    }

    @Test(.database) func whatARetentionPolicyDropsIsNoDriftAndAGapIs() async throws {
        let (fixture, database) = try await migrated()
        // A function made it in the replay.
        try await database.execute("DROP TABLE app.visits_2023_12")
        #expect(try await differences(fixture, database.settings) == [])
        // The oldest that a migration names.
        try await database.execute("DROP TABLE app.visits_2024_01")
        #expect(try await differences(fixture, database.settings) == [])
        // The newest, and what takes the rows that no other takes.
        try await database.execute("DROP TABLE app.visits_2024_03", "DROP TABLE app.visits_rest")
        let newest = try await differences(fixture, database.settings)
        #expect(Set(newest) == ["table app.visits_2024_03: missing", "table app.visits_rest: missing"])
    }

    @Test(.database) func catalogsOfTwoDatabasesWithOtherPartitionsAreEqual() async throws {
        let (fixture, database) = try await migrated()
        let reader = CatalogReader(.schemas(["app"]))
        let read = { try await database.with { try reader.read(on: $0) } }
        let before = try await read()
        try await database.execute("SELECT app.make_month('2024-04-01')", "DROP TABLE app.visits_2024_02")
        let after = try await read()
        let pairs = [(before, after), (after, before)]
        for (expected, found) in pairs {
            #expect(CatalogDiff().differences(expected: expected, found: found).count == 2)
            #expect(CatalogDiff().differences(expected: expected.withPartitions(of: found), found: found) == [])
        }
        _ = fixture
    }
}
