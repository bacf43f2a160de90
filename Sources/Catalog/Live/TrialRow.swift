import Postgres
import SQL

/// A row to insert. `values` contains the text of the value for each column; nil means NULL. A column that is not in
/// `values` gets its default.
struct TrialRow {
    var values: [String: String?]
    /// The location of the row after it was inserted.
    var location: RowLocation?

    init(_ values: [String: String?] = [:]) { self.values = values }
}

/// The location of an inserted row: the table that stores it, and the row's position there. The table may be a
/// partition or descendant of the table that the row was inserted into. The table is identified by OID, because a
/// trigger may change the search path, and then a name may refer to another table.
struct RowLocation {
    /// SQL for the columns that `init` reads, which must be the first columns of the row.
    static let columns = "tableoid::pg_catalog.text, ctid::pg_catalog.text"

    private let table: String
    private let ctid: String

    init(_ row: Row) throws {
        table = try row.get(0)
        ctid = try row.get(1)
    }

    /// An SQL condition that only this row meets, in a query of the table that the row was inserted into.
    var condition: String {
        "tableoid OPERATOR(pg_catalog.=) \(quoteLiteral(table))::pg_catalog.oid "
            + "AND ctid OPERATOR(pg_catalog.=) \(quoteLiteral(ctid))::pg_catalog.tid"
    }
}

/// Creates rows for tables: copies an existing row, or makes up a row together with the rows that it references.
struct RowMaker {
    let catalog: SchemaCatalog
    let parts: [ObjectIdentity: [CatalogObject]]
    /// Tables into which no rows are inserted (`UntrustedTables`, `RiskyTables`, `TrialLocks`).
    let untouched: Set<ObjectIdentity>
    /// The tables of `untouched` that are not read either.
    let unread: Set<ObjectIdentity>
    let evaluation: OwnersEvaluation
    let values: TrialValues

    init(
        catalog: SchemaCatalog, parts: [ObjectIdentity: [CatalogObject]], untouched: Set<ObjectIdentity>,
        unread: Set<ObjectIdentity>, evaluation: OwnersEvaluation
    ) {
        self.catalog = catalog
        self.parts = parts
        self.untouched = untouched
        self.unread = unread
        self.evaluation = evaluation
        values = TrialValues(catalog: catalog)
    }

    func columns(of table: ObjectIdentity) -> [CatalogObject] {
        (parts[table] ?? []).filter { $0.identity.kind == .column && $0["generated"] == nil }
    }

    /// Returns the constraints of a table that have one of the given types and are enforced.
    func constraints(of table: ObjectIdentity, _ types: String...) -> [CatalogObject] {
        (parts[table] ?? []).filter {
            $0.identity.kind == .constraint && types.contains($0["type"] ?? "") && $0["not enforced"] == nil
        }
    }

    /// Returns the unique and exclusion constraints and the unique indexes of a table, each with its columns.
    func keys(of table: ObjectIdentity) -> [(object: CatalogObject, columns: Set<String>)] {
        (parts[table] ?? []).compactMap { object in
            let isKey =
                object.identity.kind == .index && object["unique"] != nil
                || object.identity.kind == .constraint
                    && ["unique", "primary key", "exclusion"].contains(object["type"] ?? "")
            guard isKey else { return nil }
            let listed = QualifiedName.list(object["columns"] ?? "").map(QualifiedName.unquoted)
            let named = object.dependencies.filter { $0.kind == .column }.map(\.name)
            return (object, withSources(Set(listed.isEmpty ? named : listed), of: table))
        }
    }

    /// Returns the given columns. For each generated column among them, also returns the columns it is computed from.
    private func withSources(_ names: Set<String>, of table: ObjectIdentity) -> Set<String> {
        let generated = (parts[table] ?? []).filter { $0["generated"] != nil && names.contains($0.identity.name) }
        return names.union(generated.flatMap { $0.dependencies.filter { $0.kind == .column }.map(\.name) })
    }

    func foreignColumns(of table: ObjectIdentity) -> Set<String> {
        Set(ForeignKeyGraph.keys(of: constraints(of: table, "foreign key"), in: catalog).flatMap(\.columns))
    }

    /// Inserts a row, and returns it as it was stored; nil if a trigger or rule discarded it.
    func insert(_ row: TrialRow, into table: ObjectIdentity, on connection: isolated Connection) throws -> TrialRow? {
        let columns = columns(of: table)
        let given = columns.filter { row.values[$0.identity.name] != nil }
        let names = given.map(\.identity.quotedName).joined(separator: ", ")
        let casts = given.enumerated().map { "CAST($\($0 + 1) AS \($1["type"] ?? "text"))" }.joined(separator: ", ")
        let returned = columns.map(Self.text).joined(separator: ", ")
        let source = given.isEmpty ? "DEFAULT VALUES" : "(\(names)) OVERRIDING SYSTEM VALUE VALUES (\(casts))"
        try connection.limitStatements()
        let rows = try connection.underPath(of: table.schema ?? "pg_catalog") {
            try connection.query(
                "INSERT INTO \(table.path) \(source) RETURNING \(RowLocation.columns), \(returned)",
                given.map { row.values[$0.identity.name] ?? nil })
        }
        guard let first = rows.first else { return nil }
        var inserted = TrialRow()
        for (number, column) in columns.enumerated() {
            inserted.values[column.identity.name] = .some(try first.get(number + 2, as: String?.self))
        }
        inserted.location = try RowLocation(first)
        return inserted
    }

