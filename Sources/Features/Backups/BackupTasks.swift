import Backups
import Foundation
import Kernel
import Postgres
import Reporting
import Storage
import Telemetry

/// The task that backs up the database. If the server's version has changed since the last proven backup, backups that
/// were made with the new version may fail to restore. The task then tests the new backup immediately, if this machine
/// can decrypt it.
enum BackupTask {
    static func run(_ call: TaskCall) async throws -> String {
        let work = try BackupWork(call)
        let result = try await work.create(BackupSettings.maker(work.configuration), actor: ServiceInstance.name)
        let manifest = result.manifest
        var text = "\(manifest.id): \(counted(manifest.tables.count, "table")), \(BackupText.size(manifest.bytes))"
        if !result.failed.isEmpty {
            throw BackupError.notWritten(result.failed.map { ($0.place, "\($0.error)") })
        }
        let repository = work.repositories[0]
        let canOpen = manifest.recipients.isEmpty || BackupSettings.identity(work.configuration) != nil
        let proven = try await repository.lastProven(
            of: work.open.name, against: await work.evidence { _ in })?.manifest
        if canOpen, let proven, proven.server != manifest.server {
            let stored = try await repository.stored(manifest.id, of: work.open.name)
            text += "; " + (try await RestoreTestTask.test(FoundBackup(repository: repository, stored: stored), work))
        }
        return text
    }
}

/// The task that removes the backups that the retention policy does not keep.
enum PruneTask {
    static func run(_ call: TaskCall) async throws -> String {
        let work = try BackupWork(call)
        let (removed, freed) = try await work.prune(actor: ServiceInstance.name)
        return "removed \(counted(removed, "backup")), \(BackupText.size(freed)) freed"
    }
}

/// The task that checks whether all parts of the backups exist, and reads some of them.
enum VerifyTask {
    static func run(_ call: TaskCall) async throws -> String {
        let work = try BackupWork(call)
        var verifier = BackupVerifier(work.repositories, of: work.open.name)
        verifier.share = Double(call.configuration[BackupSettings.verifyPercent]) / 100
        verifier.identity = BackupSettings.identity(work.configuration)
        let logger = call.logger
        verifier.evidence = await work.evidence { logger.warning("the ledger", [LogField("what", $0)]) }
        let result = try await verifier.verify()
        guard result.problems.isEmpty else { throw TaskFinding(BackupText.text(result)) }
        if let error = result.untried.first { throw error }
        return BackupText.summary(result)
    }
}

/// The task that proves that the newest backup can be restored.
enum RestoreTestTask {
    static func run(_ call: TaskCall) async throws -> String {
        let work = try BackupWork(call)
        let logger = call.logger
        let search = try await work.search {
            logger.warning("the search for the newest backup", [LogField("what", $0)])
        }
        return try await test(try await search.find("latest"), work)
    }

    static func test(_ found: FoundBackup, _ work: BackupWork) async throws -> String {
        let proof = try await work.test(found, identity: nil, actor: ServiceInstance.name)
        guard proof.isProved else { throw TaskFinding(BackupText.text(proof)) }
        return BackupText.summary(proof)
    }
}
