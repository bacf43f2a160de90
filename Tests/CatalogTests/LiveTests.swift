import Foundation
import Postgres
import TestSupport
import Testing

@testable import Catalog

@Suite(.heavy, .timeLimit(.minutes(8)))
struct LiveTests {
    private func run(trusting trusted: [String] = []) async throws -> LiveReport {
        try await TestDatabase.current.with { connection in
            try LiveTrial(Zoo.reader, trusting: trusted).run(on: connection)
        }
    }

    /// The content of every table, and where the sequences are that the trial may not move.
    private func content() async throws -> [String: ContentFingerprint] {
        try await TestDatabase.current.with { connection in
            let catalog = try Zoo.reader.read(on: connection)
            return try connection.transaction {
                var result: [String: ContentFingerprint] = [:]
                for table in catalog.sorted where table.identity.kind == .table {
                    result[table.identity.description] = try ContentFingerprint.whole(
                        table.identity, on: connection)
                }
                return result
            }
        }
    }

    @Test(.database(Zoo.template)) func whatIsRightHoldsAndNothingStays() async throws {
        let before = try await content()
        let report = try await run()
        #expect(report.failures == [])
        let held = Set(report.held.map(\.description))
        for name in [
            "zoo.animals.animals_pkey", "zoo.animals.named", "zoo.animals.known_kind", "zoo.animals.kept",
            "zoo.animals.apart", "zoo.animals.touched", "zoo.visits.visited",
            "zoo.keepers.keepers_boss_fkey", "zoo_watch",
        ] {
            #expect(held.contains(name), "\(name): \(report.untried.filter { $0.object.description == name })")
        }
        // Of a materialized view no row can be made up, and a key within another is never broken alone; that is said.
        let newer = try await ZooServer.current.newer.flatMap(\.untried)
        let expected = ["zoo.animals.animals_once", "zoo.counts.counts_once"] + newer
        #expect(report.untried.map(\.object.description).sorted() == expected.sorted())
        let after = try await content()
        #expect(after == before)
    }

    @Test(
        .database(Zoo.template),
        arguments: [
            ("zoo.animals.kept", "ALTER TABLE zoo.animals DISABLE TRIGGER ALL"),
            ("zoo.animals.known_kind", "UPDATE pg_class SET relchecks = 0 WHERE oid = 'zoo.animals'::regclass"),
            (
                "zoo.animals.animals_pkey",
                "UPDATE pg_index SET indisunique = false WHERE indexrelid = 'zoo.animals_pkey'::regclass"
            ),
            (
                "zoo.animals.animals_once",
                "UPDATE pg_index SET indisready = false WHERE indexrelid = 'zoo.animals_once'::regclass"
            ),
            ("zoo.animals.touched", "UPDATE pg_class SET relhastriggers = false WHERE oid = 'zoo.animals'::regclass"),
            (
                "zoo_watch",
                "UPDATE pg_event_trigger SET evttags = '{CREATE INDEX}' WHERE evtname = 'zoo_watch'"
            ),
        ])
    func whatDoesNotHoldIsFound(_ object: String, _ damage: String) async throws {
        try await TestDatabase.current.execute("SET allow_system_table_mods = on; \(damage)")
        let report = try await run()
        let held = report.held.map(\.description)
        #expect(!held.contains(object))
        // A trigger that is switched off, or waits for something else, is listed as untried.
        let found = (report.failures + report.untried).map(\.object.description)
        #expect(found.contains(object))
        if object.hasSuffix("kept") || object.hasSuffix("known_kind") || object.hasSuffix("_pkey") {
            #expect(report.failures.map(\.object.description).contains(object))
        }
    }

