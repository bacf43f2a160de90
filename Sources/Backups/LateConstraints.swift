import Catalog
import Postgres

/// The foreign keys and CHECK constraints of tables that are made once all rows are there (`RestorePlan.lateConstraints`).
struct LateConstraints: Sendable {
    struct Constraint: Sendable, Equatable {
        let table: FetchedTable
        let name: String
        let statement: String
        /// Statements about it.
        var comments: [String] = []
    }

    var constraints: [Constraint] = []
    /// Whether there are some that point to where the tables were, which have gone elsewhere.
    var areLeftOut = false

    /// Those of the tables, out of a script of pg_restore's. Pure.
    ///
    /// - Throws: `PostgresError` of kind `badScript`.
    static func read(_ script: [UInt8], of tables: Set<FetchedTable>, file: String) throws -> LateConstraints {
        var result = LateConstraints()
        // Whether the constraint that was last seen is one of them.
        var isWanted = false
        for statement in try SQLLexer.split(script, file: file) {
            let tokens = try SQLLexer.tokens(of: script, in: statement.range, file: file).prefix(9).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let sql = String(decoding: script[statement.range], as: UTF8.self)
            if tokens.starts(with: ["ALTER", "TABLE"]) {
                let own = tokens.dropFirst(tokens.dropFirst(2).first == "ONLY" ? 3 : 2)
                // ADD CONSTRAINT name
                let name = own.dropFirst(5).first.map { unquoteIdentifier($0) ?? $0 }
                if let table = table(own), let name, tables.contains(table) {
                    isWanted = true
                    result.constraints.append(Constraint(table: table, name: name, statement: sql))
                } else {
                    isWanted = false
                }
            } else if tokens.first == "COMMENT", isWanted, let last = result.constraints.indices.last {
                result.constraints[last].comments.append(sql)
            }
        }
        return result
    }

    /// A statement that makes one, and the tables that it locks.
    struct Making: Sendable, Equatable {
        let statement: String
        let tables: Set<FetchedTable>
    }

    /// What makes the constraints of a script of pg_restore's, and what is said of them after. Pure.
    ///
    /// - Throws: `PostgresError` of kind `badScript`.
    static func statements(of script: [UInt8], file: String) throws -> (makes: [Making], notes: [String]) {
        var (makes, notes): ([Making], [String]) = ([], [])
        for statement in try SQLLexer.split(script, file: file) {
            let tokens = try SQLLexer.tokens(of: script, in: statement.range, file: file).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let sql = String(decoding: script[statement.range], as: UTF8.self)
            switch tokens.first {
            case "ALTER":
                let own = tokens.dropFirst(tokens.dropFirst(2).first == "ONLY" ? 3 : 2)
                let other = tokens.drop { $0 != "REFERENCES" }.dropFirst()
                makes.append(Making(statement: sql, tables: Set([own, other].compactMap(table))))
            case "COMMENT", "SECURITY": notes.append(sql)
            default: break  // settings of pg_restore's session
            }
        }
        return (makes, notes)
    }

    /// The statements in rounds, in each of which no table is locked by two, so that none waits for another. Pure.
    ///
    /// - Parameter width: how many a round may have.
    static func rounds(of makes: [Making], width: Int) -> [[Making]] {
        var rounds: [(makes: [Making], tables: Set<FetchedTable>)] = []
        // Every round before it is full, as far as is known.
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

    /// Runs statements in a session of their own, and in one transaction: what a function that they call sets or leaves
    /// there ends with it. Where they and somebody else wait for each other, they are tried again.
    ///
    /// - Parameter isConfined: whether the functions of the database are confined already, and not for this alone.
    static func make(_ statements: [String], in target: ConnectionSettings, isConfined: Bool) async throws {
        var attempt = 1
        while true {
            do {
                return try await Connection.opened(target.restoring) { connection in
                    try await connection.with { connection in
                        try connection.transaction {
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

    /// What `schema.name` names.
    private static func table(_ tokens: ArraySlice<String>) -> FetchedTable? {
        let parts = Array(tokens.prefix(3))
        guard parts.count == 3, parts[1] == "." else { return nil }
        return FetchedTable(
            schema: unquoteIdentifier(parts[0]) ?? parts[0], name: unquoteIdentifier(parts[2]) ?? parts[2])
    }
}
