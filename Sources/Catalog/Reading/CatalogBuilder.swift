import Postgres

/// Builds the objects of a catalog from the rows that the queries of `CatalogReader` return.
struct CatalogBuilder {
    /// The address of a row in a system catalog, as in `pg_depend`.
    struct Address: Hashable {
        let catalog: String
        let oid: Int
        /// The number of a column, or 0.
        let part: Int
    }

    let readsDependencies: Bool
    var objects: [ObjectIdentity: CatalogObject] = [:]
    /// The number of properties that the role may not read.
    private(set) var unreadable = 0
    private var addresses: [Address: ObjectIdentity] = [:]

    init(readsDependencies: Bool) { self.readsDependencies = readsDependencies }

    /// Adds the objects of a query. The columns `oid`, `part`, `kind`, `schema`, `parent`, `name` and `signature`
    /// identify an object. The other columns are its properties.
    mutating func add(_ rows: Rows, of query: KindQuery) throws {
        let names = rows.columns
        objects.reserveCapacity(objects.count + rows.count)
        for row in rows {
            guard let kind = try ObjectKind(name: row.get(2)) else { continue }
            let identity = ObjectIdentity(
                kind, schema: try row.get(3), parent: try row.get(4), try row.get(5), signature: try row.get(6))
            var properties: [(name: String, value: String)] = []
            var secrets: [String: [UInt8]] = [:]
            for column in 7..<names.count {
                guard var value = try row.get(column, as: String?.self) else { continue }
                if Secrets.mayBeIn(names[column], of: kind) {
                    let (text, digest) = Secrets.hide(in: value, of: kind)
                    value = text
                    if let digest { secrets[names[column]] = digest }
                    if text == Secrets.unreadable { unreadable += 1 }
                }
                properties.append((names[column], SpellingRules.canonical(value, property: names[column], of: kind)))
            }
            objects[identity] = CatalogObject(identity, properties: properties)
            if !secrets.isEmpty { objects[identity]?.secrets = secrets }
            if readsDependencies {
                let part = try row.get(1, as: Int?.self) ?? 0
                try register(row.get(0), query.catalog, part: part, as: identity)
            }
        }
    }

    private mutating func register(_ oids: String, _ catalog: String, part: Int, as identity: ObjectIdentity) throws {
        // `oids` contains the OID of the object and, for each row of another catalog that represents the same object,
        // `catalog:oid`.
        for word in oids.split(separator: " ") {
            let halves = word.split(separator: ":")
            guard let oid = halves.last.flatMap({ Int($0) }) else { continue }
            let source = halves.count == 2 ? String(halves[0]) : catalog
            addresses[Address(catalog: source, oid: oid, part: halves.count == 2 ? 0 : part)] = identity
        }
    }

    mutating func addPrivileges(_ rows: Rows) throws {
        for row in rows {
            guard let kind = try ObjectKind(name: row.get(0)) else { continue }
            let identity = ObjectIdentity(
                kind, schema: try row.get(1), parent: try row.get(2), try row.get(3), signature: try row.get(4))
            let grantee: String = try row.get(5)
            // A column of a view is in the catalog only if it has properties. The functions that PostgreSQL creates for
            // a range type are never in the catalog.
            guard objects[identity] != nil || kind == .column || kind == .extensionMember else { continue }
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
