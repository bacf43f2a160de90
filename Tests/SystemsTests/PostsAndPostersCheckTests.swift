import Foundation
import Postgres
import TestSupport
import Testing

/// The checks of restored databases: they pass for whatever the systems may hold, and fail for what they may not.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct PostsAndPostersCheckTests {
    /// The number of rows of each check of a system.
    private func findings(_ system: String) async throws -> [String: Int] {
        let folder = "\(ShippedFixture.repository)/backups/checks/\(system)"
        var counts: [String: Int] = [:]
        for file in try FileManager.default.contentsOfDirectory(atPath: folder) {
            let sql = try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8)
                .replacing("%schema%", with: system)
            counts[file] = try await TestDatabase.current.with { try $0.query(sql).count }
        }
        return counts
    }

    @Test func `what an application may leave in posters passes`() async throws {
        try await TestDatabase.current.execute(
            """
            SET search_path = posters;
            -- Posters before their batch, logs and failures of none, a total that is not known, items without posters,
            -- more posters than items, counters that were written one after the other, a batch deleted before its posters.
            INSERT INTO generated_posters (job_id, status) VALUES ('early', 'completed');
            INSERT INTO job_logs (job_id, message) VALUES ('system', 'm');
            INSERT INTO poster_failure_details (job_id, username) VALUES ('none', 'u');
            INSERT INTO batch_jobs (job_id, status, total_items, processed_items, success_count, failure_count) VALUES
                ('stream', 'processing', 0, 5, 5, 0), ('profiles', 'completed', 157, 157, 155, 2),
                ('twice', 'processing', 2, 4, 4, 0), ('half', 'processing', 10, 0, 3, 1), ('over', 'completed', 1, 0, 3, 0);
            INSERT INTO generated_posters (job_id) SELECT 'twice' FROM generate_series(1, 4);
            INSERT INTO batch_jobs (job_id) VALUES ('gone');
            INSERT INTO generated_posters (job_id) VALUES ('gone');
            DELETE FROM batch_jobs WHERE job_id = 'gone';
            """)
        #expect(try await findings("posters") == ["batches.sql": 0, "orphans.sql": 0])
    }

    @Test func `what an application may leave in publisher passes`() async throws {
        try await TestDatabase.current.execute(
            """
            SET search_path = publisher;
            INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, takedown_status, ghost_post_id) VALUES
                ('a', '', '', now(), 'active', NULL), ('b', '', '', now(), 'removed', 'left in Ghost'),
                ('c', '', '', now(), 'takedown_pending', NULL);
            INSERT INTO token_usage (service, model) VALUES ('s', 'm');
            INSERT INTO processing_logs (service_name, status) VALUES ('s', 'ok');
            INSERT INTO media_files (original_url) VALUES ('u');
            """)
        #expect(try await findings("publisher") == ["posts.sql": 0])
    }

    /// As after a restore that lost constraints and rows.
    @Test func `what no application may leave fails`() async throws {
        try await TestDatabase.current.execute(
            """
            SET search_path = posters;
            ALTER TABLE batch_jobs DROP CONSTRAINT batch_jobs_job_id_key;
            ALTER TABLE batch_jobs DROP CONSTRAINT batch_jobs_failure_count_check;
            ALTER TABLE poster_failure_details DROP CONSTRAINT poster_failure_details_poster_id_fkey;
            INSERT INTO batch_jobs (job_id) VALUES ('a'), ('a');
            INSERT INTO batch_jobs (job_id, failure_count) VALUES ('b', -1);
            INSERT INTO poster_failure_details (job_id, poster_id) VALUES ('a', gen_random_uuid());
            SET search_path = publisher;
            DROP INDEX idx_posts_reddit_post_id;
            ALTER TABLE posts DROP CONSTRAINT posts_reddit_post_id_key, DROP CONSTRAINT uq_posts_content_hash,
                DROP CONSTRAINT uq_posts_ghost_post_id;
            ALTER TABLE token_usage DROP CONSTRAINT token_usage_post_id_fkey;
            ALTER TABLE media_files DROP CONSTRAINT media_files_post_id_fkey;
            ALTER TABLE processing_logs DROP CONSTRAINT processing_logs_post_id_fkey;
            INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash, ghost_post_id) VALUES
                ('a', '', '', now(), 'h', 'g'), ('a', '', '', now(), 'h', 'g');
            INSERT INTO token_usage (post_id, service, model) VALUES (gen_random_uuid(), 's', 'm');
            INSERT INTO media_files (post_id, original_url) VALUES (gen_random_uuid(), 'u');
            INSERT INTO processing_logs (post_id, service_name, status) VALUES (gen_random_uuid(), 's', 'ok');
            """)
        #expect(try await findings("posters") == ["batches.sql": 2, "orphans.sql": 1])
        #expect(try await findings("publisher") == ["posts.sql": 6])
    }
}
