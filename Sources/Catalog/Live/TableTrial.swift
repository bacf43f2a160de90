import Postgres

/// Tries the constraints, unique indexes and triggers of one table, in the open transaction.
struct TableTrial {
    let maker: RowMaker
    let table: CatalogObject
    var report: LiveReport

    private var catalog: SchemaCatalog { maker.catalog }
    private var identity: ObjectIdentity { table.identity }
    private var triggers: [CatalogObject] {
        (maker.parts[identity] ?? []).filter { $0.identity.kind == .trigger }
    }

    mutating func run(countsCalls: Bool, on connection: isolated Connection) throws {
        let keys = maker.keys(of: identity).map(\.object)
        let checks = maker.constraints(of: identity, "check")
        let foreign = maker.constraints(of: identity, "foreign key")
        let base: TrialRow
        switch try baseRow(on: connection) {
        case .success(let row): base = row
        case .failure(let reason):
            if let source = reason.source { return try tryWithoutRow(source, reason.text, on: connection) }
            for object in keys + checks + foreign + triggers { report.leave(object.identity, reason.text) }
            return
        }
        for key in maker.keys(of: identity) { try tryKey(key.object, key.columns, base, on: connection) }
        for check in checks { try tryCheck(check, base, on: connection) }
        let graph = ForeignKeyGraph.keys(of: foreign, in: catalog)
        for key in graph { try tryForeignKey(key, base, on: connection) }
        var trial = TriggerTrial(maker: maker, table: table, report: report)
        try trial.run(triggers, base, countsCalls: countsCalls, on: connection)
        report = trial.report
    }

    private struct Reason: Error {
        let text: String
        /// The row from which no row could be derived that the table accepts. `tryWithoutRow` uses it. nil if there is
        /// no such row, or if a trigger or rule discarded the derived row.
        var source: TrialRow?
    }

    /// Tries a table that accepts no further row, such as a table limited to a single row. Checks can still be tried,
    /// because PostgreSQL evaluates them before keys. Keys are tried by inserting a copy of an existing row, because
    /// the copy violates a key.
    private mutating func tryWithoutRow(
        _ source: TrialRow, _ reason: String, on connection: isolated Connection
    ) throws {
        for check in maker.constraints(of: identity, "check") {
            try tryCheck(check, source, isOnlyRow: true, on: connection)
        }
        let copy = try connection.trial { try maker.insert(source, into: identity, on: connection) }
        for key in maker.keys(of: identity) {
            if case .failure(let error) = copy, error.constraint == key.object.identity.name {
                judge(error, key.object.identity, state: Self.violation(of: key.object))
            } else {
                report.leave(key.object.identity, reason)
            }
        }
        for object in maker.constraints(of: identity, "foreign key") + triggers {
            report.leave(object.identity, reason)
        }
    }

    /// Returns a row that the table accepts, made from an existing row or made up.
    private func baseRow(on connection: isolated Connection) throws -> Result<TrialRow, Reason> {
        var sources: [TrialRow] = []
        switch try connection.kept({ try maker.existing(identity, on: connection) }) {
        case .success(let row): sources += [row].compactMap { $0 }
        case .failure(let error): return .failure(Reason(text: "the table cannot be read: \(error.message)"))
        }
        if sources.isEmpty {
            for variant in 0..<RowMaker.variants {
                sources.append(try maker.madeUp(identity, variant: variant, depth: 0, on: connection))
            }
        }
        var reason: Reason?
        for source in sources {
            guard let row = maker.freshened(source, of: identity) else {
                reason = Reason(text: "no other value could be found for a key", source: source)
                continue
            }
            switch try connection.trial({ try maker.insert(row, into: identity, on: connection) }) {
            case .success(let inserted?):
                var row = inserted
                row.location = nil
                return .success(row)
            case .success(nil): reason = Reason(text: "a trigger or rule discards the row")
            case .failure(let error):
                reason = reason ?? Reason(text: "no test row could be made: \(error.message)", source: source)
            }
        }
        return .failure(reason ?? Reason(text: "no test row could be made"))
    }

    // MARK: Keys

    private mutating func tryKey(
        _ key: CatalogObject, _ columns: Set<String>, _ base: TrialRow, on connection: isolated Connection
    ) throws {
        guard let first = complete(base, columns) else {
            return report.leave(key.identity, "no value could be found for one of its columns")
        }
        if let predicate = key["predicate"], try !meets(first, predicate, on: connection) {
            return report.leave(key.identity, "the test row does not match its predicate")
        }
        let outcome = try connection.trial { () -> Result<TrialRow?, PostgresError> in
            guard let there = try maker.insert(first, into: identity, on: connection),
                let second = maker.freshened(there, of: identity, keeping: columns)
            else { return .success(nil) }
            return try connection.trial { try maker.insert(second, into: identity, on: connection) }
        }
        switch outcome {
        case .failure(let error): report.leave(key.identity, "the test row was refused: \(error.message)")
        case .success(.failure(let error)):
            judge(error, key.identity, state: Self.violation(of: key))
        case .success(.success(nil)): report.leave(key.identity, "no second test row could be made")
        case .success(.success(_?)): report.fail(key.identity, "accepted a second row with the same values")
        }
    }

