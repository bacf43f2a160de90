import Backups
import Kernel
import Postgres

/// The re-encryption of backups.
extension BackupWork {
    /// Encrypts all backups again for the configured recipients.
    ///
    /// - Returns: the number of parts that were written again, and an error for each manifest that cannot be read.
    func rewrap(
        identity: String?, progress: @escaping @Sendable (String) -> Void
    ) async throws -> (parts: Int, damaged: [BackupError]) {
        let settings = BackupSettings.maker(configuration)
        guard !settings.recipients.isEmpty else { throw BackupError.noRecipients }
        guard let identity = BackupSettings.identity(configuration, given: identity) else {
            throw BackupError.needsIdentity(id: nil)
        }
        return try await alone { connection, lock in
            var result = (parts: 0, damaged: [BackupError]())
            for repository in repositories { try await repository.claim(open.name, on: connection) }
            for repository in repositories {
                result.parts += try await repository.rewrap(
                    database: open.name, identity: identity, recipients: settings.recipients, under: lock,
                    damaged: { result.damaged.append($0) }, progress: progress)
            }
            return result
        }
    }
}
