import Foundation
import Processes
import SQL
import TestSupport
import Testing

@testable import Postgres

/// Several hosts, limits and keywords of a connection string hold as in libpq.
@Suite(.database, .timeLimit(.minutes(2)))
struct HostListTests {
    /// A folder with a socket that takes connections and never answers.
    private final class SilentHost: Sendable {
        let folder = "/tmp/reeve-silent-\(UUID().uuidString.prefix(8))"
        private let descriptor: Int32

        init() throws {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let path = "\(folder)/.s.PGSQL.5432"
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let descriptor = descriptor
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            try #require(bound == 0 && listen(descriptor, 16) == 0, "the silent host listens")
        }

        deinit {
            close(descriptor)
            try? FileManager.default.removeItem(atPath: folder)
        }
    }

    private func hosts(_ names: [String], _ more: [String: String] = [:]) throws -> ConnectionSettings {
        var settings = try TestDatabase.current.settings
        let real = settings.parameters["host"] ?? ""
        settings.parameters["host"] = names.map { $0 == "real" ? real : $0 }.joined(separator: ",")
        settings.parameters["port"] = names.map { _ in "5432" }.joined(separator: ",")
        return {
            settings.parameters.merge(more) { _, new in new }
            return settings
        }()
    }

    private func answer(_ settings: ConnectionSettings) async throws -> Int {
        try await Connection.opened(settings) { try await $0.value("SELECT 1") }
    }

    @Test func `a host that refuses gives way to the next`() async throws {
        #expect(try await answer(hosts(["/nonexistent", "real"])) == 1)
    }

    @Test func `a host that never answers gives way to the next after its time`() async throws {
        let silent = try SilentHost()
        #expect(try await answer(hosts([silent.folder, "real"], ["connect_timeout": "2"])) == 1)
        #expect(try await answer(hosts(["/nonexistent", silent.folder, "real"], ["connect_timeout": "2"])) == 1)
    }

    @Test func `a single host that never answers is given up after its time`() async throws {
        let silent = try SilentHost()
        let began = ContinuousClock.now
        var settings = try hosts([silent.folder])
        settings.connectTimeout = .milliseconds(300)
        let error = await #expect(throws: PostgresError.self) { try await answer(settings) }
        #expect(error?.kind == .cannotConnect)
        #expect(ContinuousClock.now - began < .seconds(20))
        // The string's own limit is stronger than the setting.
        settings.parameters["connect_timeout"] = "2"
        settings.connectTimeout = .seconds(60)
        let second = await #expect(throws: PostgresError.self) { try await answer(settings) }
        #expect(second?.message.contains("within 2 s") == true)
    }

    @Test func `a task that is cancelled while it connects ends at once`() async throws {
        let silent = try SilentHost()
        let settings = try hosts([silent.folder, silent.folder], ["connect_timeout": "60"])
        let began = ContinuousClock.now
        let work = Task { try await answer(settings) }
        try await Task.sleep(for: .milliseconds(50))
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
        #expect(ContinuousClock.now - began < .seconds(20))
    }

    @Test func `a task that is cancelled while the next host is tried ends at once`() async throws {
        let silent = try SilentHost()
        let settings = try hosts([silent.folder, silent.folder, silent.folder], ["connect_timeout": "4"])
        let work = Task { try await answer(settings) }
        // The first has had its time.
        try await Task.sleep(for: .milliseconds(4500))
        let began = ContinuousClock.now
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
        #expect(ContinuousClock.now - began < .seconds(3))
    }

