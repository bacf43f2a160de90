import Postgres
import SQL

/// Reads schemas of a database as values.
///
///     let found = try await connection.with { try CatalogReader(.schemas(["posters"])).read(on: $0) }
///
/// There is one query for each kind of object. All queries run in one read-only transaction with fixed settings, so
/// that the text of an expression from the server depends on the schema only.
public struct CatalogReader: Sendable {
    /// The schemas to read.
    public enum Scope: Sendable, Equatable {
        case schemas(Set<ExactText>)
        /// All schemas except those of PostgreSQL and Reeve.
        case all
    }

    public let scope: Scope
    /// The role whose ownership is not recorded as a property; nil: the current role.
    public let owner: String?
    /// Whether to read the dependencies between objects.
    public var readsDependencies = false
    /// An exported snapshot to read in; nil: the current state.
    public var snapshot: String?
    /// Whether to read subscriptions.
    public var readsSubscriptions = true

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
                // The server functions that print definitions read the newest catalog, not the snapshot of the
                // transaction. They fail if an object has been dropped since the snapshot, so everything is read again.
                attempt += 1
            } catch let error as PostgresError {
                throw LockHolders.explained(error, on: connection)
            }
        }
    }

    /// Returns the text of all queries. If two versions of the program return the same text, they read equal catalogs.
    public static func version(server: Int) -> String {
        let terms = QueryTerms(version: server, schemas: [], owner: nil)
        return
            (KindQuery.all.map { $0.sql(terms) } + [
                KindQuery.subscriptions.sql(terms), PrivilegeQuery.sql(terms), MemberPrivilegeQuery.sql(terms),
                DependencyQuery.sql,
            ])
            .joined(separator: "\n")
    }

    /// Returns whether the cause of an error may be that an object was dropped after the query's snapshot was taken.
    private static func isConcurrentChange(_ error: PostgresError) -> Bool {
        guard let state = error.sqlState else { return false }
        return ["XX000", "42P01", "42704", "42703", "42883", "40001"].contains(state)
    }

    private func readOnce(on connection: isolated Connection) throws -> SchemaCatalog {
        var options = TransactionOptions(isolation: .repeatableRead, readOnly: true)
        // The functions that print some definitions acquire a lock, which waits for concurrent changes of the table.
        options.lockTimeout = .seconds(10)
        options.preamble = (snapshot.map { ["SET TRANSACTION SNAPSHOT \(quoteLiteral($0))"] } ?? []) + Self.pins
        return try connection.transaction(options) { try gather(on: connection) }
    }

    /// The settings under which the server prints definitions in the same way in all sessions.
    public static let pins = [
        "SET LOCAL search_path = pg_catalog, pg_temp", "SET LOCAL datestyle = 'ISO, MDY'",
        "SET LOCAL intervalstyle = postgres", "SET LOCAL timezone = 'UTC'", "SET LOCAL extra_float_digits = 1",
        "SET LOCAL bytea_output = hex", "SET LOCAL quote_all_identifiers = off",
        "SET LOCAL standard_conforming_strings = on", "SET LOCAL jit = off",
    ]

    /// Reads all objects in the open transaction.
    ///
    /// - Throws: the same errors as `read`.
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
        var terms = QueryTerms(version: version, schemas: schemas, owner: owner)
        terms.readsConnections = try Self.mayReadConnections(on: connection)
        for query in KindQuery.all + (readsSubscriptions ? [KindQuery.subscriptions] : []) {
            try builder.add(try connection.query(query.sql(terms)), of: query)
        }
        try builder.addPrivileges(try connection.query(PrivilegeQuery.sql(terms)))
        try builder.addPrivileges(try connection.query(MemberPrivilegeQuery.sql(terms)))
        if readsDependencies { try builder.addDependencies(try connection.query(DependencyQuery.sql)) }
        var catalog = SchemaCatalog(schemas: schemas, serverVersion: version, objects: Array(builder.objects.values))
        catalog.unsupportedKinds = try connection.query(UnsupportedKindsQuery.sql(terms)).map { try $0.get(0) }
        if builder.unreadable > 0 {
            catalog.unsupportedKinds.append("\(builder.unreadable) options or connections that the role may not read")
        }
        return catalog
    }

    /// The connection strings of subscriptions are readable for superusers only.
    private static func mayReadConnections(on connection: isolated Connection) throws -> Bool {
        try connection.query("SELECT has_column_privilege('pg_subscription', 'subconninfo', 'SELECT')").first?.get(0)
            ?? false
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
