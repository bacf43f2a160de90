import Foundation
import Ledger
import Postgres
import Reporting
import Storage
import Telemetry

/// A difference between a restored database and its backup.
public struct RestoreDifference: Sendable, Equatable, Codable {
    /// `table`, `sequence`, `large objects`, `extension`, `database`, `schema`, `role`, `part`, `check`, or the kind of
    /// an object in the schema.
    public let kind: String
    public let object: String
    public let expected: String
    public let found: String
}

/// The result of a restore test.
public struct Proof: Sendable, Equatable, Codable {
    public let backup: String
    public let isProved: Bool
    public let tables: Int
    public let differences: [RestoreDifference]
    /// The duration of the restore in seconds, without the creation of the cluster and the comparison. A real restore
    /// on this machine would take as long. 0 if the restore failed.
    public let restoreSeconds: Double
    /// The duration of the restore and the comparison in seconds.
    public let testSeconds: Double
    public let testedAt: String
    /// The version of the server that the backup was restored into, as `server_version_num`.
    public let server: Int
    /// The names of the checks that were run.
    public let checks: [String]
    /// Descriptions of what could not be compared; nil: nothing.
    public var notCompared: [String]?
}

/// Restores a backup into a scratch server that is removed afterwards, and compares everything that the manifest
/// records.
public struct RestoreTest: Sendable {
    let repository: Repository
    let stored: StoredManifest
    let signingKey: SigningKey?
    let settings: Restorer.Settings
    let scratch: ScratchServer
    let checks: [SystemCheck]
    let logger: Logger
    /// How long the restore and the comparison may take; nil: as long as they need.
    public var limit: Duration?

    private var manifest: Manifest { stored.manifest }

    /// - Parameters:
    ///   - signingKey: the key that the proof is signed with; nil: it is not signed.
    ///   - folder: the folder for the scratch cluster.
    ///   - beside: the server in which a scratch database is made if no server programs are installed.
    public init(
        repository: Repository, stored: StoredManifest, signingKey: SigningKey? = nil, settings: Restorer.Settings,
        folder: String,
        beside: ConnectionSettings? = nil, checks: [SystemCheck] = [], logger: Logger = .silent
    ) {
        self.repository = repository
        self.stored = stored
        self.signingKey = signingKey
        self.settings = settings
        scratch = ScratchServer(manifest: stored.manifest, folder: folder, beside: beside, logger: logger)
        self.checks = checks
        self.logger = logger
    }

    /// Restores and compares the backup, and stores the result next to the backup: as JSON, and as text for people.
    ///
    /// - Throws: `BackupError` (`.testTimedOut`), `EmbeddedClusterError` and others if the test could not be carried out, for example
    ///   because a program was killed, the server was lost or the disk was full. A backup that cannot be restored, or
    ///   whose restored contents differ, is a result and not an error.
    public func run(progress: @escaping Restorer.Progress = { _, _ in }) async throws -> Proof {
        if !manifest.recipients.isEmpty, settings.identity == nil { throw BackupError.needsIdentity(id: manifest.id) }
        let proof = try await scratch.with(roomFor: manifest.databaseBytes) { target, isOwn in
            try await withWatch({ try await StatementWatch(target: target, limit: limit, logger: logger).run() }) {
                try await restoreAndCompare(target, isOwn: isOwn, progress)
            }
        }
        try await proof.store(for: stored, in: repository, signedBy: signingKey)
        return proof
    }