    /// What a trial runs is undone, but for what a function does outside the database.
    @Test(.database(Zoo.template)) func othersFunctionsRunWithTheirOwnRights() async throws {
        let database = try TestDatabase.current
        let role = "trapper_\(UUID().uuidString.prefix(8).lowercased())"
        let marker = "/tmp/reeve-live-\(UUID().uuidString.prefix(8))"
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT USAGE, CREATE ON SCHEMA zoo TO \(role)",
            """
            CREATE FUNCTION zoo.trap(a text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN PERFORM zoo.spring(); RETURN true; END $$;
            CREATE FUNCTION zoo.spring() RETURNS void LANGUAGE plpgsql AS $$
            BEGIN
                COPY (SELECT 1) TO PROGRAM 'touch \(marker)';
            EXCEPTION WHEN insufficient_privilege THEN
                NULL;
            END $$;
            CREATE TABLE zoo.trapped (id integer PRIMARY KEY, a text CHECK (zoo.trap(a)));
            ALTER FUNCTION zoo.trap(text) OWNER TO \(role);
            ALTER FUNCTION zoo.spring() OWNER TO \(role);
            """)
        _ = try await run(trusting: [role])
        let wasSprung = FileManager.default.fileExists(atPath: marker)
        try? FileManager.default.removeItem(atPath: marker)
        #expect(!wasSprung)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(.database(DatabaseTemplate.systems)) func theShippedSystemsHold() async throws {
        let report = try await TestDatabase.current.with { connection in
            try LiveTrial(CatalogReader(.all)).run(on: connection)
        }
        #expect(report.failures == [])
        #expect(report.held.count > 100)
        #expect(report.untried.count < 20, "\(report.untried)")
    }
}

@Suite(.heavy, .timeLimit(.minutes(8)))
struct ContentFingerprintTests {
    private func fingerprint(_ table: String = "t") async throws -> ContentFingerprint {
        try await TestDatabase.current.with { connection in
            try connection.transaction {
                try ContentFingerprint.whole(
                    ObjectIdentity(.table, schema: "public", table), on: connection)
            }
        }
    }

    @Test(.database) func orderDoesNotCountAndEveryValueDoes() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE t (a integer, b json)",
            "INSERT INTO t SELECT i, json_build_object('x', i) FROM generate_series(1, 1000) i",
            "CREATE TABLE u AS SELECT * FROM t ORDER BY a DESC")
        let first = try await fingerprint()
        let second = try await fingerprint("u")
        #expect(first == second && first.rows == 1000 && first.digest.count == 32)
        for change in [
            "UPDATE t SET b = '{\"x\":0}' WHERE a = 500", "DELETE FROM t WHERE a = 1",
            "UPDATE t SET b = NULL WHERE a = 7",
            "INSERT INTO t SELECT * FROM t WHERE a = 5",
            // Two rows that exchange a value keep every sum by column.
            "UPDATE t SET a = CASE a WHEN 3 THEN 4 ELSE 3 END WHERE a IN (3, 4)",
        ] {
            let changed = try await database.with { connection -> ContentFingerprint in
                try connection.execute("BEGIN")
                defer { _ = try? connection.execute("ROLLBACK") }
                try connection.execute(change)
                return try ContentFingerprint.whole(
                    ObjectIdentity(.table, schema: "public", "t"), on: connection)
            }
            #expect(changed != first, "\(change)")
        }
        let again = try await fingerprint()
        #expect(again == first)
    }

    @Test(.database) func settingsOfTheSessionDoNotCount() async throws {
        try await TestDatabase.current.execute(
            "CREATE TABLE t (a timestamptz, b double precision)", "INSERT INTO t VALUES (now(), 0.1 + 0.2)")
        let usual = try await fingerprint()
        let other = try await TestDatabase.current.with { connection in
            try connection.execute(
                "SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = -5")
            return try connection.transaction {
                try ContentFingerprint.whole(
                    ObjectIdentity(.table, schema: "public", "t"), on: connection)
            }
        }
        #expect(usual == other)
    }
}

extension ContentFingerprint {
    /// That of a table with all its columns.
    fileprivate static func whole(
        _ table: ObjectIdentity, on connection: isolated Connection
    ) throws -> ContentFingerprint {
        let columns = try connection.query(
            """
            SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
            """, [table.description]
        ).map { Column(try $0.get(0), type: try $0.get(1)) }
        try pinSettings(on: connection)
        return try read(Request(table, columns: columns), on: connection)
    }
}
