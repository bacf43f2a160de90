import Postgres
import SQL

/// Tries whether triggers fire. The server counts the calls of their functions.
struct TriggerTrial {
    let maker: RowMaker
    let table: CatalogObject
    var report: LiveReport

    /// A trigger, and the columns of its row in `pg_trigger` that a trial needs (PostgreSQL manual, section 53.54).
    /// `bits` is the column `tgtype`; the bits are defined in `catalog/pg_trigger.h`.
    private struct Facts {
        let object: CatalogObject
        let function: Int
        let bits: Int
        let isConditional: Bool

        func fires(on operation: Operation) -> Bool { bits & operation.rawValue != 0 }
    }

    private enum Operation: Int, CaseIterable {
        case insert = 4
        case update = 16
        case delete = 8
        case truncate = 32
    }

    mutating func run(
        _ triggers: [CatalogObject], _ base: TrialRow, countsCalls: Bool, on connection: isolated Connection
    ) throws {
        var waiting: [Facts] = []
        for trigger in triggers {
            if let state = trigger["enabled"], state != "always" {
                report.leave(trigger.identity, "it is \(state)")
            } else if !countsCalls {
                report.leave(trigger.identity, "calls can only be counted by a superuser (track_functions)")
            } else if let facts = try facts(of: trigger, on: connection) {
                waiting.append(facts)
            }
        }
        var fired: Set<ObjectIdentity> = []
        var refusals: [Operation: String] = [:]
        for operation in Operation.allCases {
            let concerned = waiting.filter { $0.fires(on: operation) && !fired.contains($0.object.identity) }
            if concerned.isEmpty { continue }
            switch try calls(of: concerned, by: operation, base, on: connection) {
            case .success(let found): fired.formUnion(found)
            case .failure(let error): refusals[operation] = error.message
            }
        }
        for one in waiting {
            if fired.contains(one.object.identity) {
                report.held.append(one.object.identity)
            } else if let (_, message) = refusals.first(where: { one.fires(on: $0.key) }) {
                report.leave(one.object.identity, "the statement that should fire it was refused: \(message)")
            } else if one.isConditional {
                report.leave(one.object.identity, "the test row did not meet the trigger's WHEN condition")
            } else {
                report.fail(one.object.identity, "did not fire")
            }
        }
    }

    private func facts(of trigger: CatalogObject, on connection: isolated Connection) throws -> Facts? {
        try connection.query(
            """
            SELECT t.tgfoid::bigint, t.tgtype::integer, t.tgqual IS NOT NULL FROM pg_trigger t
            WHERE t.tgrelid = $1::regclass AND t.tgname = $2
            """, [table.identity.path, trigger.identity.name]
        ).first.map { row in
            Facts(object: trigger, function: try row.get(0), bits: try row.get(1), isConditional: try row.get(2))
        }
    }

    /// Returns the triggers that fired. The server counts the calls of a function, which several triggers may share.
    /// Let n be the number of triggers without a condition that share the function. These triggers have fired if the
    /// function was called at least n times. A trigger with a condition has fired if there were more than n calls.
    private func calls(
        of triggers: [Facts], by operation: Operation, _ base: TrialRow, on connection: isolated Connection
    ) throws -> Result<Set<ObjectIdentity>, PostgresError> {
        try connection.trial {
            let needsRow = operation == .update || operation == .delete
            let row = needsRow ? try insertedRow(base, on: connection) : nil
            let before = try counts(triggers, on: connection)
            switch operation {
            case .insert: _ = try insertedRow(base, on: connection)
            case .update: try update(row, triggers, on: connection)
            case .delete: try delete(row, on: connection)
            case .truncate: try truncate(on: connection)
            }
            let after = try counts(triggers, on: connection)
            return Set(
                triggers.filter { one in
                    let sharing = triggers.filter { $0.function == one.function && !$0.isConditional }.count
                    let calls = (after[one.function] ?? 0) - (before[one.function] ?? 0)
                    return calls >= (one.isConditional ? sharing + 1 : max(sharing, 1))
                }.map(\.object.identity))
        }
    }

    private func insertedRow(_ base: TrialRow, on connection: isolated Connection) throws -> TrialRow? {
        guard let row = maker.freshened(base, of: table.identity) else { return nil }
        return try maker.insert(row, into: table.identity, on: connection)
    }

    private func counts(_ triggers: [Facts], on connection: isolated Connection) throws -> [Int: Int] {
        var counts: [Int: Int] = [:]
        for function in Set(triggers.map(\.function)) {
            counts[function] = try connection.query(
                "SELECT coalesce(pg_stat_get_xact_function_calls($1::bigint::oid), 0)", [function]
            ).first?.get(0)
        }
        return counts
    }

    /// Updates the row once with its own values. If a trigger has a condition, also updates the row with other values.
    private func update(_ row: TrialRow?, _ triggers: [Facts], on connection: isolated Connection) throws {
        guard let row, let location = row.location else { return }
        let columns = maker.columns(of: table.identity).filter { $0["identity"] != "always" }
        guard !columns.isEmpty else { return }
        let foreign = maker.foreignColumns(of: table.identity)
        let same = columns.map { "\($0.identity.quotedName) = \($0.identity.quotedName)" }.joined(separator: ", ")
        let moved = try underPath(connection) {
            try connection.query(
                "UPDATE \(table.identity.path) SET \(same) WHERE \(location.condition) RETURNING \(RowLocation.columns)"
            )
        }
        guard triggers.contains(where: \.isConditional), let first = moved.first else { return }
        var place = try RowLocation(first)
        for key in ForeignKeyGraph.keys(of: maker.constraints(of: table.identity, "foreign key"), in: maker.catalog)
        where key.to != table.identity {
            guard let other = try maker.newTarget(key.to, on: connection) else { continue }
            for (name, referenced) in zip(key.columns, key.referencedColumns) {
                guard let column = columns.first(where: { $0.identity.name == name }) else { continue }
                try set(column, to: other.values[referenced] ?? nil, at: &place, on: connection)
            }
        }
        for column in columns where !foreign.contains(column.identity.name) {
            for value in maker.values.candidates(column["type"] ?? "text", checks: []).prefix(4)
                + [maker.values.fresh(column["type"] ?? "text", unlike: row.values[column.identity.name] ?? nil)]
            {
                try set(column, to: value, at: &place, on: connection)
            }
        }
    }

