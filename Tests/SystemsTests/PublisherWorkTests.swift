import Foundation
import Postgres
import TestSupport
import Testing

/// Posts under concurrent imports, takedowns that only go forward, and what the tables refuse.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct PublisherWorkTests {
    private func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await TestDatabase.current.with { connection in
            try connection.execute(
                """
                SET search_path = publisher;
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash, ghost_post_id)
                VALUES ('a', 'A', 'webdev', now(), 'hash', 'ghost')
                """)
            return try body(connection)
        }
    }

    private static func fails(
        _ statement: String, _ connection: isolated Connection, state: String = "23514",
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let error = #expect(throws: PostgresError.self, sourceLocation: sourceLocation) {
            try connection.execute(statement)
        }
        #expect(error?.sqlState == state, "\(statement)", sourceLocation: sourceLocation)
        if state == "23514", error?.constraint == nil {
            #expect(error?.hint != nil, "\(statement)", sourceLocation: sourceLocation)
        }
    }

    @Test func `a takedown goes through both stages, and never back`() async throws {
        try await with { connection in
            try Self.fails("UPDATE posts SET takedown_status = 'removed'", connection)
            try connection.execute("UPDATE posts SET takedown_status = 'active', score = 2")
            try connection.execute("UPDATE posts SET takedown_status = 'takedown_pending'")
            try Self.fails("UPDATE posts SET takedown_status = 'active'", connection)
            try Self.fails("UPDATE posts SET takedown_status = NULL", connection, state: "23502")
            try connection.execute("UPDATE posts SET takedown_status = 'takedown_pending', score = 3")
            try connection.execute("UPDATE posts SET takedown_status = 'removed'")
            try Self.fails("UPDATE posts SET takedown_status = 'active'", connection)
            try Self.fails("UPDATE posts SET takedown_status = 'takedown_pending'", connection)
            try Self.fails("UPDATE posts SET takedown_status = NULL", connection, state: "23502")
        }
    }

    @Test func `a removed post is not published again, and its place in Ghost can be cleared`() async throws {
        try await with { connection in
            try connection.execute(
                """
                UPDATE posts SET takedown_status = 'takedown_pending';
                UPDATE posts SET ghost_post_id = 'published just before', ghost_url = 'u', ghost_slug = 's';
                UPDATE posts SET takedown_status = 'removed'
                """)
            for column in ["ghost_post_id", "ghost_url", "ghost_slug"] {
                try Self.fails("UPDATE posts SET \(column) = 'again'", connection)
            }
            try connection.execute("UPDATE posts SET ghost_post_id = NULL, ghost_url = NULL, ghost_slug = NULL")
            for column in ["ghost_post_id", "ghost_url", "ghost_slug"] {
                try Self.fails("UPDATE posts SET \(column) = 'again'", connection)
            }
            // What the subject wrote can still be erased.
            try connection.execute("UPDATE posts SET title = '', summary_ko = NULL, tags = NULL")
        }
    }

    @Test func `a removed post is not revived by an import`() async throws {
        try await with { connection in
            try connection.execute(
                """
                UPDATE posts SET takedown_status = 'takedown_pending'; UPDATE posts SET content_hash = 'other';
                UPDATE posts SET takedown_status = 'removed', content_hash = 'other'
                """)
            let values = "(reddit_post_id, title, subreddit, created_ts, score, content_hash)"
            try connection.execute(
                """
                INSERT INTO posts \(values) VALUES ('a', 'A', 's', now(), 5, 'hash') ON CONFLICT DO NOTHING;
                INSERT INTO posts \(values) VALUES ('a', 'A', 's', now(), 5, 'edited')
                ON CONFLICT (reddit_post_id) DO UPDATE SET score = EXCLUDED.score, content_hash = EXCLUDED.content_hash;
                INSERT INTO posts \(values) VALUES ('posted again', 'A', 's', now(), 5, 'hash') ON CONFLICT DO NOTHING;
                """)
            try Self.fails(
                """
                INSERT INTO posts \(values) VALUES ('a', 'A', 's', now(), 5, 'hash')
                ON CONFLICT (reddit_post_id) DO UPDATE SET takedown_status = EXCLUDED.takedown_status
                """, connection)
            try Self.fails("UPDATE posts SET reddit_post_id = 'out of the way'", connection)
            let rows = try connection.query(
                "SELECT reddit_post_id || ' ' || takedown_status || ' ' || score FROM posts")
            #expect(try rows.map { try $0.get(0, as: String.self) } == ["a removed 5"])
        }
    }

    @Test func `content is there once, and posts without a hash are as many as there are`() async throws {
        try await with { connection in
            try Self.fails(
                """
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash)
                VALUES ('b', 'B', 's', now(), 'hash')
                """, connection, state: "23505")
            try connection.execute(
                "INSERT INTO posts (reddit_post_id, title, subreddit, created_ts) VALUES ('b', '', 's', now()), ('c', '', 's', now())"
            )
            try Self.fails("UPDATE posts SET content_hash = 'hash'", connection, state: "23505")
        }
    }

    /// 20 imports of overlapping posts, each also with reposts of the others' content, by one key and by both.
    @Test func `concurrent imports keep each post and each content once`() async throws {
        let database = try TestDatabase.current
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask {
                    try await database.with { connection in
                        try connection.execute("SET search_path = publisher; SET deadlock_timeout = '100ms'")
                        for round in 0..<5 {
                            try connection.execute(
                                """
                                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash)
                                SELECT id, id, 's', now(), hash FROM (
                                    SELECT 'p' || g AS id, 'h' || g AS hash FROM generate_series(1, 100) g
                                    UNION ALL SELECT 'r\(number)-' || g, 'h' || g FROM generate_series(1, 100) g) x
                                ORDER BY id ON CONFLICT DO NOTHING;
                                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, score)
                                SELECT 'p' || g, '', 's', now(), \(round) FROM generate_series(1, 100) g ORDER BY 1
                                ON CONFLICT (reddit_post_id) DO UPDATE SET score = EXCLUDED.score
                                """)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let counts: String = try await database.value(
            """
            SELECT format('%s %s', count(DISTINCT reddit_post_id), count(DISTINCT content_hash)) FROM publisher.posts
            HAVING count(*) = count(DISTINCT reddit_post_id)
            """)
        #expect(counts == "100 100")
    }

    @Test(arguments: [
        "UPDATE posts SET tags = '{}'", "UPDATE posts SET tags = '\"a, b\"'", "UPDATE posts SET pain_points = '\"[]\"'",
        "UPDATE posts SET pain_points = '1'", "UPDATE posts SET product_ideas = 'true'",
        "UPDATE posts SET num_comments = -1", "UPDATE posts SET reddit_post_id = ''",
        "UPDATE posts SET content_hash = ''", "UPDATE posts SET ghost_post_id = ''",
        "UPDATE posts SET content_hash = repeat('x', 201)", "UPDATE posts SET takedown_status = 'deleted'",
        "INSERT INTO media_files (original_url, file_size) VALUES ('u', -1)",
        "INSERT INTO processing_logs (service_name, status, processing_time_ms) VALUES ('s', 'ok', -1)",
        "INSERT INTO token_usage (service, model, input_tokens) VALUES ('s', 'm', -1)",
        "INSERT INTO token_usage (service, model, output_tokens) VALUES ('s', 'm', -1)",
        "INSERT INTO token_usage (service, model, cost_usd) VALUES ('s', 'm', -0.000001)",
        "INSERT INTO token_usage (service, model, cost_usd) VALUES ('s', 'm', 'NaN')",
    ])
    func `a row that makes no sense is refused`(statement: String) async throws {
        try await with { connection in try Self.fails(statement, connection) }
    }

    @Test func `what an analysis and a provider give is taken`() async throws {
        try await with { connection in
            try connection.execute(
                """
                UPDATE posts SET tags = '["a", "b"]', pain_points = '[]', product_ideas = '{"ideas": []}', score = -5;
                UPDATE posts SET tags = 'null', pain_points = '{}', product_ideas = '[{"idea": 1}]';
                UPDATE posts SET tags = NULL, pain_points = 'null', product_ideas = NULL;
                INSERT INTO token_usage (service, model, cost_usd) VALUES ('s', 'm', 0), ('s', 'm', 9999.999999);
                INSERT INTO token_usage (service, model, input_tokens) VALUES ('s', 'm', NULL)
                """)
            try Self.fails(
                "INSERT INTO token_usage (service, model, cost_usd) VALUES ('s', 'm', 'Infinity')", connection,
                state: "22003")
        }
    }

    @Test func `everybody executes nothing`() async throws {
        #expect(try await ExecuteRights.lines(schema: "publisher") == [])
        #expect(try await ExecuteRights.careless(schema: "publisher") == [])
        let open: [String]? = try await TestDatabase.current.value(
            """
            SELECT array_agg(p.oid::regprocedure::text) FROM pg_proc p
            WHERE p.pronamespace IN ('publisher'::regnamespace, 'posters'::regnamespace)
                AND p.prorettype = 'trigger'::regtype AND has_function_privilege('anon', p.oid, 'EXECUTE')
            """)
        #expect(open == nil)
    }
}
