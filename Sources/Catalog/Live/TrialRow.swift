import Postgres

/// A row to insert: texts by column, nil for NULL. Columns that are not in it get their default.
struct TrialRow {
    var values: [String: String?]
    /// Where it lies, once it is inserted.
    var location: RowLocation?

    init(_ values: [String: String?] = [:]) { self.values = values }
}

/// Where a row lies: in which table, which may be a partition or descendant of the one that it was inserted into, and where
/// there. By number, for a trigger may have set the path that names are spelled for.
struct RowLocation {
    /// SQL for what `init` reads, first of all.
    static let columns = "tableoid::pg_catalog.text, ctid::pg_catalog.text"

    private let table: String
    private let ctid: String

    init(_ row: Row) throws {
        table = try row.get(0)
        ctid = try row.get(1)
    }

    /// SQL for a condition that the row alone meets, in a query of the table that it was inserted into.
    var condition: String {
        "tableoid OPERATOR(pg_catalog.=) \(quoteLiteral(table))::pg_catalog.oid "
            + "AND ctid OPERATOR(pg_catalog.=) \(quoteLiteral(ctid))::pg_catalog.tid"
    }
}

/// Makes rows of tables: takes one that is there, or makes one up with what it points to.
struct RowMaker {
    let catalog: SchemaCatalog
    let parts: [ObjectIdentity: [CatalogObject]]
    /// Tables that no rows are put into (`UntrustedTables`, `RiskyTables`, `TrialLocks`).
    let untouched: Set<ObjectIdentity>
    /// Those among them that are not read either.
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

    func constraints(of table: ObjectIdentity, _ types: String...) -> [CatalogObject] {
        (parts[table] ?? []).filter { $0.identity.kind == .constraint && types.contains($0["type"] ?? "") }
    }

    /// The keys that rows must not share, each with its columns: constraints and unique indexes.
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

    /// The columns with those that generated ones among them are made of.
    private func withSources(_ names: Set<String>, of table: ObjectIdentity) -> Set<String> {
        let generated = (parts[table] ?? []).filter { $0["generated"] != nil && names.contains($0.identity.name) }
        return names.union(generated.flatMap { $0.dependencies.filter { $0.kind == .column }.map(\.name) })
    }

    func foreignColumns(of table: ObjectIdentity) -> Set<String> {
        Set(ForeignKeyGraph.keys(of: constraints(of: table, "foreign key"), in: catalog).flatMap(\.columns))
    }

    /// Inserts a row and gives it back as it lies there.
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

    /// A column as its type's output function spells it; a cast to text might be somebody's own.
    private static func text(_ column: CatalogObject) -> String {
        let name = column.identity.quotedName
        return "CASE WHEN pg_catalog.num_nulls(\(name)) = 0 THEN pg_catalog.format('%s', \(name)) END"
    }

    /// A row that is there.
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

    /// A row of another table to point to: one that is there, or one that is made up and inserted.
    func target(
        _ table: ObjectIdentity, depth: Int, on connection: isolated Connection
    ) throws -> TrialRow? {
        if unread.contains(table) { return nil }
        if let row = try existing(table, on: connection) { return row }
        guard depth < 8, table.kind == .table else { return nil }
        return try newTarget(table, depth: depth, on: connection)
    }

    /// A row that is made up and inserted; several are tried, for a trigger may want more than the checks say.
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

    /// A row that fits the checks of its table, as far as one can be found.
    ///
    /// - Parameter variant: which of several such rows, from 0.
    func madeUp(
        _ table: ObjectIdentity, variant: Int = 0, depth: Int, on connection: isolated Connection
    ) throws -> TrialRow {
        var row = TrialRow()
        let checks = constraints(of: table, "check").compactMap { $0["expression"] }
        for column in columns(of: table) {
            let type = column["type"] ?? "text"
            let isCounted = column["identity"] != nil || column["default"]?.hasPrefix("nextval(") == true
            if let text = column["default"], !isCounted {
                // What the default gives is what the table is made for.
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

    /// Changes values until the checks are met, one check after the other.
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

    /// The row with other values in every key but one, so that only that one can be broken.
    ///
    /// - Returns: nil where a key has no column of which another value is known.
    func freshened(_ row: TrialRow, of table: ObjectIdentity, keeping kept: Set<String> = []) -> TrialRow? {
        var row = row
        row.location = nil
        let foreign = foreignColumns(of: table)
        for key in keys(of: table) {
            let free = key.columns.subtracting(kept).sorted()
            // Part of the key that is kept is a key itself: that cannot be broken alone.
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

/// Finds values that meet or break checks, by asking the server for each.
struct CheckSearch {
    let maker: RowMaker
    let table: ObjectIdentity

    private var checks: [CatalogObject] { maker.constraints(of: table, "check") }

    /// Whether a row breaks a check.
    func isBroken(_ check: CatalogObject, by row: TrialRow, on connection: isolated Connection) throws -> Bool {
        try judge(row, breaking: check, others: [], on: connection)
    }

    /// A row like another one that breaks this check and none that the server looks at before, which it does by name.
    func row(
        like row: TrialRow, breaking check: CatalogObject, on connection: isolated Connection
    ) throws -> TrialRow? {
        try variants(of: row, check) { candidate in
            let before = checks.filter { $0.identity.name.utf8.lexicographicallyPrecedes(check.identity.name.utf8) }
            return try judge(candidate, breaking: check, others: before, on: connection)
        }
    }

    /// A row like another one that does not break this check.
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

    /// The first variant in one or two of the check's columns that is wanted.
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

    /// Whether a row breaks one check, if one is given, and meets the others; also false where a value does not fit its
    /// type.
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
