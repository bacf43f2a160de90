import Backups
import Kernel
import Storage

extension Feature {
    /// Backups: their creation, verification, test, restore and removal.
    public static let backups = Feature(
        "backups", commands: BackupCommands.all + [RecoverCommand.spec], settings: BackupSettings.keys,
        sections: [MaskSection.section.key], tasks: BackupTasks.all, collectors: [BackupMetrics.collector],
        checks: BackupChecks.all, errors: [BackupError.self, StorageError.self],
        mistakes: BackupSettings.mistakes)
}

/// The tasks of backups, with their schedules. They are enabled if a repository is configured.
enum BackupTasks {
    static let restoreTest = "restore-test"

    static let all = [
        TaskSpec(
            "backup", "back up the database", schedule: "20 2 * * *", timeout: .seconds(12 * 3600), retries: 2,
            isOn: hasRepository, work: BackupTask.run),
        TaskSpec(
            "prune", "remove the backups that the policy does not keep", schedule: "40 4 * * *",
            timeout: .seconds(3600), retries: 1, isOn: hasRepository, work: PruneTask.run),
        TaskSpec(
            "verify", "check that all parts of the backups exist, and read some of them", schedule: "20 6 * * *",
            timeout: .seconds(4 * 3600), retries: 1, isOn: hasRepository, work: VerifyTask.run),
        TaskSpec(
            restoreTest, "prove that the newest backup can be restored", schedule: "20 5 * * sun",
            timeout: .seconds(12 * 3600), retries: 0,
            isOn: { hasRepository($0, $1) && BackupSettings.canOpen($0) }, work: RestoreTestTask.run),
    ]

    @Sendable
    private static func hasRepository(_ configuration: Configuration, _ isEmbedded: Bool) -> Bool {
        !configuration[RepositorySettings.repository].isEmpty
    }
}
