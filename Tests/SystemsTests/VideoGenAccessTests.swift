import Foundation
import Postgres
import TestSupport
import Testing

/// Who sees and does what in videogen.
@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct VideoGenAccessTests {
    /// Does something as a role, for a client behind the API gateway whose address the gateway passes on.
    private func asClient<T: Sendable>(
        _ role: String, forwarded: String, _ body: @Sendable (isolated Connection) throws -> T
    ) async throws -> T {
        let database = try TestDatabase.current
        return try await database.with { connection in
            // The suite's own superuser stands for the gateway's login.
            try connection.execute("UPDATE videogen.client_ip_source SET gateway_role = session_user")
            return try connection.transaction {
                try connection.query(
                    "SELECT set_config('request.headers', $1, true)", ["{\"x-forwarded-for\": \"\(forwarded)\"}"])
                try connection.execute("SET LOCAL ROLE \(role)")
                try connection.execute("SET LOCAL search_path = videogen")
                return try body(connection)
            }
        }
    }

    @Test func `anybody may ask for a job, and sees those from their address alone`() async throws {
        for address in ["203.0.113.1", "203.0.113.2"] {
            _ = try await asClient("anon", forwarded: address) {
                try $0.execute("SELECT create_job('mp4', 1920, 1080, 25, '198.51.100.9'::inet, 'test-agent', '{}')")
            }
        }
        for role in ["anon", "authenticated"] {
            let seen = try await asClient(role, forwarded: "203.0.113.1") {
                try $0.query("SELECT host(client_ip) FROM jobs").map { try $0.get(0, as: String.self) }
            }
            #expect(seen == ["203.0.113.1"])
        }
        for role in ["service_account", "service_role", "admin"] {
            let seen = try await asClient(role, forwarded: "203.0.113.9") { try $0.query("SELECT id FROM jobs").count }
            #expect(seen == 2)
        }
    }

    @Test func `what the client itself writes into the header counts for nothing`() async throws {
        _ = try await asClient("anon", forwarded: "203.0.113.1") { try $0.execute("SELECT create_job('mp4', 2, 2)") }
        for forged in ["203.0.113.1, 198.51.100.7", "203.0.113.1,198.51.100.7", "203.0.113.1, nonsense", ""] {
            let seen = try await asClient("anon", forwarded: forged) { try $0.query("SELECT id FROM jobs").count }
            #expect(seen == 0, "\(forged)")
        }
    }

    @Test func `a session that is not the gateway's cannot claim an address`() async throws {
        let database = try TestDatabase.current
        try await database.with { connection in
            try connection.execute("SET search_path = videogen")
            try connection.execute("SELECT create_job('mp4', 2, 2, 25, '203.0.113.1'::inet)")
            let seen = try connection.transaction {
                try connection.execute("SET LOCAL ROLE anon")
                try connection.query(
                    "SELECT set_config('request.headers', '{\"x-forwarded-for\": \"203.0.113.1\"}', true)")
                return try connection.query("SELECT * FROM jobs").count
            }
            #expect(seen == 0)
            for sql in ["UPDATE client_ip_source SET gateway_role = session_user", "SELECT * FROM client_ip_source"] {
                #expect(throws: PostgresError.self) {
                    try connection.transaction {
                        try connection.execute("SET LOCAL ROLE anon")
                        try connection.execute(sql)
                    }
                }
            }
        }
    }

    @Test func `an address that is asked for by hand is not taken from an anonymous caller`() async throws {
        let error = try await asClient("anon", forwarded: "203.0.113.1") { connection in
            #expect(throws: PostgresError.self) {
                try connection.savepoint {
                    try connection.execute(
                        "INSERT INTO jobs (output_format, width, height, client_ip) VALUES ('mp4', 2, 2, '203.0.113.2')"
                    )
                }
            }
        }
        #expect(error?.sqlState == "42501")
    }

    @Test func `what belongs to a job is seen and added by those who see the job`() async throws {
        let job = try await asClient("anon", forwarded: "203.0.113.1") { connection -> UUID in
            let job: UUID = try #require(try connection.query("SELECT create_job('mp4', 2, 2)").first).get(0)
            try connection.query("SELECT add_job_element($1, 'image', 'https://a')", [job])
            return job
        }
        try await TestDatabase.current.with { connection in
            try connection.query("SELECT videogen.log_storage_operation($1, 'upload', 'b', 'k')", [job])
            try connection.query("SELECT videogen.start_processing_step($1, 'validation')", [job])
        }
        func counts(_ address: String) async throws -> [Int] {
            try await asClient("authenticated", forwarded: address) { connection in
                try ["elements", "storage_operations", "processing_timeline", "job_summary"].map {
                    try connection.query("SELECT * FROM \($0)").count
                }
            }
        }
        #expect(try await counts("203.0.113.1") == [1, 1, 1, 1])
        #expect(try await counts("203.0.113.2") == [0, 0, 0, 0])
        let subscribe = try await asClient("anon", forwarded: "203.0.113.1") {
            try $0.query("SELECT auth.can_subscribe_to_job($1)", [job]).first?.get(0, as: Bool.self)
        }
        #expect(subscribe == true)
        let other = try await asClient("anon", forwarded: "203.0.113.2") { connection in
            #expect(throws: PostgresError.self) {
                try connection.savepoint {
                    try connection.query("SELECT add_job_element($1, 'image', 'https://a')", [job])
                }
            }
            return try connection.query("SELECT can_subscribe_to_job($1)", [job]).first?.get(0, as: Bool.self)
        }
        #expect(other == false)
        await #expect(throws: PostgresError.self) {
            try await asClient("anon", forwarded: "203.0.113.1") {
                try $0.query("INSERT INTO processing_timeline (job_id, step) VALUES ($1, 'upload')", [job])
            }
        }
    }

    @Test func `who may execute what`() async throws {
        let clients = "admin, anon, authenticated, service_account, service_role"
        let services = "admin, service_account, service_role"
        let expected: [String: [String]] = [
            clients: [
                "add_job_element", "calculate_job_progress", "can_access_job", "can_subscribe_to_job",
                "check_rate_limit SECURITY DEFINER", "client_ip SECURITY DEFINER", "create_job", "get_job_details",
                "get_job_timeline", "is_admin", "is_service", "log_security_event SECURITY DEFINER", "require_argument",
                "require_id", "step_weight", "user_role", "user_role_of",
            ],
            services: [
                "cancel_job", "claim_next_job", "complete_job", "complete_processing_step", "fail_job",
                "fold_statistics SECURITY DEFINER", "get_job_statistics", "get_storage_statistics", "get_system_health",
                "inet_or_null", "statement_statistics", "latest_step", "lock_job", "log_storage_operation",
                "log_url_access", "record_metric",
                "require_admin", "require_service", "retry_job", "start_processing_step", "timeout_stalled_jobs",
                "update_element_status", "update_job_status",
            ],
            "admin": [
                "cleanup_old_access_logs", "cleanup_old_jobs", "cleanup_old_metrics", "enforce_data_retention",
                "rebuild_statistics SECURITY DEFINER", "retention_cutoff", "tell_what_is_left",
            ],
            "nobody": [
                "append_job_change", "calling_role", "check_added_elements", "duration_bucket", "has_room_for_job",
                "job_seconds", "refresh_progress",
                "take_lock_of",
            ],
        ]
        let found = try await ExecuteRights.lines(schema: "videogen").map {
            $0.replacing(/\(.*\)/, with: "")
        }
        #expect(found == expected.flatMap { roles, names in names.map { "\($0): \(roles)" } }.sorted())
    }

    @Test func `how an address is known, and what clients may, is the administrator's to say`() async throws {
        for (table, admin) in [("client_ip_source", true), ("client_limits", true), ("locks", false)] {
            for role in ["anon", "authenticated", "service_role", "service_account", "admin"] {
                for right in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
                    let may: Bool = try await TestDatabase.current.value(
                        "SELECT has_table_privilege($1, $2, $3)", [role, "videogen.\(table)", right])
                    #expect(may == (role == "admin" && admin), "\(role) \(right) \(table)")
                }
            }
        }
        for table in [
            "job_statistics", "job_durations", "job_statistics_changes", "url_access_totals", "url_access_changes",
        ] {
            for role in ["anon", "authenticated", "service_role", "service_account", "admin"] {
                let may: Bool = try await TestDatabase.current.value(
                    "SELECT has_table_privilege($1, $2, 'INSERT, UPDATE, DELETE, TRUNCATE')",
                    [role, "videogen.\(table)"])
                #expect(!may, "\(role) \(table)")
            }
        }
    }

    @Test(arguments: [
        ("anon", "anon"), ("authenticated", "authenticated"), ("service_account", "service_account"),
        ("service_role", "service_account"), ("admin", "admin"), ("postgres", "admin"),
    ])
    func `a role is what the database granted`(role: String, expected: String) async throws {
        let found = try await asClient(role, forwarded: "203.0.113.1") { connection in
            // Claims of a token are the session's to set, and change nothing.
            try connection.query("SELECT set_config('request.jwt.claims', '{\"role\": \"admin\"}', true)")
            return try connection.query("SELECT auth.user_role() || auth.is_admin()").first?.get(0, as: String.self)
        }
        #expect(found == expected + (expected == "admin" ? "true" : "false"))
    }
}
