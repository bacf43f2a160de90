import Backups
import Foundation
import Postgres
import Processes
import Storage

/// `reeve doctor`
enum DoctorCommand {
    /// Something that is not as it should be.
    struct Finding {
        enum Severity: String { case warning, error }

        let check: String
        let severity: Severity
        let evidence: String
        let mend: String
    }

    static let spec = CommandSpec(
        noun: "doctor", verb: nil, summary: "look for what would fail when it is needed: programs, repositories, keys",
        discussion: "Tries out what backups and restores rest on, and changes nothing. Exit 3 when there is something.",
        options: [.option("identity", "FILE", "an age identity that is known; beside backup.identity", repeated: true)]
    ) { invocation in
        let estate = try invocation.estate()
        var findings: [Finding] = []
        for one in try estate.selected(invocation.option("database")) {
            findings += try await examine(one, estate, invocation.options("identity"))
        }
        // What was cut short by a signal is no finding.
        try Task.checkCancellation()
        let values = findings.map { finding -> JSONValue in
            [
                "check": .string(finding.check), "severity": .string(finding.severity.rawValue),
                "evidence": .string(finding.evidence), "mend": .string(finding.mend),
            ]
        }
        let lines = findings.map { "\($0.severity.rawValue): \($0.check): \($0.evidence)\n  \($0.mend)" }
        invocation.console.result(
            ["healthy": .bool(findings.isEmpty), "findings": .array(values)],
            text: findings.isEmpty ? "no problems found" : lines.joined(separator: "\n"))
        return findings.isEmpty ? .done : .finding
    }

    private static func examine(
        _ one: DatabaseConfiguration, _ estate: Estate, _ given: [String]
    ) async throws -> [Finding] {
        var findings: [Finding] = []
        let open: OpenDatabase
        let server: Int
        do {
            open = try await estate.open(one)
            server = try await open.database.withDirectConnection(named: "reeve doctor") { await $0.serverVersion }
        } catch let error as PostgresError {
            return [
                Finding(
                    check: "database \(one.name)", severity: .error, evidence: error.description,
                    mend: "'reeve config show' tells where the address comes from")
            ]
        }
        findings += await programs(server / 10000)
        let configuration = estate.configuration
        guard let repositories = try? BackupSettings.repositories(configuration) else {
            return findings + [
                Finding(
                    check: "backups of \(one.name)", severity: .warning,
                    evidence: "no repository is configured, or it is no place",
                    mend: "set backup.repository")
            ]
        }
        let identities =
            given.map { URL(fileURLWithPath: $0).path } + [BackupSettings.identity(configuration)].compactMap { $0 }
        for repository in repositories { findings += await examine(repository, one.name, identities) }
        return findings
    }

    private static func programs(_ server: Int) async -> [Finding] {
        var findings: [Finding] = []
        let installed = await ServerPrograms.installed()
        if !installed.contains(where: { $0.majorVersion >= server && isExecutable($0.path("pg_dump")) }) {
            findings.append(
                Finding(
                    check: "pg_dump", severity: .error, evidence: "none is installed for a server of version \(server)",
                    mend: "install postgresql-client-\(server)"))
        }
        if !installed.contains(where: { $0.majorVersion == server && isExecutable($0.path("initdb")) }) {
            findings.append(
                Finding(
                    check: "server programs", severity: .warning,
                    evidence:
                        "none of version \(server) are installed: restore tests need a scratch database on the server",
                    mend: "install postgresql-\(server)"))
        }
        for program in ["age", "zstd"] {
            let outcome = try? await Command(program, ["--version"]).run(limit: .seconds(10))
            if outcome?.succeeded != true {
                findings.append(
                    Finding(
                        check: program, severity: .error, evidence: "it is not installed",
                        mend: "install the package \(program)"))
            }
        }
        return findings
    }

    private static func isExecutable(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// Backups that cannot be read, that are not proven, and that no known identity opens.
    private static func examine(_ repository: Repository, _ name: String, _ identities: [String]) async -> [Finding] {
        var findings: [Finding] = []
        let check = "backups of \(name) in \(repository.store.place)"
        func find(_ severity: Finding.Severity, _ evidence: String, _ mend: String) {
            findings.append(Finding(check: check, severity: severity, evidence: evidence, mend: mend))
        }
        do {
            let manifests = try await repository.manifests(of: name) {
                find(.error, $0.description, "'reeve backup verify --all' tells more")
            }
            guard let newest = manifests.last else {
                find(.error, "there are none", "'reeve backup create' makes one")
                return findings
            }
            if try await repository.lastProven(of: name) == nil {
                find(.error, "none was ever shown to restore", "'reeve backup test' shows it")
            }
            if let time = try? Timestamp.fromPostgres(newest.finishedAt), time.date.timeIntervalSinceNow < -36 * 3600 {
                find(
                    .warning, "the newest is of \(newest.finishedAt)",
                    "'reeve task history' tells why there is no newer one")
            }
            guard !identities.isEmpty else { return findings }
            let closed = try await repository.trials(manifests, identities: identities).filter {
                $0.opening?.isEmpty == true
            }
            if !closed.isEmpty {
                find(
                    .error, "no known identity opens \(closed.map(\.backup).joined(separator: ", "))",
                    "find the identity of their recipients, which 'reeve backup show' names; "
                        + "'reeve backup key rewrap' makes them readable by today's")
            }
        } catch {
            find(.error, "\(error)", "check that it can be reached and read")
        }
        return findings
    }
}
