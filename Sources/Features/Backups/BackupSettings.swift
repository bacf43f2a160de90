import Auditing
import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Processes
import SQL

/// The settings of backups. They are also converted here to the settings of `BackupMaker`, `Restorer` and
/// `RetentionPolicy`.
enum BackupSettings {
    static let bandwidth = Setting<Int?>(
        "backup.bandwidth", .integer(1...100_000), "The highest rate at which a backup writes, in MiB per second.")
    static let checksRoom = Setting(
        "backup.check_room", .boolean, default: "yes",
        "Whether to leave out a folder that has less free space than the backup is expected to need.")
    static let rolePasswords = Setting(
        "backup.role_passwords", .boolean, default: "no",
        "Whether the password hashes of the roles are backed up. Requires a superuser.")
    static let verifyPercent = Setting(
        "backup.verify_percent", .integer(1...100), default: "10",
        "The percentage of the parts that the task 'verify' reads.")
    static let recipients = Setting<[String]>(
        list: "backup.recipients", .recipient,
        "The age recipients that the backups are encrypted for, as 'reeve backup key new' prints them.")
    static let encryption = Setting<Encryption>(
        "backup.encryption", .choice, default: "age", "With `none`, backups are not encrypted.")
    static let identity = Setting<String?>(
        "backup.identity", .path,
        "The file with the age identity, for restore tests on a machine that may read the backups.")
    static let signingKeys = Setting<[String]>(
        list: "backup.signing_key", .path,
        "Files with signing keys, as 'reeve backup key new-signing' makes them. Manifests and proofs are signed with "
            + "the first one. If any is set, a backup without a valid signature of one of them is not used.")
    static let keepDaily = Setting(
        "backup.keep.daily", .integer(0...10_000), default: "7",
        "For how many days the newest proven backup of each day is kept.")
    static let keepWeekly = Setting(
        "backup.keep.weekly", .integer(0...10_000), default: "5",
        "For how many weeks the newest proven backup of each week is kept.")
    static let keepMonthly = Setting(
        "backup.keep.monthly", .integer(0...10_000), default: "12",
        "For how many months the newest proven backup of each month is kept.")
    static let keepAtLeast = Setting(
        "backup.keep.at_least", .integer(1...10_000), default: "3",
        "How many of the newest backups are kept in any case.")
    static let keepWithin = Setting(
        "backup.keep.within", .duration(), default: "0s", "Every backup younger than this is kept, proven or not.")
    static let jobs = Setting(
        "backup.jobs", .integer(1...64), default: "2", "How many dumps, or jobs of a restore, run at the same time.")

    static let testNice = Setting(
        "backup.test_nice", .integer(0...19), default: "10",
        "The nice value of the programs of a restore test, its server included. With 1 or more, they also use the disk "
            + "only when nothing else does, and are ended first when memory runs out. 0: they run like everything else."
    )

    enum Encryption: String, CaseIterable, Sendable {
        case age, none
    }

    static let keys =
        RepositorySettings.keys + [bandwidth.key, checksRoom.key, rolePasswords.key] + BackupHook.keys
        + [
            verifyPercent.key, recipients.key, encryption.key, identity.key, signingKeys.key, keepDaily.key,
            keepWeekly.key,
            keepMonthly.key, keepAtLeast.key, keepWithin.key, jobs.key, testNice.key,
        ]