    /// Sets a column to a value. If the server rejects the value, the row is unchanged.
    private func set(
        _ column: CatalogObject, to value: String?, at place: inout RowLocation, on connection: isolated Connection
    ) throws {
        let condition = place.condition
        let changed = try connection.kept {
            try underPath(connection) {
                try connection.query(
                    "UPDATE \(table.identity.path) SET \(column.identity.quotedName) = "
                        + "CAST($1 AS \(column["type"] ?? "text")) WHERE \(condition) RETURNING \(RowLocation.columns)",
                    [value])
            }
        }
        if case .success(let rows) = changed, let first = rows.first { place = try RowLocation(first) }
    }

    private func delete(_ row: TrialRow?, on connection: isolated Connection) throws {
        guard let location = row?.location else { return }
        try underPath(connection) {
            _ = try connection.query("DELETE FROM \(table.identity.path) WHERE \(location.condition)")
        }
    }

    /// Truncates the table if it is empty. Existing rows are never put at risk, not even until the rollback.
    private func truncate(on connection: isolated Connection) throws {
        guard try connection.query("SELECT 1 FROM \(table.identity.path) LIMIT 1").isEmpty else {
            throw PostgresError(.server, "a table that contains rows is not truncated")
        }
        try underPath(connection) { _ = try connection.execute("TRUNCATE \(table.identity.path)") }
    }

    /// Runs statements that fire triggers, with the search path of the table's system.
    private func underPath<T>(_ connection: isolated Connection, _ body: () throws -> T) throws -> T {
        try connection.limitStatements()  // another trigger may have lifted the limit
        return try connection.underPath(of: table.identity.schema ?? "pg_catalog", body)
    }
}

/// Tries event triggers with a temporary table.
struct EventTriggerTrial {
    var report: LiveReport

    mutating func run(_ triggers: [CatalogObject], countsCalls: Bool, on connection: isolated Connection) throws {
        let silent = Set(
            try connection.query("SELECT evtname::text FROM pg_event_trigger WHERE evtenabled = 'D'").map {
                ExactText(try $0.get(0))
            })
        for trigger in triggers {
            let tags = trigger["tags"]
            if let state = trigger["enabled"], state != "always" {
                report.leave(trigger.identity, "it is \(state)")
            } else if silent.contains(ExactText(trigger.identity.name)) {
                report.leave(trigger.identity, "its function belongs to a role that is not a superuser")
            } else if !countsCalls {
                report.leave(trigger.identity, "calls can only be counted by a superuser (track_functions)")
            } else if let statements = Self.statements(event: trigger["event"] ?? "", tags: tags) {
                try tryOne(trigger, statements, on: connection)
            } else {
                report.leave(trigger.identity, "no test exists for its event: \(tags ?? trigger["event"] ?? "unknown")")
            }
        }
    }

    /// Returns harmless statements that cause an event; nil if none are known.
    private static func statements(event: String, tags: String?) -> [String]? {
        let fits = { (tag: String) in tags.map { $0.contains("'\(tag)'") } ?? true }
        switch event {
        case "ddl_command_start", "ddl_command_end":
            if fits("CREATE TABLE") { return ["CREATE TEMP TABLE reeve_trial (a integer)"] }
            if fits("ALTER TABLE") { return ["ALTER TABLE pg_temp.reeve_trial ADD b integer"] }
            return fits("DROP TABLE") ? ["DROP TABLE pg_temp.reeve_trial"] : nil
        case "sql_drop": return fits("DROP TABLE") ? ["DROP TABLE pg_temp.reeve_trial"] : nil
        case "table_rewrite":
            return fits("ALTER TABLE")
                ? ["ALTER TABLE pg_temp.reeve_trial ALTER a TYPE text"] : nil
        default: return nil
        }
    }

    private mutating func tryOne(
        _ trigger: CatalogObject, _ statements: [String], on connection: isolated Connection
    ) throws {
        let count = {
            try connection.query(
                """
                SELECT coalesce(pg_stat_get_xact_function_calls(evtfoid), 0) FROM pg_event_trigger WHERE evtname = $1
                """, [trigger.identity.name]
            ).first?.get(0, as: Int.self) ?? 0
        }
        let outcome = try connection.trial {
            if statements.first?.hasPrefix("CREATE") == false {
                try connection.execute("CREATE TEMP TABLE reeve_trial (a integer)")
                try connection.execute("INSERT INTO pg_temp.reeve_trial VALUES (1)")
            }
            let before = try count()
            for sql in statements {
                try connection.execute(sql)
                try connection.execute(SystemPath.end)  // undoes settings of the trigger function
            }
            return try count() - before
        }
        switch outcome {
        case .success(let calls) where calls > 0: report.held.append(trigger.identity)
        case .success: report.fail(trigger.identity, "did not fire")
        case .failure(let error):
            report.leave(trigger.identity, "the statement that should fire it was refused: \(error.message)")
        }
    }
}
