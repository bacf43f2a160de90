import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// The monthly partitions of costs, which a task makes ahead.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct AdVideoPartitionTests {
    private func bounds() async throws -> [String] {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET timezone TO 'UTC'")
            return try connection.query(
                """
                SELECT relname || ' ' || pg_get_expr(relpartbound, oid) FROM pg_class
                WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'advideo.generation_costs'::regclass)
                ORDER BY relname
                """
            ).map { try $0.get(0, as: String.self) }
        }
    }

    private func rowsInDefault() async throws -> Int {
        try await TestDatabase.current.value("SELECT count(*) FROM ONLY advideo.generation_costs_default")
    }

    @Test func `totals are exact with partitions, also of rows that change their month`() async throws {
        let session = try await AdVideo.sessions(2)[0]
        try await AdVideo.partitionCosts()
        for statement in [
            """
            INSERT INTO generation_costs (session_id, category, amount, created_at)
            SELECT s.id, 'llm', n * 0.01, now() + make_interval(days => n) FROM sessions s, generate_series(-100, 200) n
            """,
            "UPDATE generation_costs SET created_at = created_at + interval '40 days', amount = amount + 1 WHERE id % 3 = 0",
            "UPDATE generation_costs SET session_id = '\(session)' WHERE id % 4 = 0",
            "INSERT INTO generation_costs SELECT * FROM generation_costs ON CONFLICT DO NOTHING",
            """
            INSERT INTO generation_costs SELECT * FROM generation_costs WHERE id % 5 = 0
            ON CONFLICT (id, created_at) DO UPDATE SET amount = excluded.amount * 2
            """,
            "DELETE FROM generation_costs WHERE id % 6 = 0",
            "SELECT ensure_generation_cost_partitions(months_ahead => 4)",
            "UPDATE generation_costs SET created_at = now()",
            "DELETE FROM sessions WHERE id <> '\(session)'",
        ] {
            try await TestDatabase.current.execute("SET search_path = advideo", statement)
            try await AdVideo.expectExactTotals()
        }
        try await TestDatabase.current.execute("TRUNCATE advideo.generation_costs")
        try await AdVideo.expectExactTotals()
    }

    @Test func `months are those of UTC, whatever the session's settings are`() async throws {
        try await AdVideo.partitionCosts()
        try await TestDatabase.current.with { connection in
            try connection.execute(
                "SET timezone TO 'Pacific/Auckland'; SET datestyle TO 'German'; SET lock_timeout TO '7s'; BEGIN")
            let made = try connection.query("SELECT advideo.ensure_generation_cost_partitions(months_ahead => 60)")
                .first
            #expect(try made?.get(0, as: Int.self) == 57)
            let settings = try connection.query(
                "SELECT current_setting('timezone') || current_setting('datestyle') || current_setting('lock_timeout')")
            #expect(try settings.first?.get(0, as: String.self) == "Pacific/AucklandGerman, DMY7s")
            try connection.execute("COMMIT")
        }
        let expected = try await TestDatabase.current.with { connection in
            try connection.execute("SET timezone TO 'UTC'")
            return try connection.query(
                """
                SELECT format('generation_costs_%s FOR VALUES FROM (%L) TO (%L)', to_char(m, 'YYYY_MM'), m, m + interval '1 month')
                FROM generate_series(date_trunc('month', now()), now() + interval '60 months', interval '1 month') m
                UNION ALL SELECT 'generation_costs_default DEFAULT' ORDER BY 1
                """
            ).map { try $0.get(0, as: String.self) }
        }
        #expect(try await bounds() == expected)
    }

    private static let refused = [
        ("NULL", "22004", "first is NULL"), ("now(), NULL", "22004", "months_ahead is NULL"),
        ("now(), -1", "22023", "months_ahead is -1"), ("now(), 61", "22023", "months_ahead is 61"),
        ("'infinity'", "22023", "first is infinity"), ("'-infinity'", "22023", "first is -infinity"),
        ("'2001-02-03'", "22023", "first is 2001-02-03 00:00:00+00"),
        ("'9999-02-03'", "22023", "first is 9999-02-03 00:00:00+00"),
    ]

    @Test func `absurd arguments are refused`() async throws {
        try await AdVideo.partitionCosts()
        let before = try await bounds()
        for (arguments, state, message) in Self.refused {
            let told = try await AdVideo.expectRefusal(
                state, of: "SET timezone TO 'UTC'; SELECT ensure_generation_cost_partitions(\(arguments))")
            #expect(told.hasPrefix("\(message)|it must be between "))
        }
        #expect(try await bounds() == before)
        let rights = try await ExecuteRights.lines(schema: "advideo")
        #expect(
            rights == [
                "copy_cost_properties(): nobody",
                "ensure_generation_cost_partitions(first timestamp with time zone, months_ahead integer): nobody",
                "require_argument(is_allowed boolean, name text, value text, allowed text): nobody",
                "require_replaceable_costs(): nobody",
            ])
    }

    @Test func `the edges of what is allowed are allowed`() async throws {
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        let call = "SELECT advideo.ensure_generation_cost_partitions"
        #expect(try await database.value("\(call)(months_ahead => 0)") == 0)
        let lastInstant = "date_trunc('month', now(), 'UTC') + interval '5 months' - interval '1 us'"
        #expect(try await database.value("\(call)(\(lastInstant), 4)") == 1)
        try await AdVideo.expectRefusal("22023", of: "\(call)(\(lastInstant) + interval '1 us', 4)")
        #expect(try await database.value("\(call)(date_trunc('month', now(), 'UTC') - interval '10 years', 0)") == 120)
    }

    @Test func `callers at the same time make each month once`() async throws {
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        let made = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<20 {
                group.addTask {
                    try await database.value("SELECT advideo.ensure_generation_cost_partitions(months_ahead => 12)")
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(made.sorted() == Array(repeating: 0, count: 19) + [9])
    }

    @Test func `a call without work locks nothing`() async throws {
        try await AdVideo.partitionCosts()
        try await TestDatabase.current.with { connection in
            try connection.execute("BEGIN; SELECT advideo.ensure_generation_cost_partitions()")
            let locks = try connection.query(
                """
                SELECT relation::regclass::text || ' ' || mode FROM pg_locks
                WHERE pid = pg_backend_pid() AND mode <> 'AccessShareLock'
                  AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'advideo'::regnamespace)
                """
            ).map { try $0.get(0, as: String.self) }
            #expect(locks == [])
            try connection.execute("ROLLBACK")
        }
    }

    /// The maker needs sessions, and the default partition, in one of two orders: others hold them in both.
    @Test(arguments: [true, false])
    func `makers and writers do not wait for each other in a circle`(moves: Bool) async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        if moves {
            try await database.execute(
                "INSERT INTO advideo.generation_costs (session_id, category, amount, created_at) VALUES ('\(session)', 'llm', 1, now() + interval '5 months')"
            )
        }
        let read = "SELECT count(*) FROM advideo.generation_costs"
        let write = "UPDATE advideo.sessions SET progress_percentage = 7"
        for (months, statements) in [(5, [read, write]), (6, [write, read])] {
            try await database.connection { worker in
                try await worker.with { try $0.execute("BEGIN; \(statements[0])") }
                let maker = Task {
                    try await database.value(
                        "SELECT advideo.ensure_generation_cost_partitions(months_ahead => \(months))", as: Int.self)
                }
                // A maker that waits for one lock while it holds another would do so for as long as the worker does.
                try await waitUntil("the maker waits for a lock, or pauses before it tries again") {
                    try await database.value(
                        """
                        SELECT EXISTS (
                            SELECT FROM pg_stat_activity a
                            WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%ensure_generation%'
                              AND (wait_event = 'PgSleep' OR cardinality(pg_blocking_pids(pid)) > 0))
                        """)
                }
                try await worker.with { try $0.execute("\(statements[1]); COMMIT") }
                #expect(try await maker.value > 0)
            }
        }
        #expect(try await rowsInDefault() == 0)
        try await AdVideo.expectExactTotals()
    }

    @Test func `a maker that never gets its locks says so, and has made nothing`() async throws {
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        let before = try await bounds()
        try await database.connection { worker in
            try await worker.with { try $0.execute("BEGIN; SELECT count(*) FROM advideo.generation_costs") }
            let told = try await AdVideo.expectRefusal(
                "55P03", of: "SELECT ensure_generation_cost_partitions(months_ahead => 5)")
            #expect(told.hasPrefix("the tables of costs are in use|nothing was made; call it again"))
            try await worker.with { try $0.execute("ROLLBACK") }
        }
        #expect(try await bounds() == before)
    }

    @Test func `rows of the default partition are moved, with their totals and without other months`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        try await database.execute(
            """
            INSERT INTO advideo.generation_costs (session_id, category, amount, created_at)
            SELECT '\(session)', 'llm', 0.5, date_trunc('month', now(), 'UTC') + interval '4 months' + make_interval(days => n)
            FROM generate_series(-1, 40) n
            """)
        // The month before is there; the days of the month after stay.
        #expect(try await rowsInDefault() == 41)
        let versions = "SELECT xmin::text FROM advideo.sessions WHERE id = '\(session)'"
        let version: String = try await database.value(versions)
        #expect(try await database.value("SELECT advideo.ensure_generation_cost_partitions(months_ahead => 4)") == 1)
        let left: Bool = try await database.value(
            "SELECT bool_and(created_at >= date_trunc('month', now(), 'UTC') + interval '5 months') FROM ONLY advideo.generation_costs_default"
        )
        #expect(left)
        #expect(try await AdVideo.total(session) == "21.0000")
        try await AdVideo.expectExactTotals()
        #expect(try await database.value(versions) == version, "the session was written")
    }

    @Test func `a month that is dropped, detached or emptied leaves what its sessions cost`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        try await database.execute(
            """
            INSERT INTO advideo.generation_costs (session_id, category, amount, created_at)
            SELECT '\(session)', 'llm', 1, now() + make_interval(months => n) FROM generate_series(0, 2) n;
            SET search_path = advideo;
            DO $$
            DECLARE name text;
            BEGIN
                FOR n IN 0..2 LOOP
                    name := 'generation_costs_' || to_char(now() + make_interval(months => n), 'YYYY_MM');
                    EXECUTE format((ARRAY[
                        'DROP TABLE %I', 'ALTER TABLE generation_costs DETACH PARTITION %I', 'TRUNCATE %I'])[n + 1], name);
                END LOOP;
            END $$
            """)
        #expect(try await AdVideo.total(session) == "3.0000")
        try await database.execute(
            "INSERT INTO advideo.generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 1)")
        #expect(try await AdVideo.total(session) == "4.0000")
        // The month that was dropped is made again; the name of the one that was detached is taken, which holds up no
        // other.
        let made = try await database.with { connection in
            try connection.query("SELECT advideo.ensure_generation_cost_partitions(months_ahead => 4)").first?
                .get(0, as: Int.self)
        }
        #expect(made == 2)
        let orphans = try await database.with { try $0.query(AdVideo.check("orphans")).count }
        #expect(orphans == 0)
    }

    @Test func `costs from before any month that is made stay in the default partition`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await TestDatabase.current.execute(
            """
            INSERT INTO advideo.generation_costs (session_id, category, amount, created_at)
            VALUES ('\(session)', 'llm', 1, '-infinity'), ('\(session)', 'llm', 1, '1980-01-01'), ('\(session)', 'llm', 1, NULL),
                ('\(session)', 'llm', 1, 'infinity'), ('\(session)', 'llm', 1, now() - interval '119 months')
            """)
        try await AdVideo.partitionCosts()
        #expect(try await rowsInDefault() == 3)
        #expect(try await bounds().count == 125)
        #expect(try await AdVideo.total(session) == "5.0000")
    }

    /// What may be done with the table, and what it says of itself.
    private func properties() async throws -> [String] {
        try await TestDatabase.current.with { connection in
            try connection.query(
                """
                SELECT a.privilege_type || ' ' || a.grantee::regrole || ' ' || a.is_grantable FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = 'advideo.generation_costs'::regclass AND a.grantee <> c.relowner
                UNION ALL SELECT t.attname || ' ' || t.attacl::text FROM pg_attribute t
                WHERE t.attrelid = 'advideo.generation_costs'::regclass AND t.attacl IS NOT NULL
                UNION ALL SELECT objsubid || ' ' || description FROM pg_description
                WHERE objoid = 'advideo.generation_costs'::regclass
                ORDER BY 1
                """
            ).map { try $0.get(0, as: String.self) }
        }
    }

    @Test func `privileges and comments stay, and no others come`() async throws {
        try await TestDatabase.current.execute(
            """
            GRANT SELECT, INSERT ON advideo.generation_costs TO service_role WITH GRANT OPTION;
            GRANT UPDATE (amount) ON advideo.generation_costs TO authenticated;
            COMMENT ON TABLE advideo.generation_costs IS 'what it cost';
            COMMENT ON COLUMN advideo.generation_costs.amount IS 'in the currency';
            ALTER DEFAULT PRIVILEGES GRANT SELECT, UPDATE ON TABLES TO anon;
            """)
        let before = try await properties()
        #expect(before.count == 5)
        try await AdVideo.partitionCosts()
        #expect(try await properties() == before)
        let migrator = try Migrator(
            database: Database(TestDatabase.current.settings),
            systems: ShippedFixture.systems(["advideo"], options: ["advideo/partitioned-costs"]))
        _ = try await migrator.down(to: 4)
        #expect(try await properties() == before)
    }

    @Test(arguments: [
        ("ALTER TABLE advideo.generation_costs ADD note text", "column note"),
        ("ALTER TABLE advideo.generation_costs ADD CONSTRAINT once UNIQUE (id, amount)", "constraint once"),
        ("CREATE INDEX own ON advideo.generation_costs (currency)", "index own"),
        ("CREATE STATISTICS advideo.pairs ON provider, category FROM advideo.generation_costs", "statistics pairs"),
        ("ALTER TABLE advideo.generation_costs ENABLE ROW LEVEL SECURITY", "row-level security"),
        ("ALTER TABLE advideo.generation_costs REPLICA IDENTITY FULL", "replica identity"),
        ("ALTER TABLE advideo.generation_costs SET (fillfactor = 90)", "storage parameters"),
        (
            "ALTER TABLE advideo.generation_costs ALTER amount SET STATISTICS 9",
            "statistics target of the column amount"
        ),
        (
            "ALTER TABLE advideo.generation_costs DISABLE TRIGGER update_session_cost",
            "state of the trigger update_session_cost"
        ),
        ("CREATE POLICY own ON advideo.generation_costs", "policy own"),
        ("CREATE RULE own AS ON DELETE TO advideo.generation_costs DO ALSO NOTHING", "rule own"),
        ("CREATE PUBLICATION own FOR TABLE advideo.generation_costs", "publication own"),
        (
            """
            CREATE TRIGGER own BEFORE UPDATE ON advideo.generation_costs
                FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
            """, "trigger own"
        ),
    ])
    func `a table with additions is not replaced`(statement: String, addition: String) async throws {
        try await TestDatabase.current.execute(statement)
        let error = await #expect(throws: (any Error).self) { try await AdVideo.partitionCosts() }
        #expect("\(String(describing: error))".contains("generation_costs has what would be lost: \(addition)"))
    }

    @Test func `partitions that the function makes are no drift`() async throws {
        try await AdVideo.partitionCosts()
        let database = try TestDatabase.current
        try await database.execute("SELECT advideo.ensure_generation_cost_partitions(months_ahead => 9)")
        let validator = try SchemaValidator(
            database: Database(database.settings),
            systems: ShippedFixture.systems(["advideo"], options: ["advideo/partitioned-costs"]))
        let differences = try await validator.validate().differences.filter { $0.object.schema == "advideo" }
        #expect(differences == [])
    }
}
