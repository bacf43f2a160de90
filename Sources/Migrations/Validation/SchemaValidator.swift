import Catalog
import Foundation
import Ledger
import Postgres
import Reporting
import SQL
import Telemetry

/// Compares a database with the schema that its migrations create.
///
///     let validator = SchemaValidator(database: database, systems: systems)
///     let report = try await validator.validate()
///     for difference in report.differences { print(difference.object, report.mend([difference]).script) }
///
/// The expected schema is created by the migrations that the ledger records as applied. For a system without records in
/// the ledger, for instance after a restore without the ledger, all migrations of the system are used. Pending
/// migrations are not a difference. If the file of an applied migration was changed, the report says so, and the text
/// with which the migration was applied is used.
public struct SchemaValidator: Sendable {
    public struct Settings: Sendable {
        public var scratch: ScratchPolicy = .auto
        /// The folder in which replays are cached; nil: no cache.
        public var cacheFolder: String?
        /// The role whose ownership is not recorded as a property; nil: the role that connects. `any`: owners are not
        /// compared.
        public var owner: String?
        public var ignore = IgnoreList()
        /// The systems that are reported; nil: all systems, and objects that belong to no system.
        public var only: Set<String>?
        /// Roles, in addition to superusers, whose code a live trial may run with the privileges of the role that
        /// connects.
        public var trustedRoles: [String] = []
        /// Migrations that are taken for applied, although the ledger does not record them.
        public var assumed: [MigrationRecord] = []

        public init() {}
    }

    let database: Database
    let systems: [MigrationSystem]
    let settings: Settings
    let logger: Logger

    /// - Throws: `MigrationError.missingRequirement`, `.requirementCycle`.
    public init(
        database: Database, systems: [MigrationSystem], settings: Settings = Settings(), logger: Logger = .silent
    ) throws {
        self.database = database
        self.systems = try MigrationSystem.ordered(systems)
        self.settings = settings
        self.logger = logger
    }

    /// - Throws: `PostgresError`, `MigrationError`, `ValidationError`, `SnapshotError`.
    public func validate() async throws -> SchemaReport {
        // Migrations that run during the comparison would look like differences. If the ledger has changed, the
        // comparison is repeated.
        for _ in 0..<3 {
            if let report = try await attempt() { return report }
        }
        throw ValidationError(
            "the schema cannot be compared while migrations are being applied", hint: "try again when they have ended")
    }

    /// Tries whether constraints reject rows and triggers fire, in transactions that are rolled back.
    ///
    /// - Parameter report: the report whose expected schemas are tried.
    public func tryLive(_ report: SchemaReport) async throws -> LiveReport {
        let wanted = report.expected.catalog
        var reader = CatalogReader(.schemas(wanted.schemas))
        reader.readsDependencies = true
        let only = settings.only
        return try await database.withDirectConnection(named: "reeve validate --live") { [reader] connection in
            try await connection.with { connection in
                let trial = LiveTrial(reader, trusting: settings.trustedRoles) { identity in
                    guard let only else { return true }
                    return wanted.system(of: identity).map(only.contains) ?? false
                }
                return try trial.run(on: connection)
            }
        }
    }

    /// Writes the schema that all migrations of each system create to `schema.snapshot` in the system's folder.
    ///
    /// - Returns: the paths of the files.
    /// - Throws: `PostgresError`, `MigrationError`; `ValidationError` for a file that cannot be written.
    public func writeSnapshots() async throws -> [String] {
        try await snapshots().map { path, text in
            do {
                try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
            } catch {
                throw ValidationError("\(path) cannot be written: \(error.localizedDescription)")
            }
            return path
        }
    }

    /// Returns the path and the text of the snapshot of each system.
    ///
    /// - Throws: `PostgresError`, `MigrationError`.
    public func snapshots() async throws -> [(path: String, text: String)] {
        let selections = try selections(nil, [:])
        let whole = try await expected(allMigrations: true).catalog
        return selections.compactMap { selection in
            let system = selection.system
            if let only = settings.only, !only.contains(system.name) { return nil }
            var own = whole.filtered { whole.system(of: $0) == system.name }
            own.schemas = Set(own.objects.keys.filter { $0.kind == .schema }.map { ExactText($0.name) })
            own.systems = whole.systems.filter { $0.value == system.name }
            let path = "\(system.folder)/\(ExpectedSchemaFinder.snapshotName)"
            return (path, SchemaSnapshot.text(of: own, notes: [("migrations", selection.hex)]))
        }
    }