    /// SQL for the text that a column's output function prints. A cast to text is not used, because it could be
    /// user-defined.
    private static func text(_ column: CatalogObject) -> String {
        let name = column.identity.quotedName
        return "CASE WHEN pg_catalog.num_nulls(\(name)) = 0 THEN pg_catalog.format('%s', \(name)) END"
    }

    /// Returns any existing row of a table; nil if the table is empty.
    func existing(_ table: ObjectIdentity, on connection: isolated Connection) throws -> TrialRow? {
        let columns = columns(of: table)
        let list = columns.map(Self.text).joined(separator: ", ")
        guard !columns.isEmpty, let first = try connection.query("SELECT \(list) FROM \(table.path) LIMIT 1").first
        else {
            return nil
        }
        var row = TrialRow()
        for (number, column) in columns.enumerated() {
            row.values[column.identity.name] = .some(try first.get(number, as: String?.self))
        }
        return row
    }

    /// Returns a row that a foreign key can reference: an existing row or, if the table is empty, a row that is made up
    /// and inserted. Returns nil if there is neither.
    func target(
        _ table: ObjectIdentity, depth: Int, on connection: isolated Connection
    ) throws -> TrialRow? {
        if unread.contains(table) { return nil }
        if let row = try existing(table, on: connection) { return row }
        guard depth < 8, table.kind == .table else { return nil }
        return try newTarget(table, depth: depth, on: connection)
    }

    /// Makes up a row and inserts it. Tries several variants, because a trigger may reject rows that meet all checks.
    func newTarget(_ table: ObjectIdentity, depth: Int = 0, on connection: isolated Connection) throws -> TrialRow? {
        if untouched.contains(table) { return nil }
        for variant in 0..<Self.variants {
            let row = try madeUp(table, variant: variant, depth: depth + 1, on: connection)
            let inserted = try connection.kept { try insert(row, into: table, on: connection) }
            if case .success(let there?) = inserted { return there }
        }
        return nil
    }

    static let variants = 6

    /// Makes up a row that meets the checks of its table, if such a row can be found.
    ///
    /// - Parameter variant: the number of the variant, from 0.
    func madeUp(
        _ table: ObjectIdentity, variant: Int = 0, depth: Int, on connection: isolated Connection
    ) throws -> TrialRow {
        var row = TrialRow()
        let checks = constraints(of: table, "check").compactMap { $0["expression"] }
        for column in columns(of: table) {
            let type = column["type"] ?? "text"
            let isCounted = column["identity"] != nil || column["default"]?.hasPrefix("nextval(") == true
            if let text = column["default"], !isCounted {
                // The default is preferred, because the table is designed for it.
                let value = try connection.kept {
                    try evaluation.text(
                        """
                        SELECT CASE WHEN pg_catalog.num_nulls(d.v) = 0 THEN pg_catalog.format('%s', d.v) END
                        FROM (SELECT CAST((\(text)) AS \(type)) AS v) d
                        """, of: table, on: connection)
                }
                if case .success(let value) = value { row.values[column.identity.name] = .some(value) }
            } else {
                row.values[column.identity.name] = .some(values.fresh(type, unlike: nil))
            }
        }
        for key in ForeignKeyGraph.keys(of: constraints(of: table, "foreign key"), in: catalog) {
            let target = key.to == table ? nil : try target(key.to, depth: depth, on: connection)
            for (column, other) in zip(key.columns, key.referencedColumns) {
                row.values[column] = .some(target?.values[other] ?? nil)
            }
        }
        return checks.isEmpty ? row : try adapted(row, to: table, variant: variant, on: connection)
    }

    /// Changes values until the row meets the checks, one check after the other.
    private func adapted(
        _ row: TrialRow, to table: ObjectIdentity, variant: Int, on connection: isolated Connection
    ) throws -> TrialRow {
        var row = row
        let search = CheckSearch(maker: self, table: table)
        for check in constraints(of: table, "check") where try search.isBroken(check, by: row, on: connection) {
            if let better = try search.row(like: row, meeting: check, skipping: variant, on: connection) {
                row = better
            }
        }
        return row
    }

