import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct VideoGenTests {
    @discardableResult
    private func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = videogen")
            return try body(connection)
        }
    }

    private func job(on connection: isolated Connection, ip: String = "127.0.0.1") throws -> UUID {
        try #require(
            try connection.query("SELECT create_job('mp4', 1920, 1080, 25, $1::inet, 'test-agent', '{}')", [ip]).first
        ).get(0)
    }

    @Test func `the types have their labels in order, and there are as many functions and views as told`() async throws
    {
        try await with { connection in
            for (type, labels) in [
                ("job_status", "{pending,processing,completed,failed,cancelled,timeout}"),
                ("element_type", "{video,image,audio,text,overlay}"), ("fit_mode", "{auto,contain,cover,fill,stretch}"),
                ("processing_step", "{validation,download,processing,composition,encoding,upload,cleanup}"),
                ("storage_operation", "{upload,download,delete,access}"), ("response_type", "{immediate,async}"),
            ] {
                #expect(
                    try connection.query("SELECT enum_range(NULL::\(type))::text").first?.get(0, as: String.self)
                        == labels)
            }
            let functions = try connection.query(
                "SELECT count(*) FROM pg_proc WHERE pronamespace = 'videogen'::regnamespace"
            ).first
            #expect(try functions?.get(0, as: Int.self) ?? 0 >= 20)
            let views = try connection.query("SELECT count(*) FROM pg_views WHERE schemaname = 'videogen'").first
            #expect(try views?.get(0, as: Int.self) ?? 0 >= 10)
            let loose = try connection.query(
                "SELECT proname::text FROM pg_proc WHERE pronamespace = 'videogen'::regnamespace AND NOT coalesce(proconfig::text, '') LIKE '%search_path%'"
            )
            #expect(loose.isEmpty)
        }
    }

    @Test func `progress follows steps and elements`() async throws {
        try await with { connection in
            let job = try job(on: connection)
            let progress = { () throws -> String in
                try #require(try connection.query("SELECT calculate_job_progress($1)", [job]).first).get(
                    0, as: String.self
                ).description
            }
            #expect(try progress() == "0.00")
            let elements = try connection.query(
                "SELECT add_job_element($1, 'image', 'https://a', g) FROM generate_series(0, 1) g", [job])
            try connection.query("SELECT * FROM claim_next_job('worker')")
            let step = { (name: String, success: Bool) throws -> Void in
                let id = try connection.query("SELECT start_processing_step($1, $2::processing_step)", [job, name])
                    .first?.get(0, as: UUID.self)
                try connection.query("SELECT complete_processing_step($1, $2)", [id, success])
            }
            try step("validation", true)
            try step("download", true)
            #expect(try progress() == "20.00")
            try connection.query(
                "SELECT update_element_status($1, 'completed')", [try elements[0].get(0, as: UUID.self)])
            #expect(try progress() == "35.00")
            let row = try #require(try connection.query("SELECT * FROM jobs").first)
            #expect(try row.get("progress_percentage", as: String.self) == "35.00")
            #expect(try row.get("current_step", as: String.self) == "download")
            try step("processing", true)
            try step("encoding", false)
            #expect(try progress() == "50.00")
            try connection.query("SELECT complete_job($1, 'https://out', 1000)", [job])
            #expect(try progress() == "100.00")
            let timeline = try connection.query("SELECT * FROM get_job_timeline($1)", [job])
            #expect(timeline.count == 4)
            #expect(try timeline.allSatisfy { try $0.get("duration_ms", as: Int?.self) != nil })
            #expect(
                try connection.query("SELECT calculate_job_progress(gen_random_uuid())").first?.get(
                    0, as: String?.self) == nil)
        }
    }

    @Test func `a job goes only where it can go, and its times are kept`() async throws {
        try await with { connection in
            let job = try job(on: connection)
            try connection.query("SELECT update_job_status($1, 'processing')", [job])
            try connection.query("SELECT fail_job($1, 'no codec', 'codec')", [job])
            let failed = try #require(try connection.query("SELECT * FROM failed_jobs").first)
            #expect(try failed.get("may_be_retried", as: Bool.self))
            #expect(throws: PostgresError.self) {
                _ = try connection.query("SELECT update_job_status($1, 'completed')", [job])
            }
            #expect(try connection.query("SELECT retry_job($1)", [job]).first?.get(0, as: Bool.self) == true)
            #expect(try connection.query("SELECT cancel_job($1)", [job]).first?.get(0, as: Bool.self) == true)
            let row = try #require(
                try connection.query("SELECT status::text, retry_count, completed_at IS NOT NULL FROM jobs").first)
            #expect(try row.get(0, as: String.self) == "cancelled")
            #expect(try row.get(1, as: Int.self) == 1)
            #expect(try row.get(2, as: Bool.self))
            for bad in [
                "SELECT create_job('mp4', 1921, 1080)", "SELECT create_job('mp4', 0, 10)",
                "SELECT create_job('exe', 10, 10)",
                "INSERT INTO elements (job_id, element_type) SELECT id, 'image' FROM jobs",
                "INSERT INTO elements (job_id, element_type) SELECT id, 'text' FROM jobs",
            ] {
                #expect(throws: PostgresError.self, "\(bad)") { _ = try connection.execute(bad) }
            }
        }
    }

    @Test func `workers that claim at once never get the same job`() async throws {
        let database = try TestDatabase.current
        try await with { connection in
            try connection.execute("SELECT create_job('mp4', 2, 2, priority => g % 3) FROM generate_series(1, 60) g")
        }
        let claimed = try await withThrowingTaskGroup(of: [UUID].self) { group in
            for worker in 0..<6 {
                group.addTask {
                    try await database.with { connection in
                        var mine: [UUID] = []
                        while let row = try connection.query(
                            "SELECT id FROM videogen.claim_next_job($1)", ["w\(worker)"]
                        ).first {
                            mine.append(try row.get(0))
                        }
                        return mine
                    }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(claimed.count == 60 && Set(claimed).count == 60)
    }

    @Test func `stalled jobs are ended and put back while they have retries`() async throws {
        try await with { connection in
            let first = try job(on: connection)
            let second = try job(on: connection)
            try connection.execute("SELECT claim_next_job('w'); SELECT claim_next_job('w')")
            try connection.execute("ALTER TABLE jobs DISABLE TRIGGER touch_jobs")
            try connection.query(
                "UPDATE jobs SET updated_at = now() - interval '1 hour', retry_count = CASE WHEN id = $1 THEN 3 ELSE 0 END",
                [first])
            try connection.execute("ALTER TABLE jobs ENABLE TRIGGER touch_jobs")
            let stalled = try connection.query("SELECT * FROM active_jobs WHERE processing_health = 'stalled'")
            #expect(stalled.count == 2)
            #expect(try connection.query("SELECT timeout_stalled_jobs()").first?.get(0, as: Int.self) == 2)
            let states = try connection.query("SELECT status::text FROM jobs ORDER BY id = $1", [second])
            #expect(try states.map { try $0.get(0, as: String.self) } == ["timeout", "pending"])
        }
    }

    @Test func `statistics, health and views count what is there`() async throws {
        try await with { connection in
            for _ in 0..<4 { _ = try job(on: connection) }
            try connection.execute(
                """
                SELECT claim_next_job('w') FROM generate_series(1, 3);
                SELECT complete_job(id, 'https://o', 500) FROM (SELECT id FROM jobs WHERE status = 'processing' LIMIT 2) j;
                SELECT fail_job(id, 'broken', 'codec') FROM jobs WHERE status = 'processing';
                SELECT log_storage_operation(id, 'upload', 'b', 'k', g = 1, 1000000, 500) FROM generate_series(1, 2) g, (SELECT id FROM jobs LIMIT 1) j;
                SELECT log_url_access(id, 'https://o', '10.0.0.1', bytes_sent => 100) FROM jobs WHERE status = 'completed';
                SELECT record_metric('cpu', 95, 'percent', alert_threshold => 90), record_metric('cpu', 50, 'percent', alert_threshold => 90);
                """)
            let today = try #require(
                try connection.query("SELECT * FROM get_job_statistics((now() AT TIME ZONE 'UTC')::date)").first)
            #expect(
                try ["total_jobs", "pending_jobs", "completed_jobs", "failed_jobs"].map {
                    try today.get($0, as: Int.self)
                } == [4, 1, 2, 1])
            #expect(try today.get("success_rate", as: String.self) == "66.67")
            #expect(try today.get("total_output_bytes", as: Int.self) == 1000)
            let past = try #require(try connection.query("SELECT get_job_statistics('2024-01-01', '2024-01-31')").first)
            #expect(try past.get(0, as: String.self).hasPrefix("(0,0,0,0,0,0,0,,"))
            let storage = try #require(try connection.query("SELECT * FROM get_storage_statistics()").first)
            #expect(try storage.get("success_rate", as: String.self) == "50.00")
            #expect(try storage.get("megabytes_per_second", as: String.self) == "2.000")
            let health = try connection.query("SELECT check_name || ' ' || status FROM get_system_health() ORDER BY 1")
            #expect(
                try health.map { try $0.get(0, as: String.self) } == [
                    "alerts degraded", "failure_rate degraded", "queue_age healthy", "queue_length healthy",
                    "stalled_jobs healthy",
                    "storage_failures unhealthy",
                ])
            let completed = try connection.query("SELECT url_accesses FROM job_summary WHERE status = 'completed'")
            #expect(try completed.map { try $0.get(0, as: Int.self) } == [1, 1])
            for (view, rows) in [
                ("completed_jobs", 2), ("failed_jobs", 1), ("active_jobs", 1), ("hourly_job_statistics", 1),
                ("daily_job_statistics", 1),
                ("error_analysis", 1), ("recent_alerts", 1), ("url_access_analytics", 2), ("storage_performance", 1),
                ("system_health", 6),
                ("element_summary", 0), ("processing_step_performance", 0),
            ] {
                #expect(try connection.query("SELECT * FROM \(view)").count == rows, "\(view)")
            }
        }
    }

    @Test func `the rate limit counts an address's jobs in the window`() async throws {
        try await with { connection in
            for _ in 0..<3 { _ = try job(on: connection, ip: "10.1.2.3") }
            let allowed = { (sql: String) throws -> Bool in
                try #require(try connection.query("SELECT \(sql)").first).get(0)
            }
            #expect(try allowed("check_rate_limit('10.1.2.3', 100, '1 hour'::interval)"))
            #expect(try !allowed("check_rate_limit('10.1.2.3', 3, '1 hour'::interval)"))
            #expect(try allowed("check_rate_limit('10.1.2.4', 3, '1 hour'::interval)"))
            try connection.execute("UPDATE jobs SET created_at = now() - interval '2 hours'")
            #expect(try allowed("check_rate_limit('10.1.2.3', 3, '1 hour'::interval)"))
        }
    }

    @Test func `security events are logged by anybody and read by few`() async throws {
        try await with { connection in
            try connection.transaction {
                try connection.execute("SET LOCAL ROLE anon")
                try connection.execute("SELECT log_security_event('unauthorized_access', '{\"details\": \"...\"}')")
                #expect(throws: PostgresError.self) {
                    try connection.savepoint { try connection.execute("SELECT * FROM system_metrics") }
                }
                #expect(throws: PostgresError.self) {
                    try connection.savepoint { try connection.execute("SELECT * FROM videogen.pg_stat_statements") }
                }
            }
            let event = try #require(
                try connection.query("SELECT event_type, role, details->>'details' FROM security_log").first)
            #expect(try (0..<3).map { try event.get($0, as: String.self) } == ["unauthorized_access", "anon", "..."])
        }
    }

    @Test func `retention removes what is old, so many rows a call, and only admins may`() async throws {
        try await with { connection in
            _ = try job(on: connection)
            let old = try job(on: connection)
            try connection.query("UPDATE jobs SET created_at = now() - interval '31 days' WHERE id = $1", [old])
            try connection.query("SELECT add_job_element($1, 'image', 'https://a')", [old])
            try connection.execute(
                """
                SELECT record_metric('m', 1);
                INSERT INTO system_metrics (metric_name, metric_value, recorded_at) VALUES ('m', 1, now() - interval '8 days');
                INSERT INTO url_access_logs (url, accessed_at) VALUES ('u', now() - interval '91 days');
                """)
            let asRole = { (role: String, sql: String) throws -> String in
                try connection.transaction {
                    try connection.execute("SET LOCAL ROLE \(role)")
                    return try #require(try connection.query(sql).first).get(0)
                }
            }
            // One that is at work stays, whatever is asked for.
            try connection.transaction {
                try connection.execute("SET LOCAL ROLE admin")
                let atWork = try #require(try connection.query("SELECT id FROM claim_next_job('w')").first)
                try connection.execute("SELECT cleanup_old_jobs(0)")
                #expect(
                    try connection.query("SELECT FROM jobs WHERE id = $1", [atWork.get(0, as: UUID.self)]).count == 1)
                try connection.execute("ROLLBACK AND CHAIN")
            }
            for role in ["anon", "authenticated", "service_role", "service_account"] {
                for call in [
                    "cleanup_old_jobs(30)", "cleanup_old_metrics(7)", "cleanup_old_access_logs(90)",
                    "enforce_data_retention()", "rebuild_statistics()",
                ] {
                    let error = #expect(throws: PostgresError.self) { _ = try asRole(role, "SELECT \(call)::text") }
                    #expect(error?.sqlState == "42501")
                }
            }
            for role in ["anon", "authenticated"] {
                #expect(throws: PostgresError.self) { _ = try asRole(role, "SELECT timeout_stalled_jobs()::text") }
            }
            #expect(try asRole("admin", "SELECT cleanup_old_jobs(30)::text") == "1")
            try connection.execute(
                """
                INSERT INTO system_metrics (metric_name, metric_value, recorded_at)
                SELECT 'm', g, now() - g * interval '9 days' FROM generate_series(1, 3) g
                """)
            #expect(try asRole("admin", "SELECT cleanup_old_metrics(7, 2)::text") == "2")
            #expect(
                try connection.query(
                    "SELECT count(*) FROM system_metrics WHERE recorded_at < now() - interval '7 days'"
                )
                .first?.get(0, as: Int.self) == 2)
            #expect(try asRole("admin", "SELECT cleanup_old_metrics(7)::text") == "2")
            #expect(
                try asRole("admin", "SELECT enforce_data_retention()::text")
                    == "{\"jobs\": 0, \"metrics\": 0, \"access_logs\": 1}")
            #expect(throws: PostgresError.self) { _ = try asRole("admin", "SELECT cleanup_old_jobs(-1)::text") }
            #expect(
                try connection.query("SELECT (SELECT count(*) FROM jobs) || '/' || (SELECT count(*) FROM elements)")
                    .first?.get(0, as: String.self) == "1/0")
        }
    }

    @Test func `changes of jobs and timelines are announced`() async throws {
        let database = try TestDatabase.current
        try await database.connection { listener in
            try await listener.with { connection in
                try connection.listen(to: "job_updates")
                try connection.listen(to: "timeline_updates")
            }
            try await with { connection in
                let job = try job(on: connection)
                try connection.query("SELECT claim_next_job('w')")
                try connection.query("SELECT start_processing_step($1, 'validation')", [job])
            }
            var payloads: [String] = []
            while payloads.count < 4 {
                let arrived = try await listener.with { try $0.notifications(within: .seconds(10)) }
                if arrived.isEmpty { break }
                payloads += arrived.map { "\($0.channel) \($0.payload)" }
            }
            #expect(
                payloads.contains { $0.hasPrefix("job_updates") && $0.contains("\"INSERT\"") && $0.contains("pending") }
            )
            #expect(payloads.contains { $0.hasPrefix("job_updates") && $0.contains("processing") })
            #expect(payloads.contains { $0.hasPrefix("timeline_updates") && $0.contains("validation") })
        }
    }

    @Test func `statement statistics need the extension, and do not stand in its way`() async throws {
        try await with { connection in
            try connection.execute("DROP EXTENSION IF EXISTS pg_stat_statements")
            let missing = #expect(throws: PostgresError.self) {
                try connection.execute("SELECT * FROM pg_stat_statements")
            }
            #expect(missing?.sqlState == "55000" && missing?.hint?.contains("CREATE EXTENSION") == true)
        }
    }

    @Test func `pg_stat_statements is found under its old names`() async throws {
        guard try await ServerFeature.extension("pg_stat_statements").isThere(for: "its old names") else { return }
        try await with { connection in
            #expect(try !connection.query("SELECT * FROM pg_stat_statements ORDER BY total_time DESC LIMIT 10").isEmpty)
            _ = try connection.query(
                "SELECT query, total_time, calls, mean_time FROM pg_stat_statements WHERE mean_time > 100 ORDER BY mean_time DESC"
            )
            _ = try connection.query(
                "SELECT auth.user_role(), auth.is_admin(), auth.client_ip(), auth.can_subscribe_to_job(gen_random_uuid())"
            )
        }
    }
}
