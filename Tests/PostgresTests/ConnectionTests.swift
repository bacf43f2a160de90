import Foundation
import Postgres
import Synchronization
import Telemetry
import TestSupport
import Testing

@Suite(.database, .timeLimit(.minutes(2)))
struct ConnectionTests {
    @Test func `values come back as they were sent`() async throws {
        try await TestDatabase.current.with { connection in
            let row = try #require(
                try connection.query(
                    """
                    SELECT $1::int, $2::text, $3::numeric, $4::timestamptz, $5::uuid, $6::bytea, $7::text[], $8::bool,
                           $9::jsonb, $10::float8, $11::int[]
                    """,
                    [
                        42, "naïve 'quote' \\ 日本", "123456789012345678901234567890.000100",
                        Timestamp(microseconds: 1_774_747_800_123_456),
                        UUID(uuidString: "9a3f7d82-5e4b-4f3a-9c6d-1b2e8a4f3c5d"),
                        Bytes([0, 1, 255, 92]), ["a,b", "", "nu\"ll", "NULL"], true, JSONText("{\"a\": 1}"),
                        Double.infinity,
                        nil,
                    ]
                ).first)
            #expect(try row.get(0, as: Int.self) == 42)
            #expect(try row.get(1, as: String.self) == "naïve 'quote' \\ 日本")
            #expect(try row.get(2, as: String.self) == "123456789012345678901234567890.000100")
            #expect(try row.get(3, as: Timestamp.self).microseconds == 1_774_747_800_123_456)
            #expect(try row.get(5, as: Bytes.self).bytes == [0, 1, 255, 92])
            #expect(try row.get(6, as: [String].self) == ["a,b", "", "nu\"ll", "NULL"])
            #expect(try row.get(7, as: Bool.self))
            #expect(try row.get(8, as: JSONText.self).text == "{\"a\": 1}")
            #expect(try row.get(9, as: Double.self) == .infinity)
            #expect(try row.get(10, as: [Int]?.self) == nil)
            #expect(throws: PostgresError.self) { _ = try row.get(10, as: [Int].self) }
        }
    }

    @Test func `rows without columns are counted`() async throws {
        try await TestDatabase.current.with { connection in
            let (three, none) = (
                try connection.query("SELECT FROM generate_series(1, 3)"),
                try connection.query("SELECT FROM generate_series(1, 0)")
            )
            #expect(three.count == 3 && none.isEmpty)
        }
    }

    @Test func `a session that is reset is what it was after connecting, also for a cancelled task`() async throws {
        try await Connection.opened(try TestDatabase.current.settings) { connection in
            let work = Task {
                try await connection.with { connection in
                    try connection.execute(
                        """
                        CREATE TEMP TABLE left_over ();
                        SET search_path = public;
                        SET DateStyle = 'German';
                        SET SESSION AUTHORIZATION pg_monitor;
                        SET ROLE pg_read_all_stats
                        """)
                    withUnsafeCurrentTask { $0?.cancel() }
                    try connection.resetSession()
                }
            }
            try await work.value
            #expect(try await connection.value("SHOW search_path", as: String.self) == "pg_catalog, pg_temp")
            #expect(try await connection.value("SHOW DateStyle", as: String.self) == "ISO, YMD")
            let isOwn: Bool = try await connection.value(
                """
                SELECT rolsuper AND current_user = session_user FROM pg_roles WHERE rolname = current_user
                """)
            #expect(isOwn)
            #expect(try await connection.value("SELECT to_regclass('pg_temp.left_over') IS NULL", as: Bool.self))
        }
    }

    @Test func `a statement whose plan is kept is prepared once, and again after a reset`() async throws {
        try await Connection.opened(try TestDatabase.current.settings) { connection in
            let (sums, names) = try await connection.with { connection in
                var sums: [Int] = []
                var names: [[String]] = []
                for round in 0..<3 {
                    for number in 0..<3 {
                        let rows = try connection.query(keepingPlan: "SELECT $1::int + 1", [number])
                        sums.append(try rows.first?.get(0) ?? -1)
                    }
                    #expect(throws: PostgresError.self) {
                        try connection.query(keepingPlan: "SELECT 1 / $1::int", [0])
                    }
                    names.append(
                        try connection.query("SELECT name FROM pg_prepared_statements ORDER BY 1").map { try $0.get(0) }
                    )
                    if round == 1 { try connection.resetSession() }
                }
                return (sums, names)
            }
            #expect(sums == [1, 2, 3, 1, 2, 3, 1, 2, 3])
            #expect(names == [["reeve_1", "reeve_2"], ["reeve_1", "reeve_2"], ["reeve_3", "reeve_4"]])
        }
    }

    @Test func `a session that cannot be reset is closed`() async throws {
        try await Connection.opened(try TestDatabase.current.settings) { connection in
            try await connection.with { connection in
                try connection.execute("BEGIN; SET ROLE pg_monitor")
                #expect(throws: PostgresError.self) { try connection.query("SELECT 1 / 0") }
                #expect(throws: PostgresError.self) { try connection.resetSession() }
            }
            #expect(await !connection.isOpen)
        }
    }

    @Test func `a cancelled task's statement is cancelled and the connection serves on`() async throws {
        try await TestDatabase.current.connection { connection in
            let work = Task { try await connection.with { try $0.query("SELECT pg_sleep(60)") } }
            try await waitUntil {
                try await TestDatabase.current.value(
                    """
                    SELECT count(*) FROM pg_stat_activity
                    WHERE query = 'SELECT pg_sleep(60)' AND state = 'active' AND datname = current_database()
                    """) == 1
            }
            work.cancel()
            await #expect(throws: CancellationError.self) { try await work.value }
            let one = try await connection.value("SELECT 1", as: Int.self)
            #expect(one == 1)
        }
    }

    @Test func `a deadline cancels the statement and the connection serves on`() async throws {
        try await TestDatabase.current.connection { connection in
            let error = await #expect(throws: PostgresError.self) {
                try await connection.with(within: .milliseconds(50)) { try $0.query("SELECT pg_sleep(60)") }
            }
            #expect(error?.kind == .timedOut)
            let one = try await connection.value("SELECT 1", as: Int.self)
            #expect(one == 1)
        }
    }

    @Test func `notices of the server go to the log`() async throws {
        final class Lines: LogSink {
            let all = Mutex<[LogLine]>([])
            func write(_ line: LogLine) { all.withLock { $0.append(line) } }
        }
        let lines = Lines()
        try await Connection.opened(TestDatabase.current.settings, logger: Logger(sink: lines)) { connection in
            try await connection.with {
                try $0.execute("DO $$ BEGIN RAISE NOTICE 'look here'; RAISE WARNING 'and here'; END $$")
            }
        }
        let written = lines.all.withLock { $0 }
        #expect(written.map(\.message) == ["look here", "and here"])
        #expect(written.map(\.level) == [.info, .warning])
    }
}
