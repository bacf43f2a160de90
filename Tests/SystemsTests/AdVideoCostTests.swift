import Foundation
import Postgres
import TestSupport
import Testing

/// Totals of sessions, whatever is done to the costs, and what rows may hold.
@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct AdVideoCostTests {
    private func execute(_ statements: String...) async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = advideo")
            for statement in statements { try connection.execute(statement) }
        }
    }

    @Test func `statements of many rows leave exact totals`() async throws {
        let sessions = try await AdVideo.sessions(3)
        try await execute(
            """
            INSERT INTO generation_costs (session_id, category, amount)
            SELECT s.id, 'llm', n * 0.0001 FROM sessions s, generate_series(1, 1000) n
            """)
        #expect(try await AdVideo.total(sessions[0]) == "50.0500")
        try await execute(
            "COPY generation_costs (session_id, category, amount) FROM PROGRAM 'printf ''\(sessions[0])\\tllm\\t1\\n\(sessions[1])\\tllm\\t2\\n'''"
        )
        #expect(try await AdVideo.total(sessions[0]) == "51.0500")
        #expect(try await AdVideo.total(sessions[1]) == "52.0500")
        for statement in [
            "UPDATE generation_costs SET amount = -amount WHERE id % 3 = 0",
            "UPDATE generation_costs SET session_id = '\(sessions[2])', amount = amount + 1 WHERE id % 7 = 0",
            "UPDATE generation_costs SET provider = 'replicate'",
            """
            INSERT INTO generation_costs (id, session_id, category, amount)
            SELECT n, '\(sessions[1])', 'other', 5 FROM generate_series(1, 3000, 100) n
            ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, session_id = excluded.session_id
            """,
            "DELETE FROM generation_costs WHERE id % 5 = 0",
            """
            WITH gone AS (DELETE FROM generation_costs WHERE id % 11 = 0 RETURNING *)
            INSERT INTO generation_costs (session_id, category, amount) SELECT session_id, category, amount + 1 FROM gone
            """,
            "DELETE FROM sessions WHERE id = '\(sessions[2])'",
        ] {
            try await execute(statement)
            try await AdVideo.expectExactTotals()
        }
        try await execute("TRUNCATE generation_costs")
        try await AdVideo.expectExactTotals()
        try await execute("TRUNCATE users CASCADE")
    }

    /// The second inserts in the wrong order what the first holds in part. It must not hold one session while it waits
    /// for another.
    @Test func `two inserts of several sessions do not wait for each other in a circle`() async throws {
        let sessions = try await AdVideo.sessions(2)
        let database = try TestDatabase.current
        @Sendable func insert(_ places: [Int]) -> String {
            let rows = places.map { "('\(sessions[$0])', 'llm', 1)" }.joined(separator: ", ")
            return "INSERT INTO advideo.generation_costs (session_id, category, amount) VALUES \(rows)"
        }
        try await database.connection { one in
            try await one.with { connection in
                try connection.execute("BEGIN")
                try connection.execute(insert([0]))
            }
            let other = Task { try await database.execute(insert([1, 0])) }
            try await waitUntil("the second waits for the first") { try await database.waitersForLocks() > 0 }
            try await one.with { connection in
                try connection.execute(insert([1]))
                try connection.execute("COMMIT")
            }
            try await other.value
        }
        #expect(try await AdVideo.total(sessions[0]) == "2.0000")
        #expect(try await AdVideo.total(sessions[1]) == "2.0000")
    }

    /// Foreign keys lock the session, too: whoever holds such a lock must not queue behind the deletion for another.
    @Test func `inserts beside the deletion of their session do not wait for each other in a circle`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        let database = try TestDatabase.current
        let insert = """
            INSERT INTO advideo.generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 1)
            """
        try await database.connection { one in
            try await one.with { try $0.execute("BEGIN; \(insert)") }
            let deletion = Task { try await database.execute("DELETE FROM advideo.sessions") }
            try await waitUntil("the deletion waits") { try await database.waitersForLocks() == 1 }
            let other = Task { try await database.execute(insert) }
            try await waitUntil("the other insert waits") { try await database.waitersForLocks() == 2 }
            try await one.with { try $0.execute("COMMIT") }
            try await deletion.value
            let error = await #expect(throws: PostgresError.self) { try await other.value }
            #expect(error?.sqlState == "23503")
        }
        let costs: Int = try await database.value("SELECT count(*) FROM advideo.generation_costs")
        #expect(costs == 0)
    }

    /// The sessions stand in the table in the opposite order.
    @Test func `a user goes with their sessions in the order in which costs lock them`() async throws {
        let sessions = try await AdVideo.sessions(2)
        let database = try TestDatabase.current
        let insert = "INSERT INTO advideo.generation_costs (session_id, category, amount) VALUES "
        try await database.connection { one in
            try await one.with { try $0.execute("BEGIN; \(insert) ('\(sessions[0])', 'llm', 1)") }
            let deletion = Task { try await database.execute("DELETE FROM advideo.users") }
            try await waitUntil("the deletion waits") { try await database.waitersForLocks() == 1 }
            try await one.with { try $0.execute("\(insert) ('\(sessions[1])', 'llm', 1); COMMIT") }
            try await deletion.value
        }
        let costs: Int = try await database.value("SELECT count(*) FROM advideo.generation_costs")
        #expect(costs == 0)
    }

    @Test func `a cost of what is not there is refused by its statement`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await execute("INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 1)")
        for statement in [
            "INSERT INTO generation_costs (session_id, category, amount) VALUES (gen_random_uuid(), 'llm', 1)",
            "INSERT INTO generation_costs (session_id, category, amount) VALUES (gen_random_uuid(), 'llm', 0)",
            "UPDATE generation_costs SET session_id = gen_random_uuid()",
            "UPDATE generation_costs SET asset_id = gen_random_uuid()",
        ] {
            // The transaction does not end, so it is not the end of the transaction that refuses.
            let told = try await AdVideo.expectRefusal("23503", of: "BEGIN; \(statement); SELECT pg_sleep(0)")
            #expect(told.contains("violates foreign key constraint"))
        }
    }

    @Test func `a change that waits adds to the total that it finds`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        let database = try TestDatabase.current
        try await execute("INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 1)")
        try await database.connection { one in
            try await one.with { connection in
                try connection.execute("SET search_path = advideo; BEGIN")
                try connection.execute(
                    "INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 2)")
            }
            let others = [
                "UPDATE generation_costs SET amount = 10 WHERE amount = 1",
                "UPDATE sessions SET total_cost = NULL", "UPDATE sessions SET total_cost = 7",
            ].map { sql in Task { try await execute(sql) } }
            try await waitUntil("the others wait for the first") { try await database.waitersForLocks() == 3 }
            try await one.with { try $0.execute("COMMIT") }
            for other in others { try await other.value }
        }
        #expect(try await AdVideo.total(session) == "12.0000")
    }

    @Test func `a refund lowers the total`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await execute(
            "INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 2), ('\(session)', 'llm', -0.5)"
        )
        #expect(try await AdVideo.total(session) == "1.5000")
    }

    @Test func `the total is not what somebody writes, and NULL sums again`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await execute("INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 2)")
        try await execute("UPDATE sessions SET total_cost = 7, progress_percentage = 50")
        #expect(try await AdVideo.total(session) == "2.0000")
        try await execute(
            "SET session_replication_role = replica; INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 3)"
        )
        #expect(try await AdVideo.total(session) == "2.0000")
        try await execute("UPDATE sessions SET total_cost = NULL")
        #expect(try await AdVideo.total(session) == "5.0000")
    }

    /// As a dump of data only does it: the sessions with their totals, then their costs.
    @Test func `costs that are loaded after their sessions are counted once`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await execute(
            "INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 2)",
            """
            CREATE TEMPORARY TABLE kept_sessions AS SELECT * FROM sessions;
            CREATE TEMPORARY TABLE kept_costs AS SELECT * FROM generation_costs;
            DELETE FROM sessions;
            INSERT INTO sessions SELECT * FROM kept_sessions;
            INSERT INTO sessions (user_id, total_cost) SELECT min(id), NULL FROM users;
            INSERT INTO generation_costs SELECT * FROM kept_costs
            """)
        #expect(try await AdVideo.total(session) == "2.0000")
        try await AdVideo.expectExactTotals()
    }

    /// The foreign key of the assets is made anew, so that the one of the costs comes first in the order of their
    /// names.
    @Test func `who deletes a session locks its assets before its costs`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        let database = try TestDatabase.current
        try await execute(
            """
            ALTER TABLE assets DROP CONSTRAINT assets_session_id_fkey,
                ADD CONSTRAINT assets_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE;
            INSERT INTO assets (session_id, type, source, url) VALUES ('\(session)', 'image', 'sdxl', '');
            INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 2)
            """)
        try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; SELECT FROM advideo.assets FOR UPDATE") }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await database.execute("DELETE FROM advideo.sessions") }
                try await waitUntil("it waits for the asset") { try await database.waitersForLocks() == 1 }
                try await holder.with {
                    try $0.execute("SELECT FROM advideo.generation_costs FOR UPDATE NOWAIT; COMMIT")
                }
                try await group.waitForAll()
            }
        }
    }

    @Test func `what changes no amount locks no session`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        let database = try TestDatabase.current
        try await execute("INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 2)")
        try await database.connection { one in
            try await one.with { try $0.execute("BEGIN; UPDATE advideo.sessions SET progress_percentage = 1") }
            try await execute(
                "SET lock_timeout = '2s'", "UPDATE generation_costs SET provider = 'aws', asset_id = NULL")
            try await one.with { try $0.execute("ROLLBACK") }
        }
    }

    /// Its foreign key would lock the session otherwise, before other sessions of the statement.
    @Test func `a cost of nothing that is added or moved locks its session like others`() async throws {
        let sessions = try await AdVideo.sessions(2)
        let database = try TestDatabase.current
        let insert = "INSERT INTO generation_costs (session_id, category, amount) VALUES"
        try await execute("\(insert) ('\(sessions[0])', 'llm', 0)")
        try await database.connection { one in
            try await one.with {
                try $0.execute("BEGIN; UPDATE advideo.sessions SET progress_percentage = 1 WHERE id = '\(sessions[1])'")
            }
            for statement in [
                "\(insert) ('\(sessions[1])', 'llm', 0)", "UPDATE generation_costs SET session_id = '\(sessions[1])'",
            ] {
                try await AdVideo.expectRefusal("55P03", of: "SET lock_timeout = '100ms'; \(statement)")
            }
            try await one.with { try $0.execute("ROLLBACK") }
        }
    }

    @Test func `TRUNCATE with an old snapshot is refused`() async throws {
        let message = try await AdVideo.expectRefusal(
            "25000", of: "BEGIN ISOLATION LEVEL REPEATABLE READ; TRUNCATE generation_costs")
        #expect(
            message
                == "TRUNCATE of generation_costs in a transaction of the isolation level REPEATABLE READ|use READ COMMITTED"
        )
    }

    private static let refused = [
        ("generation_costs", "amount", "'NaN'"), ("generation_costs", "seconds_processed", "'NaN'"),
        ("generation_costs", "seconds_processed", "-1"), ("generation_costs", "tokens_used", "-1"),
        ("generation_costs", "api_latency_ms", "-1"), ("generation_costs", "currency", "'usd'"),
        ("generation_costs", "currency", "''"), ("generation_costs", "currency", "'US'"),
        ("generation_costs", "metadata", "'[]'"),
        ("sessions", "estimated_cost", "'NaN'"), ("sessions", "estimated_cost", "-1"),
        ("sessions", "clip_duration_seconds", "'NaN'"), ("sessions", "clip_duration_seconds", "-1"),
        ("sessions", "num_images_requested", "-1"), ("sessions", "retry_count", "-1"),
        ("sessions", "progress_percentage", "-1"), ("sessions", "progress_percentage", "101"),
        ("sessions", "text_color", "'red'"), ("sessions", "text_color", "'#12345'"),
        ("sessions", "text_color", "'#12345g'"),
        ("sessions", "metadata", "'null'"), ("sessions", "metadata", "'3'"),
        ("assets", "duration_seconds", "'NaN'"), ("assets", "duration_seconds", "-1"), ("assets", "fps", "-1"),
        ("assets", "file_size_bytes", "-1"), ("assets", "generation_cost", "'NaN'"),
        ("assets", "generation_time_seconds", "'NaN'"), ("assets", "generation_time_seconds", "-1"),
        ("assets", "guidance_scale", "'NaN'"), ("assets", "motion_intensity", "'NaN'"),
        ("assets", "metadata", "'\"x\"'"),
        ("websocket_connections", "metadata", "'[]'"),
    ]

    @Test func `values that no reader expects are refused`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await execute(
            """
            INSERT INTO assets (session_id, type, source, url) VALUES ('\(session)', 'image', 'sdxl', '');
            INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 1);
            INSERT INTO websocket_connections (session_id, connection_id) VALUES ('\(session)', 'a')
            """)
        for (table, column, value) in Self.refused {
            try await AdVideo.expectRefusal("23514", of: "UPDATE \(table) SET \(column) = \(value)")
        }
    }

    @Test func `infinite and huge amounts are refused`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        // Before PostgreSQL 14, there is no infinite number.
        let version: Int = try await TestDatabase.current.value("SELECT current_setting('server_version_num')::int")
        for amount in ["Infinity", "-Infinity", "1000000"] {
            let state = version < 140_000 && amount != "1000000" ? "22P02" : "22003"
            try await AdVideo.expectRefusal(
                state,
                of:
                    "INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', '\(amount)')"
            )
        }
        // The sum does not fit into the specified type either; nothing is counted then.
        try await AdVideo.expectRefusal(
            "22003",
            of: """
                INSERT INTO generation_costs (session_id, category, amount)
                VALUES ('\(session)', 'llm', 999999), ('\(session)', 'llm', 1)
                """)
        #expect(try await AdVideo.total(session) == "0.0000")
        try await AdVideo.expectExactTotals()
    }

    @Test func `colours, currencies, nothing and objects are taken`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        try await execute(
            "UPDATE sessions SET text_color = '#fff'; UPDATE sessions SET text_color = '#FF5733', metadata = '{\"a\": [1]}', estimated_cost = 0, progress_percentage = 100",
            "INSERT INTO generation_costs (session_id, category, amount, currency, metadata) VALUES ('\(session)', 'llm', 0, 'EUR', NULL)",
            "UPDATE sessions SET text_color = NULL, metadata = NULL, estimated_cost = NULL, clip_duration_seconds = NULL"
        )
    }

    /// Triggers run without EXECUTE, with the rights of who changes the costs.
    @Test func `nobody may call the functions, and triggers work for others`() async throws {
        let session = try await AdVideo.sessions(1)[0]
        let database = try TestDatabase.current
        #expect(try await ExecuteRights.lines(schema: "advideo") == [])
        #expect(try await ExecuteRights.careless(schema: "advideo") == [])
        let open: [String]? = try await database.value(
            """
            SELECT array_agg(p.oid::regprocedure::text) FROM pg_proc p
            WHERE p.pronamespace = 'advideo'::regnamespace AND EXISTS (
                SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee <> p.proowner)
            """)
        #expect(open == nil)
        try await execute(
            """
            GRANT USAGE ON SCHEMA advideo TO authenticated;
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA advideo TO authenticated;
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA advideo TO authenticated;
            SET ROLE authenticated;
            INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 3)
            """)
        #expect(try await AdVideo.total(session) == "3.0000")
        try await execute(
            """
            REVOKE UPDATE ON sessions FROM authenticated
            """)
        try await AdVideo.expectRefusal(
            "42501",
            of:
                "SET ROLE authenticated; INSERT INTO generation_costs (session_id, category, amount) VALUES ('\(session)', 'llm', 3)"
        )
    }

    private func kinds(of check: String, on connection: isolated Connection) throws -> [String] {
        try connection.query("SELECT kind FROM (\(check)) t (kind, id) ORDER BY 1").map {
            try $0.get(0, as: String.self)
        }
    }

    @Test func `the backup check finds what has lost its parent`() async throws {
        let sessions = try await AdVideo.sessions(3)
        let check = try AdVideo.check("orphans")
        try await execute(
            """
            INSERT INTO assets (session_id, type, source, url, deleted_at)
            SELECT '\(sessions[0])', 'image', 'sdxl', '', now() FROM generate_series(1, 3);
            UPDATE assets SET source_image_id = (SELECT max(id::text)::uuid FROM assets) WHERE id <> (SELECT max(id::text)::uuid FROM assets);
            INSERT INTO generation_costs (session_id, category, amount, asset_id)
            SELECT '\(sessions[1])', 'llm', 1, (SELECT min(id::text)::uuid FROM assets);
            INSERT INTO websocket_connections (session_id, connection_id) VALUES ('\(sessions[2])', 'a');
            UPDATE sessions SET deleted_at = now(); UPDATE users SET deleted_at = now()
            """)
        #expect(try await TestDatabase.current.with { try kinds(of: check, on: $0) } == [])
        for (statement, expected) in [
            ("DELETE FROM users", ["session", "session", "session"]),
            ("DELETE FROM sessions WHERE id = '\(sessions[0])'", ["asset", "asset", "asset"]),
            ("DELETE FROM sessions WHERE id = '\(sessions[1])'", ["cost"]),
            ("DELETE FROM sessions WHERE id = '\(sessions[2])'", ["connection"]),
            ("DELETE FROM assets WHERE id = (SELECT asset_id FROM generation_costs)", ["asset of cost"]),
            ("DELETE FROM assets WHERE source_image_id IS NULL", ["source image", "source image"]),
        ] {
            try await TestDatabase.current.with { connection in
                try connection.execute("SET search_path = advideo; SET session_replication_role = replica; BEGIN")
                try connection.execute(statement)
                #expect(try kinds(of: check, on: connection) == expected, "\(statement)")
                try connection.execute("ROLLBACK")
            }
        }
    }
}
