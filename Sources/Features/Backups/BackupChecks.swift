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
        Check(
            "programs", "the programs that backups and restores use are installed, and do their work",
            run: ProgramCheck.run),
        Check("schedules", "backups, their removal, verification and restore tests are scheduled", run: schedules),
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
                let closed = try RestoreMark.backup(on: connection).map {
                    Finding(
                        subject, .warning,
                        "the database contains a part of \(visible($0)), because a restore into it is unfinished",
                        mend: "unless that restore is running, restore into the database again with --confirm, or drop "
                            + "the database")
                }
                let others = try ClosedDatabase.others(on: connection).map {
                    Finding(
                        subject, .warning,
                        "the database '\(visible($0.database))' contains a part of \(visible($0.backup)), because a "
                            + "restore into it is unfinished",
                        mend: "restore into it again with --confirm, or DROP DATABASE \(quoteIdentifier($0.database))")
                }
                return try databases + others + [closed].compactMap { $0 }
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
        var findings = KeyCheck(call).findings()
        var evidence = RepositoryReview.Evidence()
        if let open = call.open {
            do {
                evidence = try await .read(from: open.database.direct.named("reeve doctor"))
            } catch {
                findings.append(
                    Finding(
                        "backups of \(call.database.name)", .warning,
                        "the ledger cannot be read, so it is not known whether a backup is missing: \(error)",
                        mend: ErrorReport(error).hint))
            }
        }
        evidence.keys = (try? BackupSettings.keys(configuration)) ?? []
        let identities =
            call.identities.map { URL(fileURLWithPath: $0).path }
            + [BackupSettings.identity(configuration)].compactMap { $0 }
        for repository in repositories {
            let check = RepositoryCheck(
                repository: repository, name: call.database.name, identities: identities, evidence: evidence,
                scratchFolder: "\(configuration.stateFolder)/scratch")
            findings += await check.findings()
        }
        return findings
    }

    /// Finds tasks of backups that do not run on their schedule. Restore tests are off by default where this machine
    /// cannot open the backups: then another machine must test them.
    @Sendable
    private static func schedules(_ call: Check.Call) async throws -> [Finding] {
        let configuration = call.estate.configuration
        if configuration[RepositorySettings.repository].isEmpty { return [] }
        return try BackupTasks.all.compactMap { spec in
            if try TaskPlan(spec, configuration, isEmbedded: call.database.isEmbedded).isEnabled { return nil }
            guard spec.name == BackupTasks.restoreTest, !BackupSettings.canOpen(configuration),
                configuration[TaskSettings.standard.enabled, spec.name] == nil
            else {
                return Finding(
                    "task \(spec.name)", .warning, "it is disabled, so nothing here will \(spec.summary)",
                    mend: "set tasks.\(spec.name).enabled to yes, unless another machine does this")
            }
            if !configuration[BackupSettings.signingKeys].isEmpty { return nil }
            return Finding(
                "task \(spec.name)", .warning,
                "restore tests are off, because this machine has no identity, and no other machine can report one",
                mend: "test the backups on a machine that has the identity, and sign the proofs: set "
                    + "backup.signing_key on both machines; or set backup.identity here")
        }
    }
}
