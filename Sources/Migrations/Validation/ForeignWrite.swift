import Postgres
import SQL

/// Finds the statements of a replay that would write to another server through foreign tables. The migration has
/// written there once. Statements within functions and DO are not seen.
enum ForeignWrite {
    /// Returns the names of the tables that a statement writes to, as they are written; empty texts for names that the
    /// server cannot look up. Pure.
    static func targets(_ words: [ScriptWord]) -> [String] {
        // Definitions of rules and functions contain statements that do not run now.
        guard let first = words.first?.keyword, first == "(" || writing.contains(first) else { return [] }
        var names: [String] = []
        for (index, word) in words.enumerated() {
            let previous = index > 0 ? words[index - 1].keyword : ""
            switch (previous, word.keyword) {
            case ("INSERT", "INTO"), ("MERGE", "INTO"), ("DELETE", "FROM"):
                names += [name(words[(index + 1)...])].compactMap { $0 }
            case (_, "UPDATE") where !["FOR", "KEY", "DO", "ON", "."].contains(previous):
                names += [name(words[(index + 1)...])].compactMap { $0 }
            case (_, "TRUNCATE") where ["", "AS"].contains(previous):
                names += words[(index + 1)...].split { $0.text == "," }.compactMap(name)
            case (_, "COPY") where index == 0 && words.contains { $0.keyword == "FROM" }:
                names += [name(words[(index + 1)...])].compactMap { $0 }
            default: break
            }
        }
        return names
    }

    private static let writing = ["INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "COPY", "WITH", "PREPARE"]

    private static let beginnings = writing + ["EXECUTE"]

    /// Returns whether statements of a script may create foreign tables before others write: by their text, or by
    /// functions that they call. Pure.
    static func mayFollow(in script: MigrationScript) throws -> Bool {
        if script.source.mentions("foreign") { return true }
        return try script.statements.contains {
            ["SELECT", "CALL", "DO", "EXECUTE"].contains(try script.words(of: $0).first?.keyword)
        }
    }

    /// Returns the name at the beginning of some words; nil if there is none, and an empty text if the server cannot
    /// look it up.
    private static func name(_ words: ArraySlice<ScriptWord>) -> String? {
        var rest = words.drop { ["TABLE", "ONLY"].contains($0.keyword) }
        // MERGE has an UPDATE without a name.
        if rest.first?.keyword == "SET" { return nil }
        guard let first = rest.popFirst(), first.isName else { return nil }
        var name = first.text
        var parts = 1
        while rest.first?.text == ".", let part = rest.dropFirst().first {
            name += ".\(part.text)"
            rest = rest.dropFirst(2)
            parts += 1
        }
        // The functions that look names up know neither Unicode escapes nor names of databases.
        return parts < 3 && !hasUnicodeEscapes(name) ? name : ""
    }

    /// Returns whether the connected database has foreign tables.
    static func isPossible(on connection: isolated Connection) throws -> Bool {
        try !connection.query("SELECT FROM pg_catalog.pg_foreign_table LIMIT 1").isEmpty
    }

    /// Returns whether a statement, or the prepared statement that it executes, writes to a foreign table. PREPARE
    /// writes nothing.
    static func isMade(by words: [ScriptWord], on connection: isolated Connection) throws -> Bool {
        switch words.first?.keyword {
        case "PREPARE": return false
        case "EXPLAIN":
            // The statement behind the options.
            guard let start = words.firstIndex(where: { beginnings.contains($0.keyword) }) else { return false }
            return try isMade(by: Array(words[start...]), on: connection)
        case "EXECUTE":
            guard words.count > 1 else { return false }
            if hasUnicodeEscapes(words[1].text) { return try isPossible(on: connection) }
            let prepared: [String] = try connection.query(
                """
                SELECT p.statement FROM pg_catalog.pg_prepared_statements p
                WHERE p.name OPERATOR(pg_catalog.=) (pg_catalog.parse_ident($1))[1]
                """, [words[1].text]
            ).map { try $0.get(0) }
            let script = try prepared.first.map { try MigrationScript(path: "", bytes: Array($0.utf8)) }
            guard let script, let statement = script.statements.first else { return false }
            return try isForeign(targets(script.words(of: statement)), on: connection)
        default: return try isForeign(targets(words), on: connection)
        }
    }

    /// Returns whether one of the tables is a foreign table, has one among its partitions and child tables, or is a
    /// view that reads one.
    private static func isForeign(_ names: [String], on connection: isolated Connection) throws -> Bool {
        guard !names.isEmpty, try isPossible(on: connection) else { return false }
        if names.contains("") { return true }
        let rows = try connection.query(
            """
            WITH RECURSIVE tree (oid) AS (
                SELECT pg_catalog.to_regclass(n)::pg_catalog.oid FROM pg_catalog.unnest($1::pg_catalog.text[]) n
                UNION
                SELECT e.next FROM tree t JOIN (
                    SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits
                    UNION ALL
                    SELECT w.ev_class, d.refobjid FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d
                        ON d.objid OPERATOR(pg_catalog.=) w.oid
                        AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                ) e (one, next) ON e.one OPERATOR(pg_catalog.=) t.oid
            )
            SELECT FROM tree t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.oid
            WHERE c.relkind OPERATOR(pg_catalog.=) 'f' LIMIT 1
            """, [names])
        return !rows.isEmpty
    }
}
