import Foundation
import Postgres
import Processes
import SQL
import Storage
import Telemetry

/// Restores a backup into a database.
///
/// Every part is hashed while it is read. If a part differs from what the manifest records, the restore fails, even if
/// pg_restore has accepted the part.
public struct Restorer: Sendable {
    public struct Settings: Sendable {
        /// The file with the age identity. Required for an encrypted backup.
        public var identity: String?
        public var jobs = 2
        /// Whether missing roles are created.
        public var makesRoles = false
        /// Whether existing roles, too, get the attributes that the backup records. This may be set only for a server
        /// that is used for nothing else.
        var restoresAllRoles = false
        /// Whether the target gets the owner, the grants and the connection limit of the backup. This is set for a
        /// target that was made for the restore.
        public var restoresAccess = false
        public var masking = MaskingRules([:])
        /// The roles whose functions may run while a superuser restores.
        public var trust = CodeTrust.roles([])
        /// Called when everything is restored, before other sessions may connect. Its errors make the restore fail.
        public var beforeOpening: (@Sendable (ConnectionSettings) async throws -> Void)?
        /// The folder for temporary copies of archives that pg_restore must read from a file. The copies contain
        /// definitions and no rows.
        public var temporaryFolder = NSTemporaryDirectory()
        /// How long a restore of single tables waits, before it makes a constraint, for locks that sessions of the
        /// target hold.
        var lockPatience = ConstraintMaking.LockPatience()
        /// The maximum size of a part that is read as text, in bytes. A limit is needed, because anyone who can write
        /// to a repository can store a few kilobytes that are unpacked to gigabytes.
        var textLimit = 256 << 20

        public init() {}
    }

    /// Called with the number of bytes read so far and the total.
    public typealias Progress = @Sendable (_ done: Int, _ total: Int) -> Void

    let repository: Repository
    let manifest: Manifest
    let settings: Settings
    let logger: Logger

    public init(repository: Repository, manifest: Manifest, settings: Settings, logger: Logger = .silent) {
        self.repository = repository
        self.manifest = manifest
        self.settings = settings
        self.logger = logger
    }

    /// Restores everything into an empty database. If a superuser restores, only superusers can connect until the
    /// restore is complete; if it fails, the database stays closed.
    ///
    /// - Throws: `BackupError`, `PipelineError`, `PostgresError`, `StorageError`.
    public func restore(into target: ConnectionSettings, progress: @escaping Progress = { _, _ in }) async throws {
        let tools = try await prepare(target)
        if !settings.masking.isEmpty, try await !Confinement.isSuperuser(in: target.restoring) {
            throw BackupError.maskingInPublic(database: target.parameters["dbname"] ?? "the target")
        }
        if settings.trust != .everybody {
            let archives = try await PartReader(self, parts: []) { _, _ in }.definitions(tools)
            try await settings.trust.check(archives, for: target, owners: manifest.neededRoles)
        }
        let plan = RestorePlan(.everything, of: manifest, jobs: settings.jobs, masking: settings.masking)
        let steps = RestorePlan.definitions(of: manifest) + plan.contents
        let roles = settings.makesRoles ? manifest.parts.filter { $0.kind == .roles } : []
        let reader = PartReader(self, parts: roles + RestorePlan.parts(of: steps + plan.last), progress)
        let run = RestoreRun(target: target, tools: tools, reader: reader, trust: settings.trust)
        let access = settings.restoresAccess ? manifest.access : nil
        try await RestoreGuard(target, restoring: manifest.id, access).closed {
            try await settings.trust.checkIsClean(target)
            if settings.makesRoles { try await makeRoles(target, reader, all: settings.restoresAllRoles) }
            if let access {
                try await Connection.opened(target.restoring) { connection in
                    try await connection.with { connection in
                        try connection.transaction { try access.grant(on: connection) }
                    }
                }
            }
            // The functions of the backup are confined, because inserting rows and making constraints call them.
            try await Confinement.during(in: target.restoring) {
                try await run.perform(steps, under: $0)
            }
            try await run.perform(plan.last)
            try await applySettings(target)
        } last: {
            try await settings.beforeOpening?(target)
        }
    }

    /// Checks, before the first byte is written, that the restore is possible.
    ///
    /// - Throws: `BackupError.targetLacks`, `.needsIdentity`, `.noProgram`, `.noPgDump`.
    func prepare(_ target: ConnectionSettings) async throws -> BackupTools {
        if !manifest.recipients.isEmpty, settings.identity == nil { throw BackupError.needsIdentity(id: manifest.id) }
        try await BackupTools.check(encrypts: !manifest.recipients.isEmpty)
        return try await Connection.opened(target.restoring) { connection in
            let lacking = try await connection.with { try lacks(on: $0) + lackingSettings(on: $0) }
            if !lacking.isEmpty { throw BackupError.targetLacks(lacking) }
            return try await BackupTools.dumping(server: manifest.server, beside: connection)
        }
    }

