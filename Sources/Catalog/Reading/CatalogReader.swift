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
    /// Whether to read what needs what.
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
        var gathering = Gathering(readsDependencies: readsDependencies)
        let terms = QueryTerms(version: version, schemas: schemas, owner: owner)
        for query in KindQuery.all {
            try gathering.add(try connection.query(query.sql(terms)), of: query)
        }
        try gathering.addPrivileges(try connection.query(PrivilegeQuery.sql(terms)))
        if readsDependencies { try gathering.addDependencies(try connection.query(DependencyQuery.sql)) }
        var catalog = SchemaCatalog(schemas: schemas, serverVersion: version, objects: Array(gathering.objects.values))
        catalog.unheld = try connection.query(UnheldQuery.sql(terms)).map { try $0.get(0) }
        return catalog
    }

    func wantedSchemas(on connection: isolated Connection) throws -> Set<ExactText> {
        switch scope {
        case .schemas(let schemas): return schemas
        case .all:
            let rows = try connection.query(
                """
                SELECT nspname::text FROM pg_namespace
                WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'reeve')
                """)
            return Set(try rows.map { ExactText(try $0.get(0)) })
        }
    }
}

/// Takes rows and makes objects of them.
struct Gathering {
    /// A row of a system catalog, as `pg_depend` names it.
    struct Address: Hashable {
        let catalog: String
        let oid: Int
        /// A column's number, or 0.
        let part: Int
    }

    let readsDependencies: Bool
    var objects: [ObjectIdentity: CatalogObject] = [:]
    private var addresses: [Address: ObjectIdentity] = [:]

    init(readsDependencies: Bool) { self.readsDependencies = readsDependencies }

    /// The columns `oid`, `part`, `schema`, `parent`, `name`, `signature` tell which object; the others are its
    /// properties.
    mutating func add(_ rows: Rows, of query: KindQuery) throws {
        let names = rows.columns
        objects.reserveCapacity(objects.count + rows.count)
        for row in rows {
            guard let kind = try ObjectKind(name: row.get(2)) else { continue }
            let identity = ObjectIdentity(
                kind, schema: try row.get(3), parent: try row.get(4), try row.get(5), signature: try row.get(6))
            var properties: [(name: String, value: String)] = []
            for column in 7..<names.count {
                guard let value = try row.get(column, as: String?.self) else { continue }
                properties.append((names[column], SpellingRules.canonical(value, property: names[column], of: kind)))
            }
            objects[identity] = CatalogObject(identity, properties: properties)
            if readsDependencies {
                let part = try row.get(1, as: Int?.self) ?? 0
                try register(row.get(0), query.catalog, part: part, as: identity)
            }
        }
    }

    private mutating func register(_ oids: String, _ catalog: String, part: Int, as identity: ObjectIdentity) throws {
        // The object itself, and the rows of other catalogs that stand for it: 'class:oid', or the bare number.
        for word in oids.split(separator: " ") {
            let halves = word.split(separator: ":")
            guard let oid = halves.last.flatMap({ Int($0) }) else { continue }
            let place = halves.count == 2 ? String(halves[0]) : catalog
            addresses[Address(catalog: place, oid: oid, part: halves.count == 2 ? 0 : part)] = identity
        }
    }

    mutating func addPrivileges(_ rows: Rows) throws {
        for row in rows {
            guard let kind = try ObjectKind(name: row.get(0)) else { continue }
            let identity = ObjectIdentity(
                kind, schema: try row.get(1), parent: try row.get(2), try row.get(3), signature: try row.get(4))
            let grantee: String = try row.get(5)
            // Columns of views are listed only where there is something to say of them; the functions that PostgreSQL
            // makes for a range are not listed at all.
            guard objects[identity] != nil || kind == .column else { continue }
            objects[identity, default: CatalogObject(identity)]["privileges of \(grantee)"] = try row.get(6)
        }
    }

    mutating func addDependencies(_ rows: Rows) throws {
        var needs: [ObjectIdentity: Set<ObjectIdentity>] = [:]
        for row in rows {
            let from = try find(row.get(0), row.get(1), row.get(2))
            let to = try find(row.get(3), row.get(4), row.get(5))
            if let from, let to, from != to { needs[from, default: []].insert(to) }
        }
        for (identity, others) in needs { objects[identity]?.dependencies = others.sorted() }
    }

    private func find(_ catalog: String, _ oid: Int, _ part: Int) -> ObjectIdentity? {
        addresses[Address(catalog: catalog, oid: oid, part: part)]
            ?? addresses[
                Address(catalog: catalog, oid: oid, part: 0)]
    }
}
