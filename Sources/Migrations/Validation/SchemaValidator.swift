import Catalog
import Foundation
import Ledger
import Postgres
import SQL
import Telemetry

/// Compares a database with the schema that its migrations create.
///
///     let validator = SchemaValidator(database: database, systems: systems)
///     let report = try await validator.validate()
///     for difference in report.differences { print(difference.object, report.mend(difference)) }
///
/// The expected schema is created by the migrations that the ledger records as applied. For a system without records in
/// the ledger, for instance after a restore without the ledger, all migrations of the system are used. Pending
/// migrations are not a difference.
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
        let selections = try selections(nil)
        let whole = try await expected(allMigrations: true).catalog
        return try selections.compactMap { selection in
            let system = selection.system
            if let only = settings.only, !only.contains(system.name) { return nil }
            var own = whole.filtered { whole.system(of: $0) == system.name }
            own.schemas = Set(own.objects.keys.filter { $0.kind == .schema }.map { ExactText($0.name) })
            own.systems = whole.systems.filter { $0.value == system.name }
            let path = "\(system.folder)/\(ExpectedSchemaFinder.snapshotName)"
            let text = SchemaSnapshot.text(of: own, notes: [("migrations", selection.hex)])
            do {
                try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
            } catch {
                throw ValidationError("\(path) cannot be written: \(error.localizedDescription)")
            }
            return path
        }
    }

    /// Returns the schema that the applied migrations create or, if `allMigrations` is true, the schema that all
    /// migrations create. Does not compare it with the database.
    public func expected(allMigrations: Bool) async throws -> ExpectedSchema {
        let state = try await readState()
        return try await finder(state, records: allMigrations ? nil : state.records).find()
    }

    private struct State: Sendable {
        let records: [MigrationRecord]
        let serverVersion: Int
        let role: String
    }

    private func readState() async throws -> State {
        try await database.withDirectConnection(named: "reeve validate") { connection in
            try await connection.with { connection in
                let records =
                    try LedgerSchema.installedVersion(on: connection) == nil
                    ? [] : MigrationLedger.records(on: connection)
                let role: String = try connection.query("SELECT current_user::text").first?.get(0) ?? ""
                return State(records: records, serverVersion: connection.serverVersion, role: role)
            }
        }
    }

    private func selections(_ records: [MigrationRecord]?) throws -> [MigrationSelection] {
        try systems.map { system in
            let own = records?.filter { $0.system == system.name } ?? []
            return try MigrationSelection(
                system, MigrationFolder(reading: system.folder), records: own.isEmpty ? nil : own)
        }
    }

    private func finder(_ state: State, records: [MigrationRecord]?) throws -> ExpectedSchemaFinder {
        ExpectedSchemaFinder(
            selections: try selections(records), server: database.direct, serverVersion: state.serverVersion,
            policy: settings.scratch, cacheFolder: settings.cacheFolder, logger: logger)
    }

    private func attempt() async throws -> SchemaReport? {
        let state = try await readState()
        let finder = try finder(state, records: state.records)
        let owner = settings.owner.flatMap { $0 == "any" ? nil : $0 }
        let (expected, first) = try await both(finder, owner: owner)
        var found = first
        var diff = CatalogDiff()
        diff.comparesOwners = settings.owner != "any"
        var differences = diff.differences(expected: expected.catalog, found: found).filter(isWanted)
        if !differences.isEmpty {
            // Dependencies are read only if there are differences, because only mending needs them.
            var reader = CatalogReader(.schemas(expected.catalog.schemas), owner: owner)
            reader.readsDependencies = true
            found = try await read(reader)
            differences = diff.differences(expected: expected.catalog, found: found).filter(isWanted)
        }
        if try await readState().records != state.records { return nil }
        return SchemaReport(
            expected: expected, found: found, all: differences, ignore: settings.ignore, owner: owner ?? state.role,
            pending: Dictionary(uniqueKeysWithValues: finder.selections.map { ($0.system.name, $0.pending) }))
    }

    /// Returns the expected schema and the found schema. If the expected schema is in the cache, both are read
    /// concurrently.
    private func both(
        _ finder: ExpectedSchemaFinder, owner: String?
    ) async throws -> (ExpectedSchema, SchemaCatalog) {
        if let cached = finder.cached {
            async let found = read(CatalogReader(.schemas(cached.schemas), owner: owner))
            if let catalog = cached.catalog {
                return (ExpectedSchema(catalog: catalog, source: .cache), try await found)
            }
            _ = try await found
        }
        let expected = try await finder.find()
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
    /// The number of pending migrations, by system.
    public let pending: [String: Int]
    private let mender: Mender?

    init(
        expected: ExpectedSchema, found: SchemaCatalog, all: [Difference], ignore: IgnoreList, owner: String,
        pending: [String: Int]
    ) {
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

    /// Returns the SQL that removes one difference.
    public func mend(_ difference: Difference) -> MendScript { mender?.script(for: [difference]) ?? MendScript() }

    /// The SQL that removes all differences, in an order that can be run.
    public var mend: MendScript { mender?.script(for: differences) ?? MendScript() }
}