    /// Finds repositories that are no folders, and backups that could not be encrypted.
    static func mistakes(_ configuration: Configuration) -> [ConfigurationError] {
        let origin = configuration.origin(RepositorySettings.repository)
        var mistakes = BackupHook.untrusted(configuration)
        for text in configuration.store.texts(RepositorySettings.repository.key.dotted) where !text.contains("://") {
            let path = configuration.resolve(text, from: origin)
            var isFolder: ObjCBool = false
            if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), !isFolder.boolValue {
                mistakes.append(ConfigurationError("\(origin)", nil, "'backup.repository': \(path) is not a folder"))
            }
        }
        // A machine that only restores has the identity, and need not know the recipients.
        if !configuration[RepositorySettings.repository].isEmpty, configuration[encryption] == .age,
            !configuration.store.isWritten(recipients.key.dotted), configuration[identity] == nil
        {
            mistakes.append(
                ConfigurationError(
                    "\(origin)", nil, "backups cannot be encrypted: 'backup.recipients' is missing",
                    hint: "set it to what 'reeve backup key new FILE' prints, or set backup.encryption to none"))
        }
        return mistakes
    }

    /// Returns the configured repositories, in their order.
    ///
    /// - Throws: `ConfigurationError` if none is configured.
    static func repositories(_ configuration: Configuration) throws -> [Repository] {
        let stores = RepositorySettings.stores(configuration)
        guard !stores.isEmpty else {
            throw ConfigurationError(
                "backup.repository", nil, "no repository is configured",
                hint: "set backup.repository, or REEVE_BACKUP_REPOSITORY, to a folder on another disk, or to s3://…")
        }
        return stores.map { Repository($0) }
    }

    static func maker(_ configuration: Configuration) -> BackupMaker.Settings {
        var settings = BackupMaker.Settings()
        settings.isUnencryptedAllowed = configuration[encryption] == .none
        settings.recipients = settings.isUnencryptedAllowed ? [] : configuration[recipients]
        settings.jobs = configuration[jobs]
        settings.bytesPerSecond = configuration[bandwidth].map { $0 << 20 }
        settings.checksRoom = configuration[checksRoom]
        settings.hasRolePasswords = configuration[rolePasswords]
        settings.trustedRoles = configuration[CoreSettings.trustedRoles]
        settings.version = ProgramVersion.current
        return settings
    }

    /// Returns the configured signing keys. The first one signs.
    ///
    /// - Throws: `ConfigurationError` for a file that does not exist; `AuditError` for one that cannot be used.
    static func keys(_ configuration: Configuration) throws -> [SigningKey] {
        let origin = configuration.origin(signingKeys)
        return try configuration[signingKeys].map { text in
            let path = configuration.resolve(text, from: origin)
            guard let key = try SigningKeyFile(path: path).read() else {
                throw ConfigurationError(
                    "\(origin)", nil, "'backup.signing_key': \(path) does not exist",
                    hint: "copy the key from another machine, or make one with 'reeve backup key new-signing \(path)'")
            }
            return key
        }
    }

    /// Returns the priority of the programs of a restore test.
    static func testPriority(_ configuration: Configuration) -> ChildPriority {
        let nice = configuration[testNice]
        return nice == 0 ? .inherited : .background(nice: nice)
    }

    static func retention(_ configuration: Configuration) -> RetentionPolicy {
        var policy = RetentionPolicy()
        policy.daily = configuration[keepDaily]
        policy.weekly = configuration[keepWeekly]
        policy.monthly = configuration[keepMonthly]
        policy.atLeast = configuration[keepAtLeast]
        policy.within = configuration[keepWithin]
        return policy
    }

    static func identity(_ configuration: Configuration, given: String? = nil) -> String? {
        // The path is made absolute, because the programs that receive it run in another working directory.
        (given ?? configuration.path(identity)).map { URL(fileURLWithPath: $0).path }
    }

    /// Returns the settings of a restore, as they are configured.
    ///
    /// - Parameter trusting: trusted roles in addition to the configured ones.
    static func restorer(
        _ configuration: Configuration, identity given: String?, trusting: [String] = []
    ) -> Restorer.Settings {
        var settings = Restorer.Settings()
        settings.identity = identity(configuration, given: given)
        settings.jobs = configuration[jobs]
        settings.trust = .roles(configuration[CoreSettings.trustedRoles] + trusting)
        settings.temporaryFolder = "\(configuration.stateFolder)/scratch"
        if configuration[BackupHook.restored.setting] != nil {
            settings.beforeOpening = { target in
                try await BackupHook.restored.run(configuration, ["REEVE_RESTORE_URL": target.withoutPassword.uri])
            }
        }
        return settings
    }

    /// Whether this machine can decrypt the backups that it makes.
    static func canOpen(_ configuration: Configuration) -> Bool {
        configuration[encryption] == .none || configuration[identity] != nil
    }

    /// Reads the checks of the systems. The checks of a system are in `checks` in the system's folder, and in
    /// `../../backups/checks/SYSTEM` relative to that folder. The second folder exists for the shipped systems.
    static func checks(_ systems: [System]) throws -> [SystemCheck] {
        try systems.flatMap { system -> [SystemCheck] in
            let shipped = URL(fileURLWithPath: system.folder).deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("backups/checks/\(system.name)").path
            return try ["\(system.folder)/checks", shipped].flatMap { folder -> [SystemCheck] in
                let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
                return try files.filter { $0.hasSuffix(".sql") }.sorted().map { file in
                    let sql = try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8)
                    return SystemCheck(
                        "\(system.name)/\(file)", schema: system.schema,
                        sql: sql.substituting("%schema%", with: quoteIdentifier(system.schema)))
                }
            }
        }
    }
}