    /// Returns the schema that the applied migrations create or, if `allMigrations` is true, the schema that all
    /// migrations create. Does not compare it with the database.
    public func expected(allMigrations: Bool) async throws -> ExpectedSchema {
        let state = try await readState(try folders())
        return try await finder(state, allMigrations: allMigrations).find()
    }

    private struct State: Sendable {
        let records: [MigrationRecord]
        /// What the ledger knows beyond the records, by system.
        let applied: [String: AppliedState]
        let serverVersion: Int
        /// See `ExpectedSchemaFinder`.
        let meaning: String
        let role: String
        /// The roles of the server, without those of replays.
        let roles: [String]
    }

    private typealias Folders = [(system: MigrationSystem, folder: MigrationFolder)]

    private func folders() throws -> Folders {
        try systems.map { ($0, try MigrationFolder(reading: $0.folder)) }
    }

    private func readState(_ folders: Folders) async throws -> State {
        try await database.withDirectConnection(named: "reeve validate") { connection in
            try await connection.with { connection in
                let recorded =
                    try LedgerSchema.installedVersion(on: connection) == nil
                    ? [] : MigrationLedger.records(on: connection)
                let records = assuming(settings.assumed, recorded)
                let role: String = try connection.query("SELECT current_user::text").first?.get(0) ?? ""
                var applied: [String: AppliedState] = [:]
                for (system, folder) in folders where records.contains(where: { $0.system == system.name }) {
                    applied[system.name] = try AppliedState.read(
                        system, folder, records.filter { $0.system == system.name }, on: connection)
                }
                let settings = try ReplayedSettings.values(on: connection).map { "\($0.name)=\($0.value)" }
                let locale = try DatabaseLocale.read(on: connection).clause
                let roles: [String] = try connection.query(
                    """
                    SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'
                        AND coalesce(shobj_description(oid, 'pg_authid') !~ $1, true) ORDER BY 1
                    """, [ScratchDatabase.markPattern]
                ).map { try $0.get(0) }
                return State(
                    records: records, applied: applied, serverVersion: connection.serverVersion,
                    meaning: (settings + [locale, role]).joined(separator: "\n"), role: role,
                    roles: roles)
            }
        }
    }

    /// Returns the records with those that are assumed in place of interrupted ones.
    private func assuming(_ assumed: [MigrationRecord], _ recorded: [MigrationRecord]) -> [MigrationRecord] {
        recorded.filter { one in
            !assumed.contains { $0.system == one.system && $0.version == one.version && $0.name == one.name }
        } + assumed
    }

    private func selections(
        _ records: [MigrationRecord]?, _ applied: [String: AppliedState]
    ) throws -> [MigrationSelection] {
        try folders().map { system, folder in
            let own = records?.filter { $0.system == system.name } ?? []
            return try MigrationSelection(
                system, folder, records: own.isEmpty ? nil : own, applied: applied[system.name] ?? AppliedState())
        }
    }

    private func finder(_ state: State, allMigrations: Bool) throws -> ExpectedSchemaFinder {
        ExpectedSchemaFinder(
            selections: try selections(allMigrations ? nil : state.records, state.applied), server: database.direct,
            serverVersion: state.serverVersion, meaning: state.meaning, roles: state.roles,
            policy: settings.scratch, cacheFolder: settings.cacheFolder, logger: logger)
    }

