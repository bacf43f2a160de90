import Kernel
import Postgres
import Reporting

/// The command `reeve doctor`.
enum DoctorCommand {
    static let spec = CommandSpec(
        noun: "doctor", verb: nil,
        summary: "check the programs, repositories and keys of backups, and your own tasks",
        discussion:
            "Changes nothing. Exits with 3 if there are findings. A check that cannot be completed is a finding.",
        options: [
            .option("only", "CHECK", "run only this check", repeated: true),
            .option("identity", "FILE", "a file with an age identity, in addition to backup.identity", repeated: true),
        ]
    ) { invocation in
        let estate = try invocation.estate()
        let checks = try chosen(invocation)
        var findings: [Finding] = []
        for one in try estate.selected(invocation.option("database")) {
            findings += await examine(one, estate, checks, invocation.options("identity"))
        }
        // A check that a signal interrupted is not a finding.
        try Task.checkCancellation()
        invocation.console.result(
            ["healthy": .bool(findings.isEmpty), "findings": .array(findings.map(\.json))],
            text: findings.isEmpty ? "no problems found" : findings.map(\.text).joined(separator: "\n"))
        return findings.isEmpty ? .done : .finding
    }

    private static func chosen(_ invocation: Invocation) throws -> [Check] {
        let all = invocation.features.checks
        let names = invocation.options("only")
        if let unknown = names.first(where: { name in !all.contains { $0.name == name } }) {
            let known = all.map(\.name)
            throw UsageError(
                "the check '\(unknown)' does not exist",
                hint: didYouMean(unknown, among: known)
                    ?? "known: \(known.joined(separator: ", "))")
        }
        return names.isEmpty ? all : all.filter { names.contains($0.name) }
    }

    private static func examine(
        _ one: DatabaseConfiguration, _ estate: Estate, _ checks: [Check], _ identities: [String]
    ) async -> [Finding] {
        var findings: [Finding] = []
        var open: OpenDatabase?
        var version: Int?
        do {
            let opened = try await estate.open(one)
            open = opened
            version = try await opened.database.withDirectConnection(named: "reeve doctor") { await $0.serverVersion }
        } catch {
            findings.append(
                Finding(
                    "database \(one.name)", .error, "\(error)",
                    mend: ErrorReport(error).hint ?? "'reeve config show' shows the origin of the address"))
        }
        let call = Check.Call(
            database: one, estate: estate, open: open, serverVersion: version, identities: identities)
        return await findings + CheckRun(checks, call).findings()
    }
}

/// The checks of one database. They run concurrently, each with its time limit.
struct CheckRun: Sendable {
    private let checks: [Check]
    private let call: Check.Call

    init(_ checks: [Check], _ call: Check.Call) {
        self.checks = checks
        self.call = call
    }

    /// Returns the findings, in the order of the checks.
    func findings() async -> [Finding] {
        await withTaskGroup(of: (Int, [Finding]).self) { group in
            for (number, check) in checks.enumerated() {
                group.addTask { (number, await findings(of: check)) }
            }
            return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.flatMap(\.1)
        }
    }

    private func findings(of check: Check) async -> [Finding] {
        let subject = "\(check.name) of \(call.database.name)"
        do {
            return try await within(check.limit) { try await check.run(call) }
        } catch is TimeIsOver {
            return [
                Finding(
                    subject, .error, "the check did not end within \(check.limit.components.seconds) s",
                    mend: "find out why it is slow; it checks that \(check.summary)")
            ]
        } catch {
            return [Finding(subject, .error, "the check failed: \(error)", mend: ErrorReport(error).hint)]
        }
    }

    private struct TimeIsOver: Error {}

    /// Runs `work` with a time limit. Does not wait for work that ignores cancellation.
    private func within<T: Sendable>(
        _ limit: Duration, _ work: @escaping @Sendable () async throws -> T
    ) async throws -> T {
        let (results, result) = AsyncStream.makeStream(of: Result<T, any Error>.self)
        let running = Task {
            do { result.yield(.success(try await work())) } catch { result.yield(.failure(error)) }
        }
        let timer = Task {
            try await Task.sleep(for: limit)
            result.yield(.failure(TimeIsOver()))
        }
        defer {
            running.cancel()
            timer.cancel()
        }
        for await one in results { return try one.get() }
        throw CancellationError()  // the stream ends early only if this task is cancelled
    }
}
