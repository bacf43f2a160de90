import Postgres

/// Reads schemas of a database into values.
///
///     let found = try await connection.with { try CatalogReader(schemas: ["posters"]).read(on: $0) }
///
/// takes one query for each kind of object, in one read-only transaction whose settings are pinned, so that the
/// server's spelling of expressions depends on nothing but the schema.
public struct CatalogReader: Sendable {
    /// Which schemas are looked at.
    public enum Scope: Sendable, Equatable {
        case schemas(Set<ExactText>)
        /// All but PostgreSQL's own and Reeve's.
        case all
    }

    public let scope: Scope
    /// The role whose ownership goes without saying; nil: the one that reads.
    public let owner: String?
    /// Whether to read the dependencies between objects.
    public var readsDependencies = false
    /// An exported snapshot at which to read; nil: now.
    public var snapshot: String?

    public init(_ scope: Scope, owner: String? = nil) {
        self.scope = scope
        self.owner = owner
    }

    /// Reads all objects.
    ///
    /// - Throws: `PostgresError`; `CancellationError`.
    public func read(on connection: isolated Connection) throws -> SchemaCatalog {
        var attempt = 1
        while true {
            do {
                return try readOnce(on: connection)
            } catch let error as PostgresError where attempt < 12 && Self.isConcurrentChange(error) {
                // The server's functions that spell definitions look at the newest catalog, not at our snapshot.
                attempt += 1
            } catch let error as PostgresError {
                throw LockHolders.explained(error, on: connection)
            }
        }
    }

    /// What reading depends on: the queries. Two programs that have the same read the same.
    public static func version(server: Int) -> String {
        let terms = QueryTerms(version: server, schemas: [], owner: nil)
        return (KindQuery.all.map { $0.sql(terms) } + [PrivilegeQuery.sql(terms), DependencyQuery.sql])
            .joined(separator: "\n")
    }

    /// What is seen when an object is dropped between the query's snapshot and the look at it.
    private static func isConcurrentChange(_ error: PostgresError) -> Bool {
        guard let state = error.sqlState else { return false }
        return ["XX000", "42P01", "42704", "42703", "42883", "40001"].contains(state)
    }

    private func readOnce(on connection: isolated Connection) throws -> SchemaCatalog {
        var options = TransactionOptions(isolation: .repeatableRead, readOnly: true)
        // Some definitions are only spelled under a lock, which a change of the table holds off.
        options.lockTimeout = .seconds(10)
        options.preamble = (snapshot.map { ["SET TRANSACTION SNAPSHOT \(quoteLiteral($0))"] } ?? []) + Self.pins
        return try connection.transaction(options) { try gather(on: connection) }
    }

    private static let pins = [
        "SET LOCAL search_path = pg_catalog, pg_temp", "SET LOCAL datestyle = 'ISO, MDY'",
        "SET LOCAL intervalstyle = postgres", "SET LOCAL timezone = 'UTC'", "SET LOCAL extra_float_digits = 1",
        "SET LOCAL bytea_output = hex", "SET LOCAL quote_all_identifiers = off",
        "SET LOCAL standard_conforming_strings = on", "SET LOCAL jit = off",
    ]

    /// Reads all objects in the open transaction, as it sees them.
    ///
    /// - Throws: as `read`.
    func readOpen(on connection: isolated Connection) throws -> SchemaCatalog {
        var attempt = 1
        while true {
            let outcome = try connection.trial {
                try connection.execute(Self.pins.joined(separator: "; "))
                return try gather(on: connection)
            }
            switch outcome {
            case .success(let catalog): return catalog
            case .failure(let error) where attempt < 12 && Self.isConcurrentChange(error): attempt += 1
            case .failure(let error): throw LockHolders.explained(error, on: connection)
            }
        }
    }

    private func gather(on connection: isolated Connection) throws -> SchemaCatalog {
        let version = connection.serverVersion / 10000
        let schemas = try wantedSchemas(on: connection)
        var builder = CatalogBuilder(readsDependencies: readsDependencies)
        let terms = QueryTerms(version: version, schemas: schemas, owner: owner)
        for query in KindQuery.all {
            try builder.add(try connection.query(query.sql(terms)), of: query)
        }
        try builder.addPrivileges(try connection.query(PrivilegeQuery.sql(terms)))
        if readsDependencies { try builder.addDependencies(try connection.query(DependencyQuery.sql)) }
        var catalog = SchemaCatalog(schemas: schemas, serverVersion: version, objects: Array(builder.objects.values))
        catalog.unsupportedKinds = try connection.query(UnsupportedKindsQuery.sql(terms)).map { try $0.get(0) }
        return catalog
    }

    func wantedSchemas(on connection: isolated Connection) throws -> Set<ExactText> {
        switch scope {
        case .schemas(let schemas): return schemas
        case .all:
            let rows = try connection.query(
                "SELECT nspname::text FROM pg_namespace WHERE \(UserSchemas.conditionWithoutLedger("nspname"))")
            return Set(try rows.map { ExactText(try $0.get(0)) })
        }
    }
}
