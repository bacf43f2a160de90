import Backups
import Foundation
import Kernel
import Postgres
import Processes
import Reporting
import SQL

/// The checks of `reeve doctor` for backups.
enum BackupChecks {
    static let all = [
        Check("programs", "the programs that backups and restores use are installed", run: programs),
        Check(
            "backups", "every repository has a recent and a proven backup, and the given identities open all backups",
            run: backups),
        Check(
            "restores", "no interrupted restore has left a database behind, or left constraints missing",
            run: restores),
    ]

    @Sendable
    private static func restores(_ call: Check.Call) async throws -> [Finding] {
        guard let open = call.open else { return [] }
        let subject = "restores of \(call.database.name)"
        return try await open.database.withDirectConnection(named: "reeve doctor") { connection in
            try await connection.with { connection in
                let databases = try Replacement.unfinished(on: connection).map {
                    Finding(
                        subject, .warning, "the database '\($0)' belongs to an unfinished restore",
                        mend: "unless that restore is running, DROP DATABASE \(quoteIdentifier($0))")
                }
                let closed = try ClosedDatabase.read(on: connection).map {
                    Finding(
                        subject, .warning,
                        "the database is closed, because a restore of \(visible($0.backup)) into it is unfinished",
                        mend: "unless that restore is running, restore into the database again with --confirm, or drop "
                            + "the database")
                }
                return try databases + [closed].compactMap { $0 }
                    + UnfinishedRestore.all(on: connection).map { finding(subject, $0) }
            }
        }
    }

    private static func finding(_ subject: String, _ record: UnfinishedRestore) -> Finding {
        // Any role that may create schemas can create such a record, so the strings in the record are escaped.
        let missing = record.missingNames.map { visible($0) }.joined(separator: ", ")
        let unless = "unless that restore is running, "
        return Finding(
            subject, .warning,
            "a restore of \(visible(record.backup)) by '\(visible(record.role))' is unfinished; "
                + (missing.isEmpty ? "no constraint is missing" : "it has yet to create \(missing)"),
            mend: unless
                + (missing.isEmpty
                    ? "" : "run the restore command again with --constraints, or create the constraints and ")
                + "DROP SCHEMA \(record.schema)")
    }

    @Sendable
    private static func programs(_ call: Check.Call) async -> [Finding] {
        var findings: [Finding] = []
        if let version = call.serverVersion { findings += await serverPrograms(version / 10000) }
        for program in ["age", "zstd"] {
            let outcome = try? await Command(program, ["--version"]).run(limit: .seconds(10))
            if outcome?.succeeded != true {
                findings.append(
                    Finding(program, .error, "it is not installed", mend: "install the package \(program)"))
            }
        }
        return findings
    }

    private static func serverPrograms(_ server: Int) async -> [Finding] {
        var findings: [Finding] = []
        let installed = await ServerPrograms.installed()
        if !installed.contains(where: { $0.majorVersion >= server && isExecutable($0.path("pg_dump")) }) {
            findings.append(
                Finding(
                    "pg_dump", .error, "no installed pg_dump can dump a server of version \(server)",
                    mend: "install postgresql-client-\(server)"))
        }
        if !installed.contains(where: { $0.majorVersion == server && isExecutable($0.path("initdb")) }) {
            findings.append(
                Finding(
                    "server programs", .warning,
                    "version \(server) is not installed, so restore tests use a scratch database on the source's "
                        + "server",
                    mend: "install postgresql-\(server)"))
        }
        return findings
    }

    private static func isExecutable(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: path) }

    @Sendable
    private static func backups(_ call: Check.Call) async -> [Finding] {
        let configuration = call.estate.configuration
        guard let repositories = try? BackupSettings.repositories(configuration) else {
            return [
                Finding(
                    "backups of \(call.database.name)", .warning,
                    "no repository is configured, or the address of a repository is not valid",
                    mend: "set backup.repository")
            ]
        }
        let identities =
            call.identities.map { URL(fileURLWithPath: $0).path }
            + [BackupSettings.identity(configuration)].compactMap { $0 }
        var findings: [Finding] = []
        for repository in repositories { findings += await examine(repository, call.database.name, identities) }
        return findings
    }

    /// Finds backups that cannot be read, backups that no known identity opens, and a repository whose backups are
    /// missing, unproven or old.
    private static func examine(
        _ repository: Repository, _ name: String, _ identities: [String]
    ) async -> [Finding] {
        var findings: [Finding] = []
        let subject = "backups of \(name) in \(repository.store.place)"
        func find(_ severity: Finding.Severity, _ evidence: String, _ mend: String) {
            findings.append(Finding(subject, severity, evidence, mend: mend))
        }
        do {
            let manifests = try await repository.manifests(of: name) {
                find(.error, $0.description, "run 'reeve backup verify --all' for details")
            }
            guard let newest = manifests.last else {
                find(.error, "there are no backups", "make one with 'reeve backup create'")
                return findings
            }
            if try await repository.lastProven(of: name) == nil {
                find(.error, "no backup has been proven by a restore test", "prove one with 'reeve backup test'")
            }
            if let time = try? Timestamp.fromPostgres(newest.finishedAt), time.date.timeIntervalSinceNow < -36 * 3600 {
                find(
                    .warning, "the newest backup is more than 36 hours old: it was finished at \(newest.finishedAt)",
                    "look for the reason in 'reeve task history --task backup'")
            }
            guard !identities.isEmpty else { return findings }
            let closed = try await repository.trials(manifests, identities: identities).filter {
                $0.opening?.isEmpty == true
            }
            if !closed.isEmpty {
                find(
                    .error, "none of the given identities opens \(closed.map(\.backup).joined(separator: ", "))",
                    "'reeve backup show' lists the recipients of a backup: find the identity of one of its recipients; "
                        + "then encrypt the backups for the configured recipients with 'reeve backup key rewrap'")
            }
        } catch {
            find(.error, "\(error)", "check that the repository can be reached and read")
        }
        return findings
    }
}
