import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// The program with a repository whose server takes connections and never says a word.
@Suite(.heavy, .database, .timeLimit(.minutes(4)))
struct HangingRepositoryTests {
    /// A port that connections are made to, and nothing comes from.
    private final class SilentPort: Sendable {
        let port: Int
        private let listener: Int32

        init() throws {
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            self.listener = listener
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let listens = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(listener, $0, size) == 0 && listen(listener, 64) == 0 && getsockname(listener, $0, &size) == 0
                }
            }
            port = Int(UInt16(bigEndian: address.sin_port))
            #expect(listens)
        }

        deinit { close(listener) }

        var environment: [String: String] {
            [
                "REEVE_BACKUP_REPOSITORY": "s3://away/x?endpoint=http://127.0.0.1:\(port)", "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b", "REEVE_BACKUP_ENCRYPTION": "none",
            ]
        }
    }

    @Test func `other tasks run, leases are renewed, and SIGTERM ends it within its limit`() async throws {
        let database = try TestDatabase.current
        let silent = try SilentPort()
        let socket = "/tmp/reeve-serve-\(UUID().uuidString.prefix(8))"
        let state = "/tmp/reeve-state-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: state) }
        // More calls that hang than the pool has threads on two cores; they would hang for an hour.
        var environment = silent.environment.merging([
            "REEVE_HTTP_LISTEN": "unix:\(socket)", "REEVE_STATE": state, "REEVE_BACKUP_CALL_LIMIT": "1h",
            "REEVE_TASKS_ANALYZE_EVERY": "1s", "REEVE_DRAIN": "2s",
        ]) { $1 }
        let hanging = ["backup", "verify", "restore-test"]
        for task in hanging {
            let name = "REEVE_TASKS_" + task.uppercased().replacing("-", with: "_")
            environment["\(name)_EVERY"] = "1s"
            environment["\(name)_ENABLED"] = "true"
        }
        let reeve = try RunningReeve(["serve"], environment: ReeveBinary.environment(database.settings, environment))
        defer { reeve.signal(SIGKILL) }
        @Sendable func count(_ condition: String) async throws -> Int {
            try await database.value("SELECT count(*) FROM reeve.runs WHERE \(condition)")
        }
        let running = "state = 'running' AND task IN ('backup', 'verify', 'restore-test')"
        try await waitUntil("the service is ready", limit: .seconds(60)) {
            UnixHTTP.get("/readyz", from: socket)?.contains(" 200 ") == true
        }
        try await waitUntil("all of them hang", limit: .seconds(60)) { try await count(running) == 3 }
        try await database.execute(
            "CREATE TABLE public.before AS SELECT id, lease_until FROM reeve.runs WHERE \(running)")
        let analyzed = try await count("task = 'analyze' AND state = 'succeeded'")
        try await waitUntil("other tasks run", limit: .seconds(60)) {
            try await count("task = 'analyze' AND state = 'succeeded'") >= analyzed + 5
        }
        try await waitUntil("the leases are renewed", limit: .seconds(60)) {
            try await count(
                "\(running) AND lease_until > (SELECT b.lease_until FROM public.before b WHERE b.id = runs.id)") == 3
        }
        #expect(UnixHTTP.get("/livez", from: socket)?.contains(" 200 ") == true)
        let began = ContinuousClock.now
        reeve.signal(SIGTERM)
        _ = try await reeve.end(limit: .seconds(40))
        #expect(ContinuousClock.now - began < .seconds(30), "\(reeve.output.suffix(2000))")
        // Two seconds are the limit, and the runs are told to the ledger.
        #expect(try await count("state = 'running'") == 0)
        #expect(try await count("state = 'cancelled' AND id IN (SELECT id FROM public.before)") == 3)
    }

    @Test func `a backup is whole in the repository that answers, and the command says which does not`() async throws {
        let database = try TestDatabase.current
        let silent = try SilentPort()
        let folder = "/tmp/reeve-backups-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try initializeRepository("\(folder)/repository")
        try await database.execute("CREATE TABLE public.t AS SELECT generate_series(1, 100) AS a")
        var environment = silent.environment
        let away = environment["REEVE_BACKUP_REPOSITORY"] ?? ""
        environment["REEVE_BACKUP_REPOSITORY"] = "\(away),\(folder)/repository"
        environment["REEVE_STATE"] = folder
        environment["REEVE_BACKUP_CALL_LIMIT"] = "3s"
        environment["REEVE_BACKUP_STALL_LIMIT"] = "3s"
        let began = ContinuousClock.now
        let created = try await ReeveBinary.run(["backup", "create"], on: database.settings, environment: environment)
        #expect(created.ending == .exited(1), "\(created.errorOutput)")
        #expect(ContinuousClock.now - began < .seconds(55))
        #expect(created.errorOutput.contains("the backup is not in s3://away/x"), "\(created.errorOutput)")
        #expect(created.errorOutput.contains("no answer within 3 s"), "\(created.errorOutput)")
        environment["REEVE_BACKUP_REPOSITORY"] = "\(folder)/repository"
        let verified = try await ReeveBinary.run(["backup", "verify"], on: database.settings, environment: environment)
        #expect(verified.succeeded, "\(verified.output)\(verified.errorOutput)")
        // And what asks all of them goes on with those that answer.
        environment["REEVE_BACKUP_REPOSITORY"] = "\(away),\(folder)/repository"
        let doctor = try await ReeveBinary.run(["doctor"], on: database.settings, environment: environment)
        #expect(
            doctor.ending == .exited(3) && doctor.output.contains("no answer within 3 s"), "\(doctor.output)")
    }
}
