import Catalog
import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

@testable import Backups

/// What a backup has listed stays what it is until it is read, and runs nobody's code with the backup's rights.
@Suite(.database, .timeLimit(.minutes(3)))
struct SnapshotLockTests {
    private let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"

    private func run(as role: String, _ sql: String, in database: TestDatabase) async throws {
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await Connection.opened(settings) { connection in
            try await connection.with { _ = try $0.execute(sql) }
        }
    }

    private func prepare(_ database: TestDatabase) async throws {
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "GRANT CREATE ON DATABASE \(database.name) TO \(role)",
            "CREATE SCHEMA s AUTHORIZATION \(role)")
    }

    private func remove(_ database: TestDatabase) async throws {
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test func `nothing takes the name of a sequence or a table while the snapshot is held`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(
            as: role,
            """
            CREATE TABLE s.t (a int); CREATE SEQUENCE s.q; CREATE SEQUENCE s.r; SELECT setval('s.q', 7, false);
            SELECT setval('s.r', 8)
            """, in: database)
        try await Connection.opened(database.settings) { connection in
            let snapshot = try await SnapshotTransaction.begin(on: connection, wait: .seconds(5))
            for change in [
                "DROP SEQUENCE s.q", "ALTER SEQUENCE s.q RENAME TO other", "ALTER TABLE s.q RENAME TO other",
                "ALTER SEQUENCE s.q SET SCHEMA public", "ALTER SEQUENCE s.q AS smallint",
                "ALTER SCHEMA s RENAME TO other", "DROP SCHEMA s CASCADE", "ALTER TABLE s.t RENAME TO other",
            ] {
                let error = await #expect(throws: PostgresError.self, "\(change)") {
                    try await run(
                        as: change.contains("public") ? "postgres" : role, "SET lock_timeout = '100ms'; \(change)",
                        in: database)
                }
                #expect(error?.sqlState == "55P03", "\(change)")
            }
            // Use and grants are not held up.
            try await run(
                as: role,
                "SET lock_timeout = '100ms'; SELECT nextval('s.r'); GRANT USAGE ON SCHEMA s TO pg_monitor",
                in: database)
            try await connection.with { connection in
                let values = try DatabaseContent.sequenceValues(snapshot.relations, on: connection)
                #expect(values[ExactText("s.q")]?.value == 7 && values[ExactText("s.q")]?.isCalled == false)
                #expect(values[ExactText("s.r")]?.isCalled == true)
                #expect(try connection.query("SHOW transaction_read_only").first?.get(0) == "on")
            }
            try await snapshot.end()
        }
        try await run(as: role, "ALTER SCHEMA s RENAME TO other", in: database)
        try await remove(database)
    }

    /// What another session did between the list and the lock.
    @Test(arguments: [
        "DROP SEQUENCE s.q", "ALTER SEQUENCE s.q RENAME TO p", "ALTER SCHEMA s RENAME TO p",
        "DROP SEQUENCE s.q; CREATE TABLE s.q (last_value int)",
    ])
    func `a sequence that has changed is not taken for locked`(change: String) async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(as: role, "CREATE SEQUENCE s.q; CREATE SEQUENCE s.r", in: database)
        try await Connection.opened(database.settings) { connection in
            let relations = try await connection.with { connection in
                try connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                let relations = try DatabaseContent.relations(on: connection)
                // Its names are in the session's caches.
                _ = try connection.query("SELECT to_regclass('s.q'), to_regclass('s.r')")
                return relations
            }
            #expect(relations.count == 2)
            try await run(as: role, change, in: database)
            try await connection.with { connection in
                #expect(try !RelationLocks.lockSequences(relations, on: connection))
                try connection.execute("ROLLBACK")
            }
        }
        try await remove(database)
    }

    /// The listing waits for the table's lock, and names the table as it was called before.
    @Test func `a table that is renamed and replaced between the list and the lock is locked under both names`()
        async throws
    {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA s", "CREATE TABLE s.t (a int)")
        try await database.connection { other in
            try await other.with { _ = try $0.execute("BEGIN; LOCK TABLE s.t") }
            try await Connection.opened(database.settings) { connection in
                async let began = SnapshotTransaction.begin(on: connection, wait: .seconds(30))
                try await waitUntil("the listing waits") { try await database.waitersForLocks() == 1 }
                try await other.with { connection in
                    _ = try connection.execute("ALTER TABLE s.t RENAME TO u; CREATE TABLE s.t (a int); COMMIT")
                }
                let snapshot = try await began
                #expect(snapshot.relations.map(\.path) == ["s.t", "s.u"])
                for table in ["s.t", "s.u"] {
                    let error = await #expect(throws: PostgresError.self) {
                        try await database.execute("SET lock_timeout = '100ms'; ALTER TABLE \(table) ADD b int")
                    }
                    #expect(error?.sqlState == "55P03", "\(table)")
                }
                try await snapshot.end()
            }
        }
    }

    /// A TRUNCATE between the snapshot and the lock would leave the table empty for whoever reads it in the snapshot.
    @Test func `the snapshot is taken after the tables are locked`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA s", "CREATE TABLE s.t (a int)")
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        proxy.arm(onText: "IN ACCESS SHARE MODE") { _ in
            let ended = DispatchSemaphore(value: 0)
            Task {
                try? await database.execute("INSERT INTO s.t VALUES (1)")
                ended.signal()
            }
            ended.wait()
            return .none
        }
        try await Connection.opened(proxy.settings(database.settings)) { connection in
            let snapshot = try await SnapshotTransaction.begin(on: connection, wait: .seconds(5))
            #expect(snapshot.holdsLocks)
            let rows: Int? = try await connection.with { try $0.query("SELECT count(*) FROM s.t").first?.get(0) }
            #expect(rows == 1)
            try await snapshot.end()
        }
    }

    /// Planning evaluates the predicate of the index.
    @Test func `what an index's function sets does not hold for the next table`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE FUNCTION public.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                PERFORM pg_catalog.set_config('extra_float_digits', '-10', false); RETURN i; END $$;
            CREATE TABLE public.a (x int); CREATE INDEX ON public.a (x) WHERE public.f(5) = 5;
            CREATE TABLE public.b (x float8); INSERT INTO public.b VALUES (0.123456789)
            """)
        let relations = try await database.with { try DatabaseContent.relations(on: $0) }
        #expect(relations.map(\.path) == ["public.a", "public.b"] && relations.allSatisfy { $0.reading == .direct })
        func print(after others: [DatabaseContent.Relation]) async throws -> ContentFingerprint? {
            let found = Gathered<ContentReaders.Prints>()
            try await ContentReaders(database.settings, count: 1).run(
                (others + [relations[1]]).map { .small([$0]) }, small: { found.add([$0]) }, slice: { _, _ in })
            return found.all.compactMap { $0[relations[1]] }.first
        }
        let alone = try await print(after: [])
        #expect(try await print(after: [relations[0]]) == alone && alone != nil)
    }

    /// A role that reads all for the backup and is no superuser has rights that the tables' owners lack.
    @Test func `an owner's index runs nothing with the rights of a backup role`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        let reader = "reader_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(reader) LOGIN BYPASSRLS", "GRANT pg_read_all_data TO \(reader)",
            "CREATE TABLE public.superusers (a int)", "CREATE SCHEMA mine AUTHORIZATION \(reader)")
        try await run(as: reader, "CREATE TABLE mine.t (a int)", in: database)
        try await run(
            as: role,
            """
            CREATE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END';
            CREATE TABLE s.t (a int); INSERT INTO s.t SELECT generate_series(1, 10);
            CREATE INDEX ON s.t (a) WHERE s.f(5) = 5;
            CREATE TABLE s.parent (a int)
            """, in: database)
        // Its own, and yet with an index and a parent of somebody else.
        try await database.execute("GRANT USAGE ON SCHEMA s TO \(reader)")
        try await run(as: reader, "CREATE TABLE mine.indexed (a int); CREATE TABLE mine.child (a int)", in: database)
        try await database.execute(
            "CREATE INDEX ON mine.indexed (a) WHERE s.f(5) = 5", "ALTER TABLE mine.child INHERIT s.parent")
        try await run(
            as: role,
            """
            CREATE OR REPLACE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                IF current_user <> '\(role)' THEN RAISE EXCEPTION 'runs as %', current_user; END IF; RETURN i; END $$
            """, in: database)
        var asReader = database.settings
        asReader.parameters["user"] = reader
        let settings = asReader
        let prints = try await Connection.opened(settings) { connection in
            let relations = try await connection.with { try DatabaseContent.relations(on: $0) }
            let readings = Dictionary(relations.map { ($0.path, $0.reading) }) { one, _ in one }
            #expect(
                readings == [
                    "s.t": .copy, "s.parent": .copy, "mine.t": .direct, "mine.indexed": .copy, "mine.child": .copy,
                    "public.superusers": .direct,
                ])
            return try await ContentReaders(settings, count: 2).prints(
                of: relations, server: await connection.serverVersion)
        }
        #expect(prints.first { $0.key.path == "s.t" }?.value.rows == 10)
        try await remove(database)
        try await database.execute("DROP OWNED BY \(reader) CASCADE", "DROP ROLE \(reader)")
    }
}
