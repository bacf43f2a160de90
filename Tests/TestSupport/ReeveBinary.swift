import Foundation
import Postgres
import Processes

/// The program itself, as users run it.
public enum ReeveBinary {
    /// Beside the tests in the build folder.
    public static let path: String = {
        let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        return tests.deletingLastPathComponent().appendingPathComponent("reeve").path
    }()

    /// Runs a command on a database and gives back how it ended.
    public static func run(
        _ arguments: [String], on settings: ConnectionSettings? = nil, environment: [String: String] = [:],
        limit: Duration = .seconds(60)
    ) async throws -> CommandOutcome {
        try await Command(path, arguments, environment: self.environment(settings, environment), directory: "/tmp").run(
            limit: limit)
    }

    /// Runs a command with --json, and gives back the object and the exit status.
    public static func json(
        _ arguments: [String], on settings: ConnectionSettings? = nil, environment: [String: String] = [:]
    ) async throws -> (object: [String: Any], status: CommandOutcome.Ending) {
        let outcome = try await run(arguments + ["--json"], on: settings, environment: environment)
        guard let object = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any] else {
            throw NeverHappened(what: "an object on standard output")
        }
        return (object, outcome.ending)
    }

    public static func environment(_ settings: ConnectionSettings?, _ more: [String: String] = [:]) -> [String: String]
    {
        // Restore tests would otherwise wait for the tests beside them.
        var environment = [
            "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "", "HOME": "/tmp", "REEVE_BACKUP_TEST_NICE": "0",
        ]
        if let settings {
            environment["DATABASE_URL"] = settings.uri
            environment["REEVE_STATE"] = TestCluster.stateFolder + "/program"
        }
        // Under coverage, what the program runs counts too; each process writes a file of its own.
        if let profile = ProcessInfo.processInfo.environment["LLVM_PROFILE_FILE"] {
            environment["LLVM_PROFILE_FILE"] =
                URL(fileURLWithPath: profile).deletingLastPathComponent().appendingPathComponent("reeve-%p.profraw")
                .path
        }
        return environment.merging(more) { $1 }
    }
}

/// A process of the program that a test starts, watches and ends.
public final class RunningReeve: Sendable {
    private let child: ChildProcess
    private let log: String

    public init(_ arguments: [String], environment: [String: String]) throws {
        log = "/tmp/reeve-log-\(UUID().uuidString.prefix(8))"
        let descriptor = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        child = try ChildProcess(
            Command(ReeveBinary.path, arguments, environment: environment, directory: "/tmp"), error: descriptor)
    }

    deinit { try? FileManager.default.removeItem(atPath: log) }

    public var pid: pid_t { child.pid }
    public var output: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    public var hasEnded: Bool { child.ending != nil }

    public func signal(_ number: Int32) { child.signal(number) }

    /// Waits for its end and gives back its status; a signal's number is negative.
    public func end(limit: Duration = .seconds(60)) async throws -> Int32 {
        try await waitUntil("reeve ends: \(output.suffix(2000))", limit: limit) { self.child.ending != nil }
        switch await child.end() {
        case .exited(let status): return status
        case .killed(let signal): return -signal
        }
    }
}
