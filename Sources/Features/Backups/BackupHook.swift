import Backups
import Foundation
import Kernel
import Processes

/// A shell command of the user that runs before or after a backup, or after a restore.
///
/// Its environment is the fixed environment of every child process, the hook's own `REEVE_…` variables, and the
/// variables that `backup.hooks.environment` names.
struct BackupHook: Sendable {
    static let before = BackupHook("before", "A shell command to run before a backup. If it fails, no backup is made.")
    static let after = BackupHook(
        "after",
        "A shell command to run after a backup, even if the backup failed. REEVE_BACKUP_STATE is done or failed.")
    static let restored = BackupHook(
        "restored",
        "A shell command to run after a restore, before other sessions may connect. REEVE_RESTORE_URL is the URL of "
            + "the database, without a password.")
    private static let environment = Setting<[String]>(
        list: "backup.hooks.environment", .text,
        "The environment variables that hooks receive in addition to PATH, HOME, LANG, LC_ALL, TMPDIR, TZ and the "
            + "variables REEVE_…. Hooks start in the folder /."
    )

    static let keys = [before.setting.key, after.setting.key, restored.setting.key, environment.key]

    private static let limit: Duration = .seconds(600)

    let name: String
    let setting: Setting<String?>

    private init(_ name: String, _ summary: String) {
        self.name = name
        setting = Setting("backup.hooks.\(name)", .text, summary)
    }

    /// Finds hooks in a file that others can write.
    static func untrusted(_ configuration: Configuration) -> [ConfigurationError] {
        [before, after, restored].compactMap { hook -> ConfigurationError? in
            do throws(ConfigurationError) {
                try configuration.checkCommand(hook.setting)
                return nil
            } catch {
                return error
            }
        }
    }

    /// Runs the command, if one is configured.
    ///
    /// - Throws: `ConfigurationError` if others can write the file that the command is in; `BackupError.hook` if the
    ///   command fails or takes more than ten minutes.
    func run(_ configuration: Configuration, _ values: [String: String]) async throws {
        guard let line = configuration[setting] else { return }
        try configuration.checkCommand(setting)
        let names = configuration[Self.environment]
        let environment = ChildEnvironment.fixed(of: configuration.environment, with: names).merging(values) { $1 }
        do {
            let outcome = try await Command("/bin/sh", ["-c", line], environment: environment).run(limit: Self.limit)
            guard !outcome.succeeded else { return }
            let said = outcome.errorOutput.trimmingCharacters(in: .whitespacesAndNewlines)
            throw BackupError.hook(name: name, reason: said.isEmpty ? "\(outcome.ending)" : said)
        } catch let error as BackupError {
            throw error
        } catch {
            throw BackupError.hook(name: name, reason: "\(error)")
        }
    }
}
