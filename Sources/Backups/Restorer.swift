import Catalog
import Foundation
import Postgres
import Processes
import SQL
import Storage
import Telemetry

/// What a restore of a whole backup could not restore as the backup has it.
public struct RestoreOutcome: Sendable {
    /// The entries that the server refused. All rows were restored.
    public var missing: [MissingEntry] = []
    /// Messages about what is as wanted, but worth knowing.
    public var notes: [String] = []

    public init(missing: [MissingEntry] = [], notes: [String] = []) {
        self.missing = missing
        self.notes = notes
    }
}

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
        /// If set, the target gets no more access than this (`DatabaseAccess.narrowed`). Applies with `restoresAccess`.
        public var accessLimit: DatabaseAccess?
        /// Whether the target becomes a template if the backup's source was one. Applies with `restoresAccess`.
        var makesTemplates = true
        /// The tablespaces that take the place of the backup's, by name. A tablespace that is not listed is replaced by
        /// that of the same name, or else by the default tablespace of the target.
        public var tablespaces: [String: String] = [:]
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
    /// - Returns: what was restored in another way than the backup has it, such as an index that the server refused.
    /// - Throws: `BackupError`, `PipelineError`, `PostgresError`, `StorageError`.
    @discardableResult
    public func restore(
        into target: ConnectionSettings, progress: @escaping Progress = { _, _ in }
    ) async throws -> RestoreOutcome {
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
        let missing = Gathered<MissingEntry>()
        var run = RestoreRun(
            manifest, target: target, tools: tools, reader: reader, trust: settings.trust, missing: missing)
        var access = settings.restoresAccess ? manifest.access : nil
        if let limit = settings.accessLimit { access = access?.narrowed(to: limit) }
        if !settings.makesTemplates { access?.isTemplate = nil }
        let given = access
        let placing = try await TablespacePlacing(manifest, settings.tablespaces, in: target)
        run.tablespaces = placing.names
        let filling = run
        let notes = Gathered<String>()
        try await RestoreGuard(target, restoring: manifest.id, given).closed {
            try await settings.trust.checkIsClean(target)
            if settings.makesRoles {
                let made = try await makeRoles(target, reader, all: settings.restoresAllRoles)
                if let note = try await RolePasswords.note(on: made, in: target) { notes.add([note]) }
            }
            if given == nil, let note = try await narrowPublic(target) { notes.add([note]) }
            if let access = given {
                try await Connection.opened(target.restoring) { connection in
                    try await connection.with { connection in
                        try connection.transaction {
                            try access.grant(over: connection)
                            try access.describe(on: connection)
                        }
                    }
                }
            }
            // The functions of the backup are confined, because inserting rows and making constraints call them.
            try await Confinement.during(in: target.restoring) {
                try await filling.perform(RestorePlan.definitions(of: manifest), under: $0)
                if !placing.names.isEmpty {
                    notes.add(try await placing.move(try await catalog(), in: target))
                }
                try await filling.perform(plan.contents, under: $0)
            }
            try await filling.perform(plan.last)
            try await applySettings(target)
        } last: {
            try await settings.beforeOpening?(target)
        }
        return RestoreOutcome(missing: missing.all, notes: notes.all)
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
        let tablespaces = Set(
            try connection.query("SELECT spcname::text FROM pg_tablespace").map { ExactText(try $0.get(0)) })
        lacking += Set(settings.tablespaces.values.map(ExactText.init)).subtracting(tablespaces).sorted().map {
            "the tablespace \($0.text)"
        }
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
        return "the target keeps its owner, grants, connection limit and comment; the backup has: \(wanted.description)"
    }

    /// Revokes the privileges on the target that PUBLIC has there, and not in the backup: the rows must not be open to
    /// more roles than they were.
    ///
    /// - Returns: a message if something was revoked, or could not be revoked.
    private func narrowPublic(_ target: ConnectionSettings) async throws -> String? {
        guard let wanted = manifest.access else { return nil }
        return try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let now = try DatabaseAccess.read(on: connection)
                let narrow = now.withoutPublic(beyond: wanted)
                if narrow.grants == now.grants { return nil }
                let words = now.grants.subtracting(narrow.grants).map(\.privilege.rawValue).sorted()
                    .joined(separator: " and ")
                do {
                    try connection.transaction { try narrow.grant(over: connection) }
                    return
                        "\(words) on the target was revoked from PUBLIC, because the backup does not grant it to PUBLIC"
                } catch let error as PostgresError where error.sqlState == "42501" {
                    return "PUBLIC has \(words) on the target, which the backup does not grant to PUBLIC; revoke it"
                }
            }
        }
    }

    /// Reads the backup's catalog.
    private func catalog() async throws -> SchemaCatalog {
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else {
            return SchemaCatalog(schemas: [], serverVersion: manifest.server / 10000)
        }
        return try SchemaSnapshot.parse(try await text(of: part), file: part.object).catalog
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
    ///
    /// - Returns: the roles that were created.
    @discardableResult
    func makeRoles(
        _ target: ConnectionSettings, _ reader: PartReader, all: Bool = false
    ) async throws -> Set<ExactText> {
        var made: Set<ExactText> = []
        for part in manifest.parts where part.kind == .roles {
            let script = Array(try await reader.text(of: part).utf8)
            let statements = try SQLLexer.split(script, file: part.object).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let common = target.restoring.database("postgres")
            let isThere = await (try? Connection.opened(common) { _ in }) != nil
            made.formUnion(
                try await Connection.opened(isThere ? common : target.restoring) { connection in
                    try await connection.with { connection in
                        var made: Set<ExactText> = []
                        let uncreated = RoleStatement.uncreated(in: statements)
                        let known = all ? [] : Set(try Self.roles(on: connection))
                        for statement in statements where RoleStatement(statement)?.isAbout(known) != true {
                            do {
                                try connection.execute(statement)
                                if statement.hasPrefix("CREATE ROLE ") {
                                    made.formUnion(RoleStatement(statement)?.roles ?? [])
                                }
                            } catch let error as PostgresError where error.sqlState == "42710" {
                                continue  // the role exists
                            } catch let error as PostgresError
                                where error.sqlState == "42704"
                                && RoleStatement(statement)?.roles.contains(where: uncreated.contains) == true
                            {
                                continue  // the role was created while pg_dumpall was reading
                            }
                        }
                        return made
                    }
                })
        }
        return made
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
