import Catalog
import Foundation
import Kernel
import Migrations
import Postgres
import SQL

/// A schema from a source on the command line: a database, a folder of migrations, a system, or a snapshot file.
struct SchemaSource {
    /// The catalog of the schema.
    let catalog: SchemaCatalog
    /// Whether the catalog covers a whole database. A catalog that covers less may be compared with a whole database.
    /// The comparison then ignores the database's additional objects outside the schemas of this catalog.
    let isWhole: Bool
    /// The role that connected, if the source is a database.
    let owner: String?
    /// Returns whether the source names an object. Only migrations name objects.
    var names: @Sendable (ObjectIdentity) -> Bool = { _ in false }

    /// Reads the schema from a source.
    ///
    /// - Parameters:
    ///   - word: a connection string without a password, a path, or the name of a configured database or of a system.
    ///   - schemas: the schemas to include; empty for all.
    /// - Throws: `UsageError` if the word is none of these; `PostgresError`, `MigrationError`, `SnapshotError`.
    static func open(_ word: String, schemas: Set<ExactText>, _ invocation: Invocation) async throws -> SchemaSource {
        let estate = try invocation.estate()
        if word.contains("://") { return try await database(try settings(word), schemas) }
        if let configured = estate.configuration.databases.first(where: { $0.name == word }) {
            let open = try await estate.open(configured)
            return try await database(open.database.direct, schemas)
        }
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: word, isDirectory: &isFolder)
        if exists, !isFolder.boolValue { return try snapshot(word, schemas) }
        if exists || ShippedSystems.names.contains(word) || !word.contains("/") {
            return try await migrations(word, schemas, estate, invocation)
        }
        throw UsageError(
            "'\(word)' is not a database, a folder of migrations or a snapshot",
            hint: "write postgresql://…, the name of a configured database or system, or a path")
    }

    private static func settings(_ word: String) throws -> ConnectionSettings {
        let settings = try ConnectionSettings(connectionString: word)
        guard settings.parameters["password"] == nil else {
            throw UsageError(
                "a password on the command line is visible to every user of the machine",
                hint: "put it into ~/.pgpass or PGPASSWORD")
        }
        return settings
    }

    private static func database(_ settings: ConnectionSettings, _ schemas: Set<ExactText>) async throws -> SchemaSource
    {
        var reader = CatalogReader(schemas.isEmpty ? .all : .schemas(schemas))
        reader.readsDependencies = true
        return try await Connection.opened(settings.named("reeve schema")) { [reader] connection in
            try await connection.with { connection in
                let role: String? = try connection.query("SELECT current_user::text").first?.get(0)
                return SchemaSource(catalog: try reader.read(on: connection), isWhole: schemas.isEmpty, owner: role)
            }
        }
    }

    private static func snapshot(_ path: String, _ schemas: Set<ExactText>) throws -> SchemaSource {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw UsageError("\(path) cannot be read")
        }
        let catalog = try SchemaSnapshot.parse(String(decoding: data, as: UTF8.self), file: path).catalog
        return SchemaSource(catalog: restricted(catalog, to: schemas), isWhole: false, owner: nil)
    }

    private static func migrations(
        _ word: String, _ schemas: Set<ExactText>, _ estate: Estate, _ invocation: Invocation
    ) async throws -> SchemaSource {
        guard let home = try estate.selected(invocation.option("database")).first else {
            throw UsageError("no database is configured, so the migrations cannot be replayed")
        }
        let name =
            word.contains("/") || !FileManager.default.fileExists(atPath: "\(word)/system.yaml") ? word : "./\(word)"
        let open = try await estate.open(home, chosen: [name])
        let validator = try SchemaValidator(
            database: open.database, systems: open.systems.map(\.migrations),
            settings: ValidationSettings.make(estate.configuration),
            logger: estate.logger)
        let replayed = try await validator.expected(allMigrations: true)
        let expected = replayed.catalog
        // Leave out the objects of the systems that the named system requires.
        let own = open.systems.first?.name
        let catalog = expected.filtered { expected.system(of: $0) == own }
        return SchemaSource(
            catalog: restricted(catalog, to: schemas), isWhole: false, owner: nil, names: { replayed.names($0) })
    }

    private static func restricted(_ catalog: SchemaCatalog, to schemas: Set<ExactText>) -> SchemaCatalog {
        if schemas.isEmpty { return catalog }
        return catalog.filtered { $0.owningSchema.map { schemas.contains(ExactText($0)) } ?? false }
    }

    /// Returns the objects that the other source can also have. If only this source is a whole database, these are the
    /// objects in the schemas of the other source.
    func comparable(with other: SchemaSource) -> SchemaCatalog {
        guard isWhole, !other.isWhole else { return catalog }
        let schemas = Set(other.catalog.objects.keys.compactMap { $0.owningSchema.map(ExactText.init) })
        return catalog.filtered { identity in
            identity.owningSchema.map { schemas.contains(ExactText($0)) } ?? (other.catalog[identity] != nil)
        }
    }
}
