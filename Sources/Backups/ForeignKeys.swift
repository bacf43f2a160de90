import Catalog
import Postgres

/// The foreign keys of tables that are fetched, which are made once the tables are where they belong.
struct ForeignKeys: Sendable {
    struct Key: Sendable, Equatable {
        let statement: String
        /// Statements about it.
        var comments: [String] = []
    }

    var keys: [Key] = []
    /// Whether there are some that point to where the tables were, which have gone elsewhere.
    var areLeftOut = false

    /// Those of the tables, out of a script of pg_restore's. Pure.
    ///
    /// - Throws: `PostgresError` of kind `badScript`.
    static func read(_ script: [UInt8], of tables: Set<FetchedTable>, file: String) throws -> ForeignKeys {
        var result = ForeignKeys()
        // Whether the constraint that was last seen is one of them.
        var isWanted = false
        for statement in try SQLLexer.split(script, file: file) {
            let tokens = try SQLLexer.tokens(of: script, in: statement.range, file: file).prefix(7).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            let sql = String(decoding: script[statement.range], as: UTF8.self)
            if tokens.starts(with: ["ALTER", "TABLE"]) {
                let name = tokens.dropFirst(tokens.dropFirst(2).first == "ONLY" ? 3 : 2)
                isWanted = table(name).map(tables.contains) == true
                if isWanted { result.keys.append(Key(statement: sql)) }
            } else if tokens.first == "COMMENT", isWanted, let last = result.keys.indices.last {
                result.keys[last].comments.append(sql)
            }
        }
        return result
    }

    /// What `schema.name` names.
    private static func table(_ tokens: ArraySlice<String>) -> FetchedTable? {
        let parts = Array(tokens.prefix(3))
        guard parts.count == 3, parts[1] == "." else { return nil }
        return FetchedTable(
            schema: unquoteIdentifier(parts[0]) ?? parts[0], name: unquoteIdentifier(parts[2]) ?? parts[2])
    }
}
