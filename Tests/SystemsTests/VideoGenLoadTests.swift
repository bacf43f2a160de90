import Foundation
import Postgres
import TestSupport
import Testing

/// videogen with several callers at once, and with arguments that nobody should pass.
@Suite(.database(.systems), .timeLimit(.minutes(3)))
struct VideoGenLoadTests {
    @discardableResult
    private func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = videogen")
            return try body(connection)
        }
    }

    /// Runs `body` on so many connections at once, and returns how often it returned true.
    private func count(
        _ callers: Int, _ body: @escaping @Sendable (Int, isolated Connection) throws -> Bool
    ) async throws -> Int {
        let database = try TestDatabase.current
        return try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<callers {
                group.addTask {
                    try await database.with { connection in
                        try connection.execute("SET search_path = videogen")
                        return try body(number, connection)
                    }
                }
            }
            return try await group.reduce(into: 0) { if $1 { $0 += 1 } }
        }
    }

    private func claimedJob(elements: Int) async throws -> UUID {
        try await with { connection in
            let job: UUID = try #require(try connection.query("SELECT create_job('mp4', 2, 2)").first).get(0)
            try connection.query(
                "SELECT add_job_element($1, 'image', 'https://a') FROM generate_series(1, $2::integer)",
                [job, elements])
            try connection.execute("SELECT claim_next_job('w')")
            return job
        }
    }

    @Test func `elements that are completed at the same time all count`() async throws {
        let job = try await claimedJob(elements: 10)
        let elements = try await with {
            try $0.query("SELECT id FROM elements").map { try $0.get(0, as: UUID.self) }
        }
        let done = try await count(10) { number, connection in
            try connection.query("SELECT update_element_status($1, 'completed')", [elements[number]]).first?.get(0)
                ?? false
        }
        #expect(done == 10)
        let row = try await with {
            try #require(
                try $0.query(
                    "SELECT progress_percentage::text || ' ' || completed_elements FROM jobs WHERE id = $1", [job]
                )
                .first)
        }
        #expect(try row.get(0, as: String.self) == "30.00 10")
    }

    @Test func `a second attempt begins anew`() async throws {
        let job = try await claimedJob(elements: 2)
        try await with { connection in
            let state = { () throws -> String in
                try #require(
                    try connection.query(
                        "SELECT concat_ws(' ', status, attempt, progress_percentage, completed_elements, worker_id) FROM jobs"
                    ).first
                ).get(0)
            }
            let step = { () throws -> Void in
                try connection.query(
                    "SELECT complete_processing_step(start_processing_step($1, 'download'), true)", [job])
            }
            try step()
            try connection.execute("SELECT update_element_status(id, 'completed') FROM elements LIMIT 1")
            #expect(try state() == "processing 1 30.00 1 w")
            try connection.query("SELECT fail_job($1, 'broken')", [job])
            try connection.query("SELECT retry_job($1)", [job])
            #expect(try state() == "pending 2 0.00 0")
            try connection.execute("SELECT claim_next_job('v')")
            #expect(try state() == "processing 2 0.00 0 v")
            try step()
            #expect(try state() == "processing 2 15.00 0 v")
        }
    }

    @Test func `what was done of a job before it is at work counts`() async throws {
        try await with { connection in
            try connection.execute(
                """
                SELECT add_job_element(create_job('mp4', 2, 2), 'image', 'https://a');
                SELECT update_element_status(id, 'completed') FROM elements;
                SELECT complete_processing_step(start_processing_step(id, 'validation')) FROM jobs;
                SELECT claim_next_job('w');
                """)
            let row = try #require(
                try connection.query("SELECT progress_percentage::text || ' ' || current_step FROM jobs").first)
            #expect(try row.get(0, as: String.self) == "35.00 validation")
        }
    }

    @Test(arguments: ["READ COMMITTED", "REPEATABLE READ"])
    func `an address makes as many jobs as it may, however many callers it has`(isolation: String) async throws {
        try await with { try $0.execute("UPDATE client_limits SET max_jobs = 5") }
        let made = try await count(20) { _, connection in
            do {
                try connection.execute("BEGIN ISOLATION LEVEL \(isolation); SET LOCAL ROLE anon")
                try connection.execute("SELECT create_job('mp4', 2, 2)")
                try connection.execute("COMMIT")
                return true
            } catch let error as PostgresError {
                #expect(["PT429", "40001"].contains(error.sqlState))
                return false
            }
        }
        #expect(isolation == "READ COMMITTED" ? made == 5 : (1...5).contains(made))
        let others = try await with { connection in
            try connection.execute("SELECT create_job('mp4', 2, 2) FROM generate_series(1, 10)")
            return try connection.query("SELECT id FROM jobs").count
        }
        #expect(others == made + 10)
    }

    @Test func `who is told that a request has room keeps it until the end of the transaction`() async throws {
        let made = try await count(20) { _, connection in
            try connection.transaction {
                guard
                    try connection.query("SELECT check_rate_limit('10.0.0.1', 3)").first?.get(0, as: Bool.self) == true
                else { return false }
                try connection.execute("SELECT create_job('mp4', 2, 2, client_ip => '10.0.0.1')")
                return true
            }
        }
        #expect(made == 3)
    }

    /// Statements of a client, and the SQLSTATEs with which they are refused; nil: done.
    private static let clientStatements: [(String, String?)] =
        [
            ("INSERT INTO jobs (output_format, width, height) VALUES ('mp4', 2, 2)", nil),
            (
                "INSERT INTO jobs (output_format, width, height, request_payload, user_agent) VALUES ('mp4', 2, 2, '{}', 'x')",
                nil
            ),
            (
                "INSERT INTO jobs (output_format, width, height, user_agent) VALUES ('mp4', 2, 2, repeat('x', 1001))",
                "54000"
            ),
            (
                """
                INSERT INTO jobs (output_format, width, height, request_payload)
                VALUES ('mp4', 2, 2, jsonb_build_object('x', repeat('x', 300000)))
                """, "54000"
            ),
            ("UPDATE jobs SET priority = 9", "42501"), ("DELETE FROM jobs", "42501"),
            (
                "INSERT INTO elements (job_id, element_type, processing_status) VALUES (gen_random_uuid(), 'image', 'completed')",
                "42501"
            ),
            ("INSERT INTO url_access_totals SELECT * FROM url_access_totals", "42501"),
            ("SELECT fold_statistics()", "42501"), ("SELECT * FROM locks", "42501"),
            ("SELECT * FROM job_statistics", "42501"), ("SELECT check_rate_limit('10.0.0.1')", "42501"),
        ]
        + [
            "priority", "created_at", "started_at", "completed_at", "updated_at", "progress_percentage", "output_url",
            "max_retries", "retry_count", "status", "worker_id", "s3_key", "metadata", "attempt", "total_elements",
        ].map { ("INSERT INTO jobs (output_format, width, height, \($0)) VALUES ('mp4', 2, 2, DEFAULT)", "42501") }

    @Test func `a client says what is to be made, and nothing else`() async throws {
        try await with { connection in
            for (sql, state) in Self.clientStatements {
                var found: String?
                do {
                    try connection.transaction {
                        try connection.execute("SET LOCAL ROLE anon")
                        try connection.execute(sql)
                    }
                } catch let error as PostgresError { found = error.sqlState }
                #expect(found == state, "\(sql)")
            }
        }
    }

    @Test func `a client's job takes so many elements, also in one statement`() async throws {
        try await with { connection in
            try connection.execute(
                "UPDATE client_limits SET max_elements = 10; UPDATE client_ip_source SET gateway_role = session_user")
            let added = { (number: Int, role: String) throws -> String? in
                do {
                    try connection.transaction {
                        try connection.query(
                            "SELECT set_config('request.headers', '{\"x-forwarded-for\": \"10.0.0.1\"}', true)")
                        try connection.execute("SET LOCAL ROLE \(role)")
                        try connection.execute(
                            """
                            INSERT INTO jobs (id, output_format, width, height, client_ip)
                            VALUES ('00000000-0000-4000-8000-000000000001', 'mp4', 2, 2, '10.0.0.1');
                            INSERT INTO elements (job_id, element_type, source_url)
                            SELECT id, 'image', 'https://a' FROM jobs, generate_series(1, \(number))
                            """)
                        throw CancellationError()
                    }
                } catch let error as PostgresError { return error.sqlState } catch is CancellationError {}
                return nil
            }
            let large = #expect(throws: PostgresError.self) {
                try connection.transaction {
                    try connection.query(
                        "SELECT set_config('request.headers', '{\"x-forwarded-for\": \"10.0.0.1\"}', true)")
                    try connection.execute("SET LOCAL ROLE anon")
                    try connection.execute("SELECT create_job('mp4', 2, 2)")
                    try connection.execute(
                        "SELECT add_job_element(id, 'text', text_content => repeat('x', 262145)) FROM jobs")
                }
            }
            #expect(large?.sqlState == "54000" && large?.message == "the element has 262147 bytes")
            #expect(try added(10, "anon") == nil)
            #expect(try added(11, "anon") == "54000")
            #expect(try added(11, "service_role") == nil)
        }
    }

    @Test func `nobody fills the log of security events`() async throws {
        try await with { connection in
            try connection.execute("UPDATE client_limits SET max_events = 3")
            let logged = { (details: String, role: String) throws -> String? in
                do {
                    try connection.transaction {
                        try connection.execute("SET LOCAL ROLE \(role)")
                        try connection.query(
                            "SELECT log_security_event('x', jsonb_build_object('a', $1::text))", [details])
                    }
                } catch let error as PostgresError { return error.sqlState }
                return nil
            }
            #expect(try logged(String(repeating: "x", count: 2000), "anon") == "22023")
            for _ in 0..<3 { #expect(try logged("y", "anon") == nil) }
            #expect(try logged("y", "anon") == "PT429")
            #expect(try logged("y", "authenticated") == "PT429")
            #expect(try logged("y", "service_role") == nil)
            try connection.execute("UPDATE system_metrics SET recorded_at = now() - interval '2 hours'")
            #expect(try logged("y", "anon") == nil)
        }
    }

    @Test func `a time that means none spoils no view`() async throws {
        try await with { connection in
            try connection.execute(
                """
                INSERT INTO jobs (output_format, width, height, created_at, updated_at)
                VALUES ('webm', 2, 2, '0001-01-01', '1970-01-01');
                INSERT INTO jobs (output_format, width, height, status, created_at, started_at, completed_at)
                VALUES ('webm', 2, 2, 'completed', '0001-01-01', '0001-01-01', now());
                SELECT fold_statistics();
                """)
            for view in ["job_summary", "active_jobs", "completed_jobs", "daily_job_statistics", "system_health"] {
                try connection.execute("SELECT * FROM \(view)")
            }
            for (column, time) in [("updated_at", "infinity"), ("created_at", "294276-12-31 23:00:00+00")] {
                let error = #expect(throws: PostgresError.self) {
                    try connection.execute(
                        "INSERT INTO jobs (output_format, width, height, \(column)) VALUES ('webm', 2, 2, '\(time)')")
                }
                #expect(error?.sqlState == "23514", "\(column)")
            }
        }
    }

    @Test func `a step that is moved to another job counts there alone`() async throws {
        try await with { connection in
            let jobs = try (0..<2).map { _ in
                _ = try connection.query("SELECT create_job('mp4', 2, 2)")
                return try #require(try connection.query("SELECT id FROM claim_next_job('w')").first).get(
                    0, as: UUID.self)
            }
            try connection.query("SELECT complete_processing_step(start_processing_step($1, 'encoding'))", [jobs[0]])
            try connection.query("UPDATE processing_timeline SET job_id = $1", [jobs[1]])
            for (job, expected) in zip(jobs, ["0.00", "20.00 encoding"]) {
                let row = try connection.query(
                    "SELECT concat_ws(' ', progress_percentage, current_step) FROM jobs WHERE id = $1", [job])
                #expect(try row.first?.get(0, as: String.self) == expected)
            }
        }
    }

    @Test func `a bad label spoils no view`() async throws {
        try await with { connection in
            try connection.execute(
                """
                SELECT log_security_event('good');
                SELECT record_metric('security_event', 1, labels => '{"client_ip": "nonsense", "event_type": 5}');
                SELECT record_metric('security_event', 1, labels => '{"client_ip": {"a": []}}');
                SELECT record_metric('cpu', 95, labels => '{"x": null}', alert_threshold => 90);
                """)
            #expect(try connection.query("SELECT * FROM security_log").count == 3)
            #expect(try connection.query("SELECT * FROM recent_alerts").count == 1)
        }
    }

    @Test(arguments: [
        ("claim_next_job(NULL)", "22004"), ("claim_next_job('')", "22023"),
        ("claim_next_job(repeat('x', 201))", "22023"),
        ("update_job_status(NULL, 'failed')", "22004"), ("update_job_status(gen_random_uuid(), NULL)", "22004"),
        ("complete_job(gen_random_uuid(), NULL)", "22004"), ("complete_job(gen_random_uuid(), '')", "22023"),
        ("fail_job(gen_random_uuid(), NULL)", "22004"), ("cancel_job(NULL)", "22004"), ("retry_job(NULL)", "22004"),
        ("timeout_stalled_jobs(NULL)", "22004"), ("timeout_stalled_jobs('0')", "22023"),
        ("timeout_stalled_jobs('-1 hour')", "22023"), ("timeout_stalled_jobs('1000 years')", "22023"),
        ("timeout_stalled_jobs('1 hour', 0)", "22023"), ("timeout_stalled_jobs('1 hour', NULL)", "22004"),
        ("lock_job(NULL)", "22004"), ("step_weight(NULL)", "22004"), ("calculate_job_progress(NULL)", "22004"),
        ("start_processing_step(NULL, 'upload')", "22004"), ("complete_processing_step(NULL)", "22004"),
        ("complete_processing_step(gen_random_uuid(), NULL)", "22004"),
        ("update_element_status(NULL, 'failed')", "22004"),
        ("update_element_status(gen_random_uuid(), NULL)", "22004"), ("add_job_element(NULL, 'image', 'u')", "22004"),
        ("log_storage_operation(NULL, 'upload', '', 'k')", "22023"),
        ("log_storage_operation(NULL, 'upload', 'b', NULL)", "22004"), ("log_url_access(NULL, '')", "22023"),
        ("record_metric('m', 'NaN')", "22023"), ("record_metric('m', NULL)", "22004"),
        ("record_metric('', 1)", "22023"),
        ("record_metric('m', 1, alert_threshold => 'NaN')", "23514"),
        ("record_metric('m', 1, labels => '[]')", "23514"),
        ("log_security_event(NULL)", "22004"), ("log_security_event('')", "22023"),
        ("log_security_event('x', NULL)", "22004"), ("check_rate_limit(NULL)", "22004"),
        ("check_rate_limit('10.0.0.1', 0)", "22023"), ("check_rate_limit('10.0.0.1', -1)", "22023"),
        ("check_rate_limit('10.0.0.1', NULL)", "22004"), ("check_rate_limit('10.0.0.1', 1, '-1 hour')", "22023"),
        ("get_job_statistics(NULL)", "22004"), ("get_job_statistics('infinity')", "22023"),
        ("get_job_statistics('2024-02-01', '2024-01-01')", "22023"),
        ("get_job_statistics('2024-02-01', NULL)", "22004"),
        ("get_job_details(NULL)", "22004"), ("get_job_timeline(NULL)", "22004"),
        ("get_storage_statistics(NULL)", "22004"), ("get_storage_statistics('-1 hour')", "22023"),
        ("cleanup_old_jobs(-1)", "22023"), ("cleanup_old_jobs(NULL)", "22004"), ("cleanup_old_jobs(1000000)", "22023"),
        ("cleanup_old_jobs(1, 0)", "22023"), ("cleanup_old_jobs(1, NULL)", "22004"),
        ("cleanup_old_metrics(-1)", "22023"),
        ("cleanup_old_access_logs(-1)", "22023"), ("fold_statistics(0)", "22023"), ("fold_statistics(NULL)", "22004"),
        ("user_role_of(NULL)", "22004"), ("can_access_job(NULL)", "22004"), ("can_subscribe_to_job(NULL)", "22004"),
        ("create_job('mp4', 2, 2, 'NaN')", "23514"), ("create_job('mp4', 2, 2, request_payload => '[]')", "23514"),
    ])
    func `what makes no sense is refused`(call: String, state: String) async throws {
        let error = await #expect(throws: PostgresError.self) { try await with { try $0.execute("SELECT \(call)") } }
        #expect(error?.sqlState == state, "\(call): \(error.map(String.init(describing:)) ?? "")")
        if state.hasPrefix("22") { #expect(error?.hint?.hasPrefix("it must be ") == true) }
    }

    @Test(arguments: ["x", "y", "width", "height", "rotation", "volume", "start_time", "duration"])
    func `an element has numbers`(column: String) async throws {
        let error = await #expect(throws: PostgresError.self) {
            try await with { connection in
                let job: UUID = try #require(try connection.query("SELECT create_job('mp4', 2, 2)").first).get(0)
                try connection.query(
                    "INSERT INTO elements (job_id, element_type, source_url, \(column)) VALUES ($1, 'image', 'u', 'NaN')",
                    [job])
            }
        }
        #expect(error?.sqlState == "23514")
    }

    @Test func `the percentile is exact to one percent, and the summaries can be made anew`() async throws {
        try await with { connection in
            try connection.execute(
                """
                INSERT INTO jobs (status, output_format, width, height, started_at, completed_at)
                SELECT 'completed', 'mp4', 2, 2, now() - g * interval '1 second', now() FROM generate_series(1, 1000) g
                """)
            let p95 = "SELECT p95_processing_seconds FROM get_job_statistics()"
            for _ in 0..<2 {
                let found = try #require(try connection.query(p95).first).get(0, as: Double.self)
                #expect(abs(found - 950) <= 9.5)
                try connection.execute("SELECT fold_statistics()")
            }
            let statistics = "SELECT get_job_statistics()::text || (SELECT count(*) FROM hourly_job_statistics)"
            let before = try #require(try connection.query(statistics).first).get(0, as: String.self)
            try connection.execute("TRUNCATE job_statistics, job_durations; SELECT rebuild_statistics()")
            #expect(try connection.query(statistics).first?.get(0, as: String.self) == before)
            try connection.execute("TRUNCATE jobs CASCADE")
            #expect(
                try connection.query("SELECT total_jobs FROM get_job_statistics()").first?.get(0, as: Int.self) == 0)
        }
    }

    @Test func `what is counted down to nothing is removed`() async throws {
        try await with { connection in
            try connection.execute(
                """
                SELECT log_url_access(create_job('mp4', 2, 2), 'https://o');
                SELECT fold_statistics();
                """)
            #expect(try connection.query("SELECT * FROM url_access_totals").count == 1)
            try connection.execute("DELETE FROM jobs; SELECT fold_statistics()")
            for table in ["job_statistics", "job_statistics_changes", "url_access_totals", "url_access_changes"] {
                #expect(try connection.query("SELECT * FROM \(table)").isEmpty, "\(table)")
            }
        }
    }

    @Test func `the check of a restored copy finds what has lost its job, and nothing else`() async throws {
        let file = "\(ShippedFixture.repository)/backups/checks/videogen/elements.sql"
        let check = try String(contentsOfFile: file, encoding: .utf8)
            .replacing("%schema%", with: "videogen").replacing(";", with: "")
        try await with { connection in
            try connection.execute(
                """
                INSERT INTO jobs (status, output_format, width, height) VALUES ('completed', 'mp4', 2, 2);
                SELECT add_job_element(id, 'image', 'u'), log_url_access(id, 'u'), start_processing_step(id, 'upload'),
                    log_storage_operation(id, 'upload', 'b', 'k') FROM (SELECT create_job('mp4', 2, 2) AS id) j;
                SELECT log_url_access(NULL, 'u'), log_storage_operation(NULL, 'upload', 'b', 'k');
                """)
            let kinds = { () throws -> [String] in
                try connection.query("SELECT kind FROM (\(check)) c (kind, id) ORDER BY 1").map { try $0.get(0) }
            }
            #expect(try kinds() == [])
            try connection.execute("SET session_replication_role = replica; DELETE FROM jobs")
            #expect(try kinds() == ["access", "element", "step", "storage operation"])
        }
    }

    @Test func `a late result ends no later attempt, and a result stays`() async throws {
        try await with { connection in
            let call = { (function: String) throws -> Bool? in
                try connection.query("SELECT \(function)").first?.get(0, as: Bool.self)
            }
            _ = try connection.query("SELECT create_job('mp4', 2, 2)")
            let job: UUID = try #require(try connection.query("SELECT id FROM claim_next_job('w')").first).get(0)
            try connection.execute("SELECT fail_job('\(job)', 'e', attempt => 1); SELECT retry_job('\(job)')")
            for late in [
                "complete_job('\(job)', 'https://1', attempt => 1)", "fail_job('\(job)', 'late', attempt => 1)",
            ] {
                #expect(try call(late) == false)
            }
            let element = try connection.query("SELECT add_job_element($1, 'image', 'https://a')", [job]).first?
                .get(0, as: UUID.self)
            let again = try #require(try connection.query("SELECT attempt, status FROM claim_next_job('w')").first)
            #expect(try again.get(0, as: Int.self) == 2)
            #expect(try call("complete_job('\(job)', 'https://1', attempt => 1)") == false)
            for attempt in 1...2 {
                let done = try connection.query(
                    "SELECT update_element_status($1, 'completed', attempt => $2::integer)", [element, attempt])
                #expect(try done.first?.get(0, as: Bool.self) == (attempt == 2))
            }
            for _ in 1...2 { #expect(try call("complete_job('\(job)', 'https://2', 7, attempt => 2)") == true) }
            #expect(try call("complete_job('\(job)', 'https://1')") == false)
            #expect(try call("complete_job(gen_random_uuid(), 'https://1')") == false)
            let row = try connection.query("SELECT output_url || file_size_bytes FROM jobs").first
            #expect(try row?.get(0, as: String.self) == "https://27")
        }
    }

    @Test func `a job that has ended takes no elements`() async throws {
        try await with { connection in
            let job: UUID = try #require(try connection.query("SELECT create_job('mp4', 2, 2)").first).get(0)
            try connection.query("SELECT complete_job($1, 'https://o')", [job])
            for statement in [
                "SELECT add_job_element('\(job)', 'image', 'https://a')",
                // A statement may also take an element from another job.
                "SELECT add_job_element(create_job('mp4', 2, 2), 'image', 'https://a'); UPDATE elements SET job_id = '\(job)'",
            ] {
                let error = #expect(throws: PostgresError.self) { try connection.execute(statement) }
                #expect(error?.sqlState == "23514" && error?.message == "a job that is completed takes no elements")
            }
        }
    }

    @Test(arguments: ["", "SELECT fold_statistics();"])
    func `accesses follow changes of the log, and the id of a job that was removed can be used again`(
        fold: String
    ) async throws {
        try await with { connection in
            let id = "00000000-0000-4000-8000-000000000001"
            let make = "INSERT INTO jobs (id, output_format, width, height) VALUES ('\(id)', 'mp4', 2, 2);"
            let counts = """
                SELECT format('%s %s %s %s, %s', accesses, errors, total_bytes, avg_response_time_ms,
                    (SELECT url_accesses FROM job_summary WHERE id = job_id)) FROM url_access_analytics
                """
            try connection.execute(
                "\(make) SELECT log_url_access('\(id)', 'u') FROM generate_series(1, 5); SELECT fold_statistics()")
            try connection.execute(
                """
                UPDATE url_access_logs SET http_status = 500, bytes_sent = 100, response_time_ms = id * 2 WHERE id <= 2;
                UPDATE url_access_logs SET bytes_sent = 10 WHERE id = 1; \(fold)
                """)
            #expect(try connection.query(counts).first?.get(0, as: String.self) == "5 2 110 3.0, 5")
            try connection.execute("DELETE FROM jobs; \(make) \(fold)")
            #expect(try connection.query("SELECT FROM url_access_analytics").isEmpty)
            try connection.execute("SELECT log_url_access('\(id)', 'u') FROM generate_series(1, 3); \(fold)")
            #expect(try connection.query(counts).first?.get(0, as: String.self) == "3 0 0 , 3")
            try connection.execute("SELECT fold_statistics()")
            #expect(try connection.query(counts).first?.get(0, as: String.self) == "3 0 0 , 3")
        }
    }

    @Test(arguments: ["SELECT rebuild_statistics()", "TRUNCATE elements"])
    func `an old snapshot makes no statistics`(statement: String) async throws {
        try await with { connection in
            let error = #expect(throws: PostgresError.self) {
                try connection.transaction(TransactionOptions(isolation: .repeatableRead)) {
                    try connection.execute(statement)
                }
            }
            #expect(error?.sqlState == "25000" && error?.hint == "use READ COMMITTED")
        }
    }
}
