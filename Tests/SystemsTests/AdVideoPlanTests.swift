import Foundation
import Postgres
import TestSupport
import Testing

/// The queries of the specification, and what workers do, read tables that grow by indexes only.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct AdVideoPlanTests {
    private static let session = "'00000000-0000-4000-8000-000000000001'"
    private static let tables: Set<String> = [
        "sessions", "assets", "generation_costs", "websocket_connections", "users",
    ]

    /// As word for word as a parameter allows.
    static let queries = [
        """
        SELECT
            s.*,
            (
                SELECT json_agg(a.* ORDER BY a.created_at)
                FROM assets a
                WHERE a.session_id = s.id AND a.type = 'image'
            ) AS images,
            (
                SELECT json_agg(a.* ORDER BY a.created_at)
                FROM assets a
                WHERE a.session_id = s.id AND a.type = 'video_clip'
            ) AS video_clips,
            (
                SELECT json_agg(a.*)
                FROM assets a
                WHERE a.session_id = s.id AND a.type = 'final_video'
            ) AS final_video
        FROM sessions s
        WHERE s.id = \(session)
        """,
        """
        SELECT
            a.*
        FROM assets a
        WHERE
            a.session_id = \(session)
            AND a.user_selected = TRUE
            AND a.deleted_at IS NULL
        ORDER BY a.selection_order ASC, a.created_at ASC
        """,
        """
        SELECT
            gc.category,
            gc.provider,
            COUNT(*) AS api_calls,
            SUM(gc.amount) AS total_cost,
            AVG(gc.api_latency_ms) AS avg_latency_ms
        FROM generation_costs gc
        WHERE gc.session_id = \(session)
        GROUP BY gc.category, gc.provider
        ORDER BY total_cost DESC
        """,
        """
        SELECT
            s.*,
            COUNT(DISTINCT a.id) FILTER (WHERE a.type = 'image') AS image_count,
            COUNT(DISTINCT a.id) FILTER (WHERE a.type = 'video_clip') AS clip_count
        FROM sessions s
        LEFT JOIN assets a ON a.session_id = s.id
        WHERE
            s.user_id = 1
            AND s.status != 'completed'
            AND s.deleted_at IS NULL
        GROUP BY s.id
        ORDER BY s.updated_at DESC
        """,
        // Stale connections; completed sessions older than 30 days.
        "SELECT id FROM websocket_connections WHERE disconnected_at IS NULL AND last_heartbeat_at < now() - interval '1 minute'",
        "SELECT id FROM sessions WHERE status = 'completed' AND completed_at < now() - interval '30 days'",
        "UPDATE assets SET user_selected = TRUE, selection_order = 1 WHERE id = \(session)",
        "INSERT INTO generation_costs (session_id, category, amount) VALUES (\(session), 'llm', 1)",
        "INSERT INTO generation_costs (session_id, category, amount) SELECT id, 'llm', 1 FROM sessions WHERE user_id = 2",
        "UPDATE generation_costs SET amount = 2 WHERE session_id = \(session)",
        "DELETE FROM generation_costs WHERE session_id = \(session)",
        "UPDATE sessions SET total_cost = NULL WHERE id = \(session)",
        "DELETE FROM assets WHERE id = \(session)",
        "DELETE FROM sessions WHERE id = \(session)",
        "DELETE FROM users WHERE id = 2",
    ]

    /// One user has most of the sessions, nearly all completed; one session has most of the assets and costs.
    private func fill() async throws {
        try await TestDatabase.current.execute(
            """
            SET search_path = advideo;
            ALTER TABLE sessions DISABLE TRIGGER USER;
            INSERT INTO users (email, password_hash) SELECT n::text, 'x' FROM generate_series(1, 2000) n;
            INSERT INTO sessions (id, user_id, status, updated_at, completed_at)
            SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, CASE WHEN n % 2 = 0 THEN 1 ELSE n % 2000 + 1 END,
                (CASE WHEN n % 500 = 0 THEN 'composing' ELSE 'completed' END)::session_status, now() - n * interval '1 minute',
                now() - n * interval '1 minute'
            FROM generate_series(1, 20000) n;
            INSERT INTO assets (session_id, type, source, url, user_selected)
            SELECT ('00000000-0000-4000-8000-' || lpad((CASE WHEN n % 10 = 0 THEN 1 ELSE n END)::text, 12, '0'))::uuid,
                'image', 'sdxl', '', n % 100 = 0
            FROM generate_series(1, 20000) n;
            ALTER TABLE generation_costs DISABLE TRIGGER USER;
            INSERT INTO generation_costs (session_id, category, amount)
            SELECT ('00000000-0000-4000-8000-' || lpad((CASE WHEN n % 10 = 0 THEN 1 ELSE n END)::text, 12, '0'))::uuid, 'llm', 1
            FROM generate_series(1, 20000) n;
            ALTER TABLE generation_costs ENABLE TRIGGER USER;
            ALTER TABLE sessions ENABLE TRIGGER USER;
            UPDATE sessions SET total_cost = NULL;
            INSERT INTO websocket_connections (session_id, connection_id, last_heartbeat_at, disconnected_at)
            SELECT id, id::text, updated_at, CASE WHEN status = 'completed' THEN updated_at END FROM sessions;
            """)
        for table in Self.tables.sorted() { try await TestDatabase.current.execute("VACUUM ANALYZE advideo.\(table)") }
    }

    @Test func `no query of the specification and nothing that a worker does scans a table`() async throws {
        try await fill()
        for query in Self.queries {
            try await StatementPlans.expectNoSequentialScan(of: Self.tables, in: query, schema: "advideo")
        }
    }

    @Test func `active sessions and the mood board read what they show, not what a user or a session has`() async throws
    {
        try await fill()
        func read(_ number: Int, _ table: String) async throws -> Int {
            try await TestDatabase.current.with { connection in
                try connection.execute("SET search_path = advideo")
                let plan = try connection.query(
                    "EXPLAIN (ANALYZE, VERBOSE false, TIMING off, FORMAT JSON) \(Self.queries[number])")
                let text = try #require(plan.first).get(0, as: String.self)
                let nodes = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]]
                func rows(_ node: Any?) -> Int {
                    guard let node = node as? [String: Any] else { return 0 }
                    let filtered = (node["Rows Removed by Filter"] as? Int ?? 0) + (node["Actual Rows"] as? Int ?? 0)
                    let own = node["Relation Name"] as? String == table ? filtered : 0
                    return own + ((node["Plans"] as? [Any]) ?? []).reduce(0) { $0 + rows($1) }
                }
                return rows(nodes?.first?["Plan"])
            }
        }
        #expect(try await read(3, "sessions") == 40)
        #expect(try await read(1, "assets") == 200)
    }

    /// A session with many costs gets one more without a sum over all.
    @Test func `one more cost reads no other cost`() async throws {
        try await fill()
        for sql in [
            "INSERT INTO generation_costs (session_id, category, amount) VALUES (\(Self.session), 'llm', 1)",
            "COPY generation_costs (session_id, category, amount) FROM PROGRAM 'printf ''00000000-0000-4000-8000-000000000001\\tllm\\t1\\n'''",
        ] {
            let scans = try await StatementPlans.scans(of: sql, schema: "advideo")
            #expect(scans.contains { $0.table == "sessions" })
            #expect(scans.filter { $0.table == "generation_costs" && $0.node != "ModifyTable" } == [])
        }
    }
}
