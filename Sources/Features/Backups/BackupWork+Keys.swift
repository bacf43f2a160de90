import Backups
import Kernel
import Postgres

/// Backups are encrypted anew.
extension BackupWork {
    /// Encrypts all backups for the recipients that are configured now.
    func rewrap(identity: String?, progress: @escaping @Sendable (String) -> Void) async throws -> Int {
        let settings = BackupSettings.maker(configuration)
        guard !settings.recipients.isEmpty else { throw BackupError.noRecipients }
        guard let identity = BackupSettings.identity(configuration, given: identity) else {
            throw BackupError.needsIdentity(id: nil)
        }
        return try await alone { connection, lock in
            var count = 0
            for repository in repositories { try await repository.claim(open.name, on: connection) }
            for repository in repositories {
                count += try await repository.rewrap(
                    database: open.name, identity: identity, recipients: settings.recipients, under: lock,
                    progress: progress)
            }
            return count
        }
    }
}
