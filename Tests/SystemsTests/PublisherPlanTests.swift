import Postgres
import TestSupport
import Testing

/// What a dashboard or a worker asks of the publisher reads no growing table from end to end.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct PublisherPlanTests {
    private static let tables: Set<String> = ["posts", "media_files", "processing_logs", "token_usage"]

    @Test func `no query scans a table that grows`() async throws {
        try await TestDatabase.current.execute(
            """
            SET search_path = publisher;
            INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash, ghost_post_id, takedown_status)
            SELECT 'p' || g, 't', 's' || g % 50, now() - g * interval '1 min', 'h' || g,
                CASE WHEN g % 10 > 0 THEN 'g' || g END,
                CASE WHEN g % 500 = 0 THEN 'takedown_pending' WHEN g % 500 = 1 THEN 'removed' ELSE 'active' END
            FROM generate_series(1, 20000) g;
            INSERT INTO processing_logs (post_id, service_name, status, created_at)
            SELECT id, 'collector', 'ok', created_ts FROM posts;
            INSERT INTO token_usage (post_id, service, model, cost_usd, created_at)
            SELECT id, 's', 'm', 0.001, created_ts FROM posts;
            INSERT INTO media_files (post_id, original_url) SELECT id, 'u' FROM posts;
            """, "VACUUM ANALYZE")
        for query in Self.queries {
            try await StatementPlans.expectNoSequentialScan(of: Self.tables, in: query, schema: "publisher")
        }
    }

    private static let post = "(SELECT id FROM posts WHERE reddit_post_id = 'p4711')"

    private static let queries = [
        "SELECT * FROM posts WHERE reddit_post_id = 'p4711'", "SELECT * FROM posts WHERE content_hash = 'h4711'",
        "SELECT * FROM posts WHERE ghost_post_id = 'g4711'", "SELECT * FROM posts ORDER BY created_ts DESC LIMIT 20",
        "SELECT * FROM posts WHERE subreddit = 's7' ORDER BY created_ts DESC LIMIT 20",
        // What is to be published, and whose second stage is due.
        "SELECT * FROM posts WHERE ghost_post_id IS NULL AND takedown_status = 'active' ORDER BY created_ts LIMIT 20",
        "SELECT count(*) FROM posts WHERE ghost_post_id IS NULL AND takedown_status = 'active'",
        "SELECT * FROM posts WHERE takedown_status = 'takedown_pending' AND updated_at < now() - interval '72 hours'",
        "SELECT takedown_status, count(*) FROM posts WHERE takedown_status <> 'active' GROUP BY takedown_status",
        "SELECT service, sum(cost_usd), sum(input_tokens) FROM token_usage WHERE created_at >= date_trunc('day', now()) GROUP BY 1",
        "SELECT status, count(*) FROM processing_logs WHERE created_at > now() - interval '1 day' GROUP BY status",
        "SELECT * FROM processing_logs WHERE post_id = \(post)", "SELECT * FROM media_files WHERE post_id = \(post)",
        "SELECT sum(cost_usd) FROM token_usage WHERE post_id = \(post)",
        "UPDATE posts SET takedown_status = 'takedown_pending' WHERE reddit_post_id = 'p4711'",
        "DELETE FROM posts WHERE reddit_post_id = 'p4711'",
        """
        INSERT INTO posts (reddit_post_id, title, subreddit, created_ts) VALUES ('p4711', 't', 's', now())
        ON CONFLICT (reddit_post_id) DO UPDATE SET score = EXCLUDED.score
            WHERE EXISTS (SELECT FROM posts p WHERE p.reddit_post_id = 'p4711')
        """,
    ]
}