    @Test func `what a session must be is asked of each host, and libpq's reason is told whole`() async throws {
        #expect(try await answer(hosts(["/nonexistent", "real"], ["target_session_attrs": "read-write"])) == 1)
        let error = await #expect(throws: PostgresError.self) {
            try await answer(hosts(["/nonexistent", "real"], ["target_session_attrs": "standby"]))
        }
        #expect(error?.message.contains("/nonexistent") == true && error?.message.contains("standby") == true)
        let role = await #expect(throws: PostgresError.self) {
            try await answer(hosts(["real"], ["user": "nobody_here"]))
        }
        #expect(role?.message.contains("role \"nobody_here\" does not exist") == true)
        // What the server repeats may be a password.
        let secret = await #expect(throws: PostgresError.self) {
            try await answer(hosts(["real"], ["user": "s3cret_word", "password": "s3cret_word"]))
        }
        #expect(secret?.message.contains("role \"********\" does not exist") == true, "\(secret?.message ?? "")")
    }

    @Test func `options and other keywords reach the server`() async throws {
        let settings = try hosts(["real"], ["options": "-c work_mem=7MB", "application_name": "mine"])
        let found = try await Connection.opened(settings) { connection in
            [
                try await connection.value("SHOW work_mem", as: String.self),
                try await connection.value("SHOW application_name", as: String.self),
            ]
        }
        #expect(found == ["7MB", "mine"])
        for bad in ["sslmode=perhaps", "target_session_attrs=some", "gssencmode=x"] {
            let pair = bad.split(separator: "=").map(String.init)
            let error = await #expect(throws: PostgresError.self) {
                try await answer(hosts(["real"], [pair[0]: pair[1]]))
            }
            #expect(error?.message.contains(pair[1]) == true, "\(error?.message ?? "")")
        }
    }

    @Test(arguments: ["dbname=other", "postgresql://127.0.0.1:1/other", "a 'b' \\ c"])
    func `a database whose name looks like a connection string is that one, here and for psql`(
        likeness: String
    ) async throws {
        let database = try TestDatabase.current
        let name = "\(likeness.replacing("other", with: database.name))"
        try await database.execute("CREATE DATABASE \(quoteIdentifier(name)) TEMPLATE template0")
        let settings = database.settings.database(name)
        let found: String = try await Connection.opened(settings) {
            try await $0.value("SELECT current_database()::text")
        }
        #expect(found == name)
        let psql = try #require(await ServerPrograms.installed().first?.path("psql"))
        let outcome = try await Command(psql, ["-XAtc", "SELECT current_database()", settings.uri]).run()
        #expect(outcome.output == "\(name)\n", "\(outcome.errorOutput)")
        let dump = try #require(await ServerPrograms.installed().first?.path("pg_dump"))
        let dumped = try await Command(dump, ["--create", "--schema-only", "--dbname", settings.uri]).run()
        #expect(dumped.output.contains("CREATE DATABASE \(quoteIdentifier(name))"), "\(dumped.errorOutput)")
        try await database.execute("DROP DATABASE \(quoteIdentifier(name)) WITH (FORCE)")
    }

    @Test(arguments: [
        ("host=a hots=b", "hots", ""), ("postgresql://u@h/d?sslmod=x", "sslmod", ""),
        ("host=a password=s3cret word dbname=d", "invalid connection string", "word"),
        ("postgresql://u:s3%zzcret@h/d", "invalid", "s3%zzcret"),
        ("postgresql://u:a@b@h/d", "more than one '@'", "a@b"), ("password='s3cret host=x", "unterminated", "s3cret"),
        ("postgresql+asyncpg://u:s3cret@h/d", "another library", "s3cret"), ("mysql://u:s3cret@h/d", "mysql", "s3cret"),
        ("postgresql://u@h/d?password=s3cret&hots=1", "hots", "s3cret"),
        ("postgresql://u@h/d?password=s3%zzcret", "invalid", "s3%zzcret"),
    ])
    func `what is wrong with a connection string is told, and no password`(
        text: String, told: String, hidden: String
    ) {
        let error = #expect(throws: PostgresError.self) { try ConnectionSettings(connectionString: text) }
        #expect(error?.kind == .configuration)
        let whole = "\(error?.fullDescription ?? "") \(error?.hint ?? "")"
        #expect(whole.contains(told), "\(whole)")
        if !hidden.isEmpty { #expect(!whole.contains(hidden), "\(whole)") }
    }

    @Test func `all that is secret is masked in what libpq says, and short secrets where they are words`() {
        let secrets = ["password": "pw", "sslpassword": "hidden1", "oauth_client_secret": "hidden2"]
        let settings = ConnectionSettings(parameters: secrets)
        #expect(
            settings.masking("pw, hidden1 and hidden2 are not in \"pwd\"")
                == "********, ******** and ******** are not in \"pwd\"")
    }
}