    private func restoreAndCompare(
        _ target: ConnectionSettings, isOwn: Bool, _ progress: @escaping Restorer.Progress
    ) async throws -> Proof {
        var settings = settings
        settings.makesRoles = isOwn
        settings.restoresAllRoles = isOwn
        settings.restoresAccess = true
        settings.trust = await scratch.trust(isOwn: isOwn, otherwise: settings.trust)
        // Turn off masks and `beforeOpening`, which are for databases that are kept after the restore.
        settings.masking = MaskingRules([:])
        settings.beforeOpening = nil
        // A scratch database on another server could not be dropped if it were a template.
        settings.makesTemplates = isOwn
        let restorer = Restorer(repository: repository, manifest: manifest, settings: settings, logger: logger)
        let server = try await Connection.opened(target.restoring.named("reeve restore test")) {
            await $0.serverVersion
        }
        let began = ContinuousClock.now
        var differences: [RestoreDifference]
        var notCompared: [String] = []
        var seconds = 0.0
        do {
            let outcome = try await restorer.restore(into: target, progress: progress)
            seconds = (ContinuousClock.now - began).inSeconds
            var compared = manifest
            if !isOwn { compared.access?.isTemplate = nil }
            let comparison = Comparison(manifest: compared, restorer: restorer, target: target)
            differences = outcome.missing.map {
                RestoreDifference(
                    kind: $0.kind, object: $0.object, expected: "restored", found: "refused: \($0.reason)")
            }
            differences += try await comparison.differences()
            notCompared = try await comparison.notCompared()
            differences += try await runChecks(target)
        } catch BackupError.part(let object, let reason) {
            // If the server is gone, the failure proves nothing about the backup.
            do {
                try await Connection.opened(target.restoring.named("reeve restore test")) { connection in
                    try await connection.with { _ = try $0.query("SELECT 1") }
                }
            } catch {
                throw BackupError.notRestored(
                    object: object, reason: "\(reason), and the server does not answer: \(error)")
            }
            differences = [
                RestoreDifference(kind: "part", object: object, expected: "restored", found: "refused: \(reason)")
            ]
        }
        return Proof(
            backup: manifest.id, isProved: differences.isEmpty, tables: manifest.tables.count, differences: differences,
            restoreSeconds: seconds, testSeconds: (ContinuousClock.now - began).inSeconds,
            testedAt: Timestamp.now.rfc3339, server: server, checks: checks.map(\.name),
            notCompared: notCompared.isEmpty ? nil : notCompared)
    }

    private func runChecks(_ target: ConnectionSettings) async throws -> [RestoreDifference] {
        let checks = checks
        if checks.isEmpty { return [] }
        // The session is confined, because ANALYZE evaluates the expressions of indexes and statistics. It evaluates
        // them with the rights of the table's owner, whichever role wrote them.
        try await Confinement.during(in: target.restoring.named("reeve restore test")) { _ in
            try await Connection.opened(target.restoring.named("reeve restore test")) { connection in
                try await connection.with { _ = try $0.execute("ANALYZE") }
            }
        }
        return try await Connection.opened(target.restoring.named("reeve restore test")) { connection in
            try await connection.with { connection in
                try checks.compactMap { check in
                    do {
                        let rows = try check.rows(on: connection)
                        if rows == 0 { return nil }
                        return RestoreDifference(
                            kind: "check", object: check.name, expected: "no row", found: counted(rows, "row"))
                    } catch let error as PostgresError where error.kind == .server && !error.isOutage {
                        return RestoreDifference(
                            kind: "check", object: check.name, expected: "no row", found: error.message)
                    }
                }
            }
        }
    }
}

extension Proof {
    /// A description of the result for people.
    public func report(of manifest: Manifest) -> String {
        let rows = manifest.tables.reduce(0) { $0 + $1.rows }
        var lines = [
            "Backup \(backup) of '\(manifest.shownSource)', taken \(manifest.startedAt) to \(manifest.finishedAt).",
            "Restored \(testedAt) into an empty server of version \(server / 10000).\(server % 10000): "
                + (isProved
                    ? "the restored database equals its source at the snapshot."
                    : "THE RESTORED DATABASE DIFFERS FROM ITS SOURCE."),
            "",
            "Compared: \(counted(tables, "table")) with \(counted(rows, "row")), by count and content; "
                + "\(counted(manifest.sequences.count, "sequence")); "
                + "\(counted(manifest.largeObjects?.count ?? 0, "large object")); "
                + "\(counted(manifest.roles.count, "role")); the schema; the settings of the database"
                + (manifest.access == nil ? "." : "; the owner, the grants and the connection limit of the database."),
            "Not compared: \(notCompared?.joined(separator: "; ") ?? "nothing").",
            "Checks run: \(checks.isEmpty ? "none" : checks.joined(separator: ", ")).",
            "The restore took \(Self.seconds(restoreSeconds)); restore and comparison took "
                + "\(Self.seconds(testSeconds)).",
        ]
        if !differences.isEmpty { lines += ["", "Differences:"] }
        lines += differences.map { "  \($0.kind) \($0.object): expected \($0.expected), found \($0.found)" }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func seconds(_ value: Double) -> String { "\((value * 10).rounded() / 10) s" }
}