    /// Returns a copy of the row that has a new value in one column of each key, so that it does not violate the key.
    /// If all columns of a key are in `kept`, the copy keeps the values of that key and may violate it. A column that
    /// is also in a foreign key keeps its value, because the new value would reference no row.
    ///
    /// - Returns: nil if no new value is known for a key.
    func freshened(_ row: TrialRow, of table: ObjectIdentity, keeping kept: Set<String> = []) -> TrialRow? {
        var row = row
        row.location = nil
        let foreign = foreignColumns(of: table)
        for key in keys(of: table) {
            let free = key.columns.subtracting(kept).sorted()
            // All columns of this key keep their values, so the copy may violate this key.
            if free.isEmpty { continue }
            let choice = free.first { !foreign.contains($0) } ?? free.first
            guard let name = choice, let column = columns(of: table).first(where: { $0.identity.name == name }) else {
                continue
            }
            guard let value = values.fresh(column["type"] ?? "text", unlike: row.values[name] ?? nil) else {
                return nil
            }
            if !foreign.contains(name) { row.values[name] = .some(value) }
        }
        return row
    }
}

/// Finds values that meet or violate checks. The server evaluates the checks for each value.
struct CheckSearch {
    let maker: RowMaker
    let table: ObjectIdentity

    private var checks: [CatalogObject] { maker.constraints(of: table, "check") }

    /// Returns whether a row violates a check.
    func isBroken(_ check: CatalogObject, by row: TrialRow, on connection: isolated Connection) throws -> Bool {
        try judge(row, breaking: check, others: [], on: connection)
    }

    /// Returns a variant of a row that violates the check `check` and meets all checks that the server evaluates before
    /// `check`. The server evaluates checks in the order of their names.
    func row(
        like row: TrialRow, breaking check: CatalogObject, on connection: isolated Connection
    ) throws -> TrialRow? {
        try variants(of: row, check) { candidate in
            let before = checks.filter { $0.identity.name.utf8.lexicographicallyPrecedes(check.identity.name.utf8) }
            return try judge(candidate, breaking: check, others: before, on: connection)
        }
    }

    /// Returns a variant of a row that meets a check.
    ///
    /// - Parameter count: how many of the variants that meet the check are skipped. If at most `count` variants meet
    ///   the check, the last of them is returned.
    func row(
        like row: TrialRow, meeting check: CatalogObject, skipping count: Int, on connection: isolated Connection
    ) throws -> TrialRow? {
        var left = count
        var last: TrialRow?
        let chosen = try variants(of: row, check) { candidate in
            guard try judge(candidate, breaking: nil, others: [check], on: connection) else { return false }
            last = candidate
            left -= 1
            return left < 0
        }
        return chosen ?? last
    }

    /// Returns the first variant of a row that `isWanted` accepts. A variant has different values in one or two of the
    /// columns that the check uses.
    private func variants(
        of row: TrialRow, _ check: CatalogObject, isWanted: (TrialRow) throws -> Bool
    ) throws -> TrialRow? {
        let names = Set(check.dependencies.filter { $0.kind == .column }.map(\.name))
        let columns = maker.columns(of: table).filter { names.contains($0.identity.name) }
        let candidates = columns.map { column -> (String, [String?]) in
            let isNeeded = column["not null"] != nil
            let all = maker.values.candidates(column["type"] ?? "text", checks: [check["expression"] ?? ""])
            return (column.identity.name, all.filter { $0 != nil || !isNeeded })
        }
        for (name, values) in candidates {
            for value in values {
                var candidate = row
                candidate.values[name] = .some(value)
                if try isWanted(candidate) { return candidate }
            }
        }
        for (first, second) in zip(candidates, candidates.dropFirst()) {
            for one in first.1.prefix(25) {
                for two in second.1.prefix(25) {
                    var candidate = row
                    candidate.values[first.0] = .some(one)
                    candidate.values[second.0] = .some(two)
                    if try isWanted(candidate) { return candidate }
                }
            }
        }
        return nil
    }

    /// Returns whether a row meets all checks in `others` and, if `check` is not nil, violates `check`. Returns false
    /// if the server rejects the query, for instance because a value does not fit its type.
    private func judge(
        _ row: TrialRow, breaking check: CatalogObject?, others: [CatalogObject], on connection: isolated Connection
    ) throws -> Bool {
        let list = maker.columns(of: table).map { column in
            let value = row.values[column.identity.name] ?? nil
            return
                "CAST(\(value.map(quoteLiteral) ?? "NULL") AS \(column["type"] ?? "text")) AS \(column.identity.quotedName)"
        }.joined(separator: ", ")
        var conditions = others.compactMap { $0["expression"].map { "(\($0)) IS NOT FALSE" } }
        if let broken = check?["expression"] { conditions.append("(\(broken)) IS FALSE") }
        let query = """
            SELECT 'yes'::pg_catalog.text FROM (SELECT \(list)) AS \(table.quotedName)
            WHERE \(conditions.joined(separator: " AND "))
            """
        let answer = try connection.trial { try maker.evaluation.text(query, of: table, on: connection) != nil }
        if case .success(true) = answer { return true }
        return false
    }
}
