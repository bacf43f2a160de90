import Postgres
import TestSupport
import Testing

/// Random imports, publications and takedowns by 20 connections: nothing is there twice, and nothing removed comes
/// back.
@Suite(.database(.systems), .timeLimit(.minutes(60)))
struct PublisherModelTests {
    private static func id(_ generator: inout SeededGenerator) -> String {
        "p\(Int.random(in: 100..<160, using: &generator))"
    }

    private static let calls: [RandomCalls.Call] = [
        .init("import", weight: 4) { connection, generator in
            // Each content under two ids.
            let first = Int.random(in: 100..<160, using: &generator)
            try connection.query(
                """
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash)
                SELECT 'p' || g, 't', 's', now(), 'h' || g / 2 FROM generate_series($1::int, $1::int + 10) g
                ORDER BY 1 ON CONFLICT DO NOTHING
                """, [first])
        },
        .init("import again", weight: 2) { connection, generator in
            try connection.query(
                """
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, score) VALUES ($1, 't', 's', now(), 7)
                ON CONFLICT (reddit_post_id) DO UPDATE SET score = EXCLUDED.score, title = EXCLUDED.title
                """, [Self.id(&generator)])
        },
        .init("import everything") { connection, generator in
            try connection.query(
                """
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts) VALUES ($1, 't', 's', now())
                ON CONFLICT (reddit_post_id) DO UPDATE SET takedown_status = EXCLUDED.takedown_status
                """, [Self.id(&generator)])
        },
        .init("analyse", weight: 3) { connection, generator in
            let id = Self.id(&generator)
            try connection.query(
                """
                WITH p AS (UPDATE posts SET tags = '["a"]', summary_ko = 's' WHERE reddit_post_id = $1 RETURNING id)
                INSERT INTO token_usage (post_id, service, model, input_tokens, cost_usd)
                SELECT id, 's', 'm', 10, 0.001 FROM p
                """, [id])
        },
        .init("publish", weight: 3) { connection, generator in
            let id = Self.id(&generator)
            try connection.query(
                "UPDATE posts SET ghost_post_id = $2, ghost_url = 'u' WHERE reddit_post_id = $1",
                [id, "g\(Int.random(in: 0..<200, using: &generator))"])
        },
        .init("ask for a takedown") { connection, generator in
            try connection.query(
                "UPDATE posts SET takedown_status = 'takedown_pending' WHERE reddit_post_id = $1", [Self.id(&generator)]
            )
        },
        .init("remove") { connection, generator in
            try connection.query(
                """
                WITH removed AS (
                    UPDATE posts SET takedown_status = 'removed', ghost_post_id = NULL, ghost_url = NULL
                    WHERE reddit_post_id = $1 AND takedown_status <> 'removed' RETURNING id)
                INSERT INTO processing_logs (post_id, service_name, status) SELECT id, 'takedown', 'removed' FROM removed
                """, [Self.id(&generator)])
        },
        .init("revive") { connection, generator in
            try connection.query(
                "UPDATE posts SET takedown_status = 'active' WHERE reddit_post_id = $1", [Self.id(&generator)])
        },
        .init("log", weight: 2) { connection, generator in
            try connection.query(
                """
                INSERT INTO processing_logs (post_id, service_name, status)
                SELECT id, 'collector', 'ok' FROM posts WHERE reddit_post_id = $1
                """, [Self.id(&generator)])
        },
        .init("delete") { connection, generator in
            // What was removed is kept.
            try connection.query(
                "DELETE FROM posts WHERE reddit_post_id = $1 AND takedown_status = 'active'", [Self.id(&generator)])
        },
        .init("dashboard") { connection, _ in
            try connection.query(
                "SELECT takedown_status, count(*) FROM posts WHERE takedown_status <> 'active' GROUP BY 1")
        },
    ]

    private static let invariants: [RandomCalls.Invariant] = [
        .init("an id is there once", "SELECT reddit_post_id FROM posts GROUP BY 1 HAVING count(*) > 1"),
        .init(
            "a content is there once",
            "SELECT content_hash FROM posts WHERE content_hash IS NOT NULL GROUP BY 1 HAVING count(*) > 1"),
        .init(
            "a place in Ghost is there once",
            "SELECT ghost_post_id FROM posts WHERE ghost_post_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"),
        .init(
            "what was removed is removed, and not published",
            """
            SELECT p.reddit_post_id, p.takedown_status, p.ghost_post_id FROM posts p
            WHERE EXISTS (SELECT FROM processing_logs l WHERE l.post_id = p.id AND l.service_name = 'takedown')
                AND (p.takedown_status <> 'removed' OR p.ghost_post_id IS NOT NULL OR p.ghost_url IS NOT NULL)
            """),
        .init(
            "what is removed was taken down once",
            """
            SELECT p.reddit_post_id FROM posts p WHERE p.takedown_status = 'removed' AND 1 <> (
                SELECT count(*) FROM processing_logs l WHERE l.post_id = p.id AND l.service_name = 'takedown')
            """),
        .init(
            "usage is of a post",
            "SELECT * FROM token_usage t WHERE NOT EXISTS (SELECT FROM posts p WHERE p.id = t.post_id)"),
    ]

    @Test func `random calls break nothing`() async throws {
        try await RandomCalls(
            schema: "publisher", calls: Self.calls, invariants: Self.invariants,
            // 23505: another post has the place in Ghost. 23503: the post has just been deleted.
            refusals: ["23514", "23505", "23503"]
        ).run()
    }
}