    private func lacks(on connection: isolated Connection) throws -> [String] {
        var lacking: [String] = []
        if connection.serverVersion / 10000 < manifest.server / 10000 {
            lacking.append("PostgreSQL \(manifest.server / 10000)")
        }
        let encoding = try DatabaseLocale.read(on: connection).encoding
        if encoding != manifest.locale.encoding { lacking.append("the encoding \(manifest.locale.encoding)") }
        let available = Set(
            try connection.query("SELECT name::text FROM pg_available_extensions").map {
                try $0.get(0, as: String.self)
            })
        lacking += manifest.extensions.keys.sorted().filter { !available.contains($0) }.map { "the extension \($0)" }
        guard !settings.makesRoles else { return lacking }
        let roles = Set(try Self.roles(on: connection))
        let needed = manifest.neededRoles + (settings.restoresAccess ? manifest.access?.roles ?? [] : [])
        let missing = Set((needed + databaseSettings.compactMap(\.role)).map(ExactText.init)).subtracting(roles)
        return lacking + missing.sorted().map { "the role \($0.text)" }
    }

    /// Returns the names of all roles of the server.
    static func roles(on connection: isolated Connection) throws -> [ExactText] {
        try connection.query("SELECT rolname::text FROM pg_roles").map { ExactText(try $0.get(0)) }
    }

    private var databaseSettings: [DatabaseSetting] { manifest.settings.compactMap(DatabaseSetting.init) }

    /// Returns messages about the settings that the server refuses. The restore applies settings only after all rows,
    /// so each setting is tried beforehand, in a transaction that is rolled back. Settings of missing roles are
    /// skipped.
    private func lackingSettings(on connection: isolated Connection) throws -> [String] {
        let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
        let roles = Set(try Self.roles(on: connection))
        return try databaseSettings.compactMap { setting in
            if let role = setting.role, !roles.contains(ExactText(role)) { return nil }
            do {
                try connection.transaction {
                    try connection.execute(setting.statement(for: name))
                    throw Tried()
                }
                return nil
            } catch is Tried {
                return nil
            } catch let error as PostgresError where ["42704", "22023", "0A000", "55P02"].contains(error.sqlState) {
                return "support for the backup's value of the setting \(setting.name) (\(error.message))"
            }
        }
    }

    /// Thrown to roll back a transaction that was only a trial.
    private struct Tried: Error {}

    /// Returns a message if the owner, the grants or the connection limit of the target differ from those of the
    /// backup; nil if they are equal, or if the backup does not record them.
    public func keptAccess(of target: ConnectionSettings) async throws -> String? {
        guard let wanted = manifest.access else { return nil }
        let found = try await Connection.opened(target.restoring) { connection in
            try await connection.with { try DatabaseAccess.read(on: $0) }
        }
        if wanted.isMet(by: found) { return nil }
        return
            "the target's owner, grants and connection limit were not changed; the backup has: \(wanted.description)"
    }

    // MARK: Parts

    /// Returns the text of a part.
    func text(of part: Manifest.Part) async throws -> String {
        try await PartReader(self, parts: [part]) { _, _ in }.text(of: part)
    }

    // MARK: Roles and settings

    /// Creates the missing roles. Existing roles are not changed, unless `all` is true.
    ///
    /// pg_dumpall has read the names in the database `postgres`. They are written there too, because the encoding of
    /// another database may lack characters of them.
    func makeRoles(_ target: ConnectionSettings, _ reader: PartReader, all: Bool = false) async throws {
        for part in manifest.parts where part.kind == .roles {
            let script = Array(try await reader.text(of: part).utf8)
            let statements = try SQLLexer.split(script, file: part.object).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let common = target.restoring.database("postgres")
            let isThere = await (try? Connection.opened(common) { _ in }) != nil
            try await Connection.opened(isThere ? common : target.restoring) { connection in
                try await connection.with { connection in
                    let uncreated = RoleStatement.uncreated(in: statements)
                    let known = all ? [] : Set(try Self.roles(on: connection))
                    for statement in statements where RoleStatement(statement)?.isAbout(known) != true {
                        do {
                            try connection.execute(statement)
                        } catch let error as PostgresError where error.sqlState == "42710" {
                            continue  // the role exists
                        } catch let error as PostgresError
                            where error.sqlState == "42704"
                            && RoleStatement(statement)?.roles.contains(where: uncreated.contains) == true
                        {
                            continue  // the role was created while pg_dumpall was reading
                        }
                    }
                }
            }
        }
    }

    private func applySettings(_ target: ConnectionSettings) async throws {
        let settings = databaseSettings
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
                for setting in settings { try connection.execute(setting.statement(for: name)) }
            }
        }
    }
}