    private func attempt() async throws -> SchemaReport? {
        let folders = try folders()
        let state = try await readState(folders)
        let finder = try finder(state, allMigrations: false)
        let owner = settings.owner.flatMap { $0 == "any" ? nil : $0 }
        let (replayed, first) = try await both(finder, owner: owner)
        var found = first
        var expected = replayed
        var diff = CatalogDiff()
        diff.comparesOwners = settings.owner != "any"
        let compare = { (found: SchemaCatalog) in
            let expected = replayed.catalog.withPartitions(of: found, isNamed: replayed.names)
            return (expected, diff.differences(expected: expected, found: found).filter(isWanted))
        }
        var differences: [Difference]
        (expected.catalog, differences) = compare(found)
        if !differences.isEmpty {
            // Dependencies are read only if there are differences, because only mending needs them.
            var reader = CatalogReader(.schemas(expected.catalog.schemas), owner: owner)
            reader.readsDependencies = true
            found = try await read(reader)
            (expected.catalog, differences) = compare(found)
        }
        let after = try await readState(folders)
        if after.records != state.records || after.applied != state.applied { return nil }
        return SchemaReport(
            expected: expected, found: found, all: differences,
            migrations: finder.selections.filter { settings.only?.contains($0.system.name) ?? true }.flatMap { one in
                one.findings.map { (one.system.name, $0) }
            }, ignore: settings.ignore, owner: owner ?? state.role,
            pending: Dictionary(uniqueKeysWithValues: finder.selections.map { ($0.system.name, $0.pending) }))
    }

    /// Returns the expected schema and the found schema. Both are read concurrently if possible.
    private func both(
        _ finder: ExpectedSchemaFinder, owner: String?
    ) async throws -> (ExpectedSchema, SchemaCatalog) {
        if let cached = finder.cached {
            async let found = read(CatalogReader(.schemas(cached.schemas), owner: owner))
            if let catalog = cached.catalog {
                return (finder.schema(catalog, .cache), try await found)
            }
            _ = try await found
        }
        // The replay usually creates the schemas of the systems and no others.
        let guess = Set(systems.map { ExactText($0.schema) })
        async let early = read(CatalogReader(.schemas(guess), owner: owner))
        let expected = try await finder.find()
        let found = try await early
        if expected.catalog.schemas == guess { return (expected, found) }
        return (expected, try await read(CatalogReader(.schemas(expected.catalog.schemas), owner: owner)))
    }

    private func isWanted(_ difference: Difference) -> Bool {
        guard let only = settings.only else { return true }
        return difference.system.map(only.contains) ?? false
    }

    private func read(_ reader: CatalogReader) async throws -> SchemaCatalog {
        try await database.withDirectConnection(named: "reeve validate") { connection in
            try await connection.with { try reader.read(on: $0) }
        }
    }
}

/// The differences between a database and its migrations.
public struct SchemaReport: Sendable {
    public let expected: ExpectedSchema
    public let found: SchemaCatalog
    /// The differences that are not ignored.
    public let differences: [Difference]
    /// The ignored differences, each with the entry that matches it.
    public let ignored: [(difference: Difference, entry: IgnoreList.Entry)]
    /// The ignore entries that match no difference.
    public let unusedEntries: [IgnoreList.Entry]
    /// The applied migrations whose files were changed since, and those that were begun and not finished, each with its
    /// system. The differences are those to the migrations as they were applied.
    public let migrations: [(system: String, finding: Finding)]
    /// The number of pending migrations, by system.
    public let pending: [String: Int]
    private let mender: Mender?

    init(
        expected: ExpectedSchema, found: SchemaCatalog, all: [Difference],
        migrations: [(system: String, finding: Finding)], ignore: IgnoreList, owner: String, pending: [String: Int]
    ) {
        self.migrations = migrations
        self.expected = expected
        self.found = found
        self.pending = pending
        let judged = all.map { ($0, ignore.entry(for: $0)) }
        differences = judged.filter { $0.1 == nil }.map(\.0)
        ignored = judged.compactMap { difference, entry in entry.map { (difference, $0) } }
        let used = ignored.map(\.entry)
        unusedEntries = ignore.entries.filter { !used.contains($0) }
        mender = all.isEmpty ? nil : Mender(expected: expected.catalog, found: found, owner: owner)
    }

    /// Returns the SQL that removes all or some of the differences, in an order that can be run.
    ///
    /// - Parameters:
    ///   - chosen: the differences; nil: all.
    ///   - lossy: whether statements that lose rows or values are run. Otherwise they are comments.
    public func mend(_ chosen: [Difference]? = nil, lossy: Bool = false) -> MendScript {
        mender?.script(for: chosen ?? differences, lossy: lossy) ?? MendScript()
    }
}
