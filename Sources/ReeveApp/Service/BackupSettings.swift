import Backups
import Foundation
import Migrations
import Postgres
import Processes
import Storage

/// The settings of backups from the configuration.
enum BackupSettings {
    /// Where backups lie, in the order in which they are named.
    ///
    /// - Throws: `ConfigurationError` where none is named; `StorageError` for what is no place. One that nothing says the
    ///   credentials of fails when it is used, so that the others go on.
    static func repositories(_ configuration: Configuration) throws -> [Repository] {
        let store = configuration.store
        let places = store.values("backup.repository")
        guard !places.isEmpty else {
            throw ConfigurationError(
                "backup.repository", nil, "no repository is configured",
                hint: "set backup.repository, or REEVE_BACKUP_REPOSITORY, to a folder on another disk, or to s3://…")
        }
        let limits = limits(configuration)
        return try places.map { place in
            guard place.hasPrefix(S3Location.scheme) else {
                let folder = configuration.resolve(place, from: store.origin("backup.repository"))
                return Repository(FolderStore(folder), limits: limits)
            }
            let location = try S3Location(place)
            do {
                let credentials = try S3Credentials.find(
                    profile: location.profile, environment: configuration.environment, place: location.place)
                return Repository(S3Store(location, credentials), limits: limits)
            } catch let error as StorageError {
                return Repository(UnusableStore(location.place, error))
            }
        }
    }

    /// How long is waited for a repository.
    static func limits(_ configuration: Configuration) -> BoundedStore.Limits {
        var limits = BoundedStore.Limits()
        let store = configuration.store
        limits.call = store.duration("backup.call_limit") ?? limits.call
        limits.stall = store.duration("backup.stall_limit") ?? limits.stall
        limits.hung = store.integer("backup.hung_calls") ?? limits.hung
        return limits
    }

    static func maker(_ configuration: Configuration) -> BackupMaker.Settings {
        var settings = BackupMaker.Settings()
        let store = configuration.store
        settings.isUnencryptedAllowed = store.text("backup.encryption") == "none"
        settings.recipients = settings.isUnencryptedAllowed ? [] : store.values("backup.recipients")
        settings.jobs = store.integer("backup.jobs") ?? 2
        settings.bytesPerSecond = store.integer("backup.bandwidth").map { $0 << 20 }
        settings.checksRoom = store.boolean("backup.check_room") ?? true
        settings.hasRolePasswords = store.boolean("backup.role_passwords") ?? false
        settings.version = ReeveProgram.version
        return settings
    }

    static func retention(_ configuration: Configuration) -> RetentionPolicy {
        var policy = RetentionPolicy()
        let store = configuration.store
        policy.daily = store.integer("backup.keep.daily") ?? policy.daily
        policy.weekly = store.integer("backup.keep.weekly") ?? policy.weekly
        policy.monthly = store.integer("backup.keep.monthly") ?? policy.monthly
        policy.atLeast = store.integer("backup.keep.at_least") ?? policy.atLeast
        policy.within = store.duration("backup.keep.within") ?? policy.within
        return policy
    }

    static func identity(_ configuration: Configuration, given: String? = nil) -> String? {
        let store = configuration.store
        let path =
            given
            ?? store.text("backup.identity").map { configuration.resolve($0, from: store.origin("backup.identity")) }
        // Programs that are given it start elsewhere.
        return path.map { URL(fileURLWithPath: $0).path }
    }

    static func restorer(_ configuration: Configuration, identity given: String?) -> Restorer.Settings {
        var settings = Restorer.Settings()
        settings.identity = identity(configuration, given: given)
        settings.jobs = configuration.store.integer("backup.jobs") ?? 2
        settings.temporaryFolder = NSTemporaryDirectory()
        if configuration.store.text("backup.hooks.restored") != nil {
            settings.beforeOpening = { target in
                try await BackupHook.run("restored", configuration, ["REEVE_RESTORE_URL": target.withoutPassword.uri])
            }
        }
        return settings
    }

    /// How the systems' columns are masked.
    static func masking(_ systems: [MigrationSystem]) throws -> MaskingRules {
        var rules: [String: [String: [String: MaskingRules.Mask]]] = [:]
        for system in systems {
            let mask = try SystemFile(folder: system.folder).mask
            if !mask.isEmpty { rules[system.schema] = mask }
        }
        return MaskingRules(rules)
    }

    /// The checks of the systems: `backups/checks/SYSTEM/*.sql` beside the shipped migrations, or `checks` in a system's
    /// own folder.
    static func checks(_ systems: [MigrationSystem]) throws -> [SystemCheck] {
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

/// A command of the user's at a moment of a backup or restore.
///
/// It gets the fixed environment of every child, what it is to know as `REEVE_…`, and the variables that
/// `backup.hooks.environment` names.
enum BackupHook {
    private static let limit: Duration = .seconds(600)

    /// Runs it, if there is one.
    ///
    /// - Throws: `BackupError.hook` when it fails, or takes more than ten minutes.
    static func run(_ name: String, _ configuration: Configuration, _ values: [String: String]) async throws {
        guard let line = configuration.store.text("backup.hooks.\(name)") else { return }
        let names = configuration.store.values("backup.hooks.environment")
        let environment = ChildEnvironment.fixed(of: configuration.environment, with: names).merging(values) { $1 }
        do {
            let outcome = try await Command("/bin/sh", ["-c", line], environment: environment).run(limit: limit)
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
