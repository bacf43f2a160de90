import Catalog
import Postgres
import SQL

/// The foreign keys and CHECK constraints that are made after all rows are restored (`RestorePlan.lateConstraints`).
struct LateConstraints: Sendable {
    struct Constraint: Sendable, Equatable {
        let table: FetchedTable
        let name: String
        let statement: String
        /// The table that a foreign key refers to.
        var references: FetchedTable?
        /// COMMENT statements about the constraint.
        var comments: [String] = []

        /// The statement on one line.
        var words: String { statement.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
    }

    /// The constraints of the restored tables.
    var constraints: [Constraint] = []
    /// Foreign keys that refer to the restored tables and belong to other tables.
    var inbound: [Constraint] = []
    /// Constraints that are not made, because the restored tables were moved to another schema, and the statements
    /// contain the original schema.
    var moved: [Constraint] = []

    /// Reads the constraints of the tables, and the foreign keys that refer to the tables, from a script of pg_restore.
    /// Pure: no I/O.
    ///
    /// - Throws: `SQLScriptError`.
    static func read(_ script: [UInt8], of tables: Set<FetchedTable>, file: String) throws -> LateConstraints {
        var all: [Constraint] = []
        for statement in try SQLLexer.split(script, file: file) {
            let tokens = try SQLLexer.tokens(of: script, in: statement.range, file: file).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let sql = String(decoding: script[statement.range], as: UTF8.self)
            if tokens.starts(with: ["ALTER", "TABLE"]) {
                let own = ownTable(tokens)
                // After the three tokens of the table's name come ADD, CONSTRAINT and the constraint's name.
                guard let table = table(own), let name = own.dropFirst(5).first else { continue }
                all.append(
                    Constraint(
                        table: table, name: unquoteIdentifier(name) ?? name, statement: sql,
                        references: referredTable(tokens)))
            } else if tokens.first == "COMMENT", let last = all.indices.last {
                all[last].comments.append(sql)
            }
        }
        return LateConstraints(
            constraints: all.filter { tables.contains($0.table) },
            inbound: all.filter { !tables.contains($0.table) && $0.references.map(tables.contains) == true })
    }

    /// A statement that makes a constraint, and the tables that it locks.
    struct Making: Sendable, Equatable {
        let statement: String
        let tables: Set<FetchedTable>
    }

    /// Splits a script of pg_restore into the statements that make constraints, and the statements that make comments
    /// and security labels on these constraints. Pure: no I/O.
    ///
    /// - Throws: `SQLScriptError`.
    static func statements(of script: [UInt8], file: String) throws -> (makes: [Making], notes: [String]) {
        var (makes, notes): ([Making], [String]) = ([], [])
        for statement in try SQLLexer.split(script, file: file) {
            let tokens = try SQLLexer.tokens(of: script, in: statement.range, file: file).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let sql = String(decoding: script[statement.range], as: UTF8.self)
            switch tokens.first {
            case "ALTER":
                let tables = [table(ownTable(tokens)), referredTable(tokens)]
                makes.append(Making(statement: sql, tables: Set(tables.compactMap { $0 })))
            case "COMMENT", "SECURITY": notes.append(sql)
            default: break  // settings of pg_restore's session
            }
        }
        return (makes, notes)
    }

    /// Arranges statements in rounds. No two statements of a round lock the same table, so no statement waits for
    /// another statement of its round. Pure: no I/O.
    ///
    /// - Parameter width: the maximum number of statements in a round.
    static func rounds(of makes: [Making], width: Int) -> [[Making]] {
        var rounds: [(makes: [Making], tables: Set<FetchedTable>)] = []
        // All rounds before this index are full.
        var open = 0
        for one in makes {
            while open < rounds.count, rounds[open].makes.count >= width { open += 1 }
            let place = rounds[open...].firstIndex { $0.makes.count < width && $0.tables.isDisjoint(with: one.tables) }
            if let place {
                rounds[place].makes.append(one)
                rounds[place].tables.formUnion(one.tables)
            } else {
                rounds.append(([one], one.tables))
            }
        }
        return rounds.map(\.makes)
    }

    /// Runs statements in one transaction of a separate session. So settings and other state that a called function
    /// leaves in the session end with the session. After a deadlock with another session, the transaction is tried
    /// again.
    ///
    /// - Parameters:
    ///   - target: settings with the limits of a restore (`ConnectionSettings.restoring`).
    ///   - isConfined: whether the caller has already confined the functions of the database (`Confinement`).
    ///   - prepare: acquires locks and checks conditions. It is called in the transaction, before the functions are
    ///     confined. If a later statement had to wait for a lock, functions that another session creates during the
    ///     wait would not be confined.
    static func make(
        _ statements: [String], in target: ConnectionSettings, isConfined: Bool = false,
        preparedBy prepare: @Sendable (isolated Connection) throws -> Void = { _ in }
    ) async throws {
        var attempt = 1
        while true {
            do {
                return try await Connection.opened(target) { connection in
                    try await connection.with { connection in
                        try connection.transaction {
                            try prepare(connection)
                            try Confinement.during(on: connection, isNeeded: !isConfined) {
                                for statement in statements { try connection.execute(statement) }
                            }
                            try connection.execute(Confinement.leaveNothing)
                        }
                    }
                }
            } catch let error as PostgresError where error.sqlState == "40P01" && attempt < 10 {
                attempt += 1
            }
        }
    }

    /// The tokens after ALTER TABLE [ONLY].
    private static func ownTable(_ tokens: [String]) -> ArraySlice<String> {
        tokens.dropFirst(tokens.dropFirst(2).first == "ONLY" ? 3 : 2)
    }

    private static func referredTable(_ tokens: [String]) -> FetchedTable? {
        table(tokens.drop { $0 != "REFERENCES" }.dropFirst())
    }

    /// Parses `schema.name`.
    private static func table(_ tokens: ArraySlice<String>) -> FetchedTable? {
        let parts = Array(tokens.prefix(3))
        guard parts.count == 3, parts[1] == "." else { return nil }
        return FetchedTable(
            schema: unquoteIdentifier(parts[0]) ?? parts[0], name: unquoteIdentifier(parts[2]) ?? parts[2])
    }
}