    /// Returns the SQLSTATE with which a key rejects a row. The server checks a key `WITHOUT OVERLAPS` as an exclusion
    /// constraint.
    private static func violation(of key: CatalogObject) -> String {
        key["type"] == "exclusion" || key["temporal"] != nil ? "23P01" : "23505"
    }

    /// Replaces NULLs in the columns of a key by values, because NULLs are never equal.
    ///
    /// - Returns: nil if no value is known for a column.
    private func complete(_ row: TrialRow, _ columns: Set<String>) -> TrialRow? {
        var row = row
        let foreign = maker.foreignColumns(of: identity)
        for column in maker.columns(of: identity) where columns.contains(column.identity.name) {
            let name = column.identity.name
            guard row.values[name] == .some(nil) else { continue }
            if foreign.contains(name) { return nil }
            guard let value = maker.values.fresh(column["type"] ?? "text", unlike: nil) else { return nil }
            row.values[name] = .some(value)
        }
        return row
    }

    private func meets(_ row: TrialRow, _ predicate: String, on connection: isolated Connection) throws -> Bool {
        let outcome = try connection.trial {
            guard let there = try maker.insert(row, into: identity, on: connection), let location = there.location
            else {
                return false
            }
            return try maker.evaluation.text(
                """
                SELECT 'yes'::pg_catalog.text FROM \(identity.path) WHERE \(location.condition) AND (\(predicate))
                """, of: identity, on: connection) != nil
        }
        if case .success(true) = outcome { return true }
        return false
    }

    // MARK: Checks and foreign keys

    private mutating func tryCheck(
        _ check: CatalogObject, _ base: TrialRow, isOnlyRow: Bool = false, on connection: isolated Connection
    ) throws {
        let search = CheckSearch(maker: maker, table: identity)
        guard let row = try search.row(like: base, breaking: check, on: connection),
            let candidate = isOnlyRow
                ? row : maker.freshened(row, of: identity, keeping: Set(check.dependencies.map(\.name)))
        else { return report.leave(check.identity, "no row could be found that violates only this constraint") }
        switch try connection.trial({ try maker.insert(candidate, into: identity, on: connection) }) {
        case .success(nil): report.leave(check.identity, "a trigger or rule discards the row")
        case .success(let row?):
            // A trigger may have changed the row so that it meets the check.
            if try search.isBroken(check, by: row, on: connection) {
                report.fail(check.identity, "accepted a row that violates it")
            } else {
                report.leave(check.identity, "a trigger changes the row that would violate it")
            }
        case .failure(let error): judge(error, check.identity, state: "23514")
        }
    }

    private mutating func tryForeignKey(
        _ key: ForeignKeyGraph.Key, _ base: TrialRow, on connection: isolated Connection
    ) throws {
        guard var row = maker.freshened(base, of: identity) else {
            return report.leave(key.constraint, "no other value could be found for a key")
        }
        for name in key.columns {
            guard let column = maker.columns(of: identity).first(where: { $0.identity.name == name }),
                let value = maker.values.fresh(column["type"] ?? "text", unlike: row.values[name] ?? nil)
            else { return report.leave(key.constraint, "no value could be found that references no row") }
            row.values[name] = .some(value)
        }
        switch try connection.trial({ try maker.insert(row, into: identity, on: connection) }) {
        case .success(nil): report.leave(key.constraint, "a trigger or rule discards the row")
        case .success(let there?):
            let isKept = key.columns.allSatisfy { there.values[$0] == row.values[$0] }
            if isKept {
                report.fail(key.constraint, "accepted a row that references no row")
            } else {
                report.leave(key.constraint, "a trigger changes the row so that it references an existing row")
            }
        case .failure(let error): judge(error, key.constraint, state: "23503")
        }
    }

    /// Records whether the constraint `object` is the one that rejected the row, by the SQLSTATE and the constraint
    /// name of the error. For a partitioned table, the name is not compared, because the constraints of its partitions
    /// have different names.
    private mutating func judge(_ error: PostgresError, _ object: ObjectIdentity, state: String) {
        let isPartitioned = table["partition key"] != nil
        if error.sqlState == state, error.constraint == object.name || isPartitioned {
            report.held.append(object)
        } else {
            let other = error.constraint.map { " by \($0)" } ?? ""
            report.leave(object, "the test row was already refused\(other): \(error.message)")
        }
    }
}
