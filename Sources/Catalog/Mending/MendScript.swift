import Postgres

/// SQL that takes what was found to what is expected, in an order that runs.
public struct MendScript: Sendable, Equatable {
    public struct Statement: Sendable, Equatable {
        public let sql: String
        /// What whoever runs it should know, in one line.
        public let note: String?
    }

    public var statements: [Statement] = []

    public init() {}

    public var isEmpty: Bool { statements.isEmpty }

    mutating func add(_ sql: String, note: String? = nil) { statements.append(Statement(sql: sql, note: note)) }

    mutating func add(_ all: [String], note: String? = nil) { for sql in all { add(sql, note: note) } }

    /// What makes a session read the script as it was written, whatever the owner of a database has set for it: names
    /// without a schema are PostgreSQL's own, strings are strings, and the text is UTF-8.
    public static let preamble = """
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        SET search_path = pg_catalog, pg_temp;
        SET check_function_bodies = off;

        """

    /// As a script to be run by psql, after the preamble; nothing where nothing is to be done.
    public var script: String { isEmpty ? "" : Self.preamble + text }

    /// Each statement with its semicolon, after its note. A note has names in it and ends where its line does.
    public var text: String {
        statements.map { ($0.note.map { "-- \(visible($0))\n" } ?? "") + $0.sql + ";\n" }.joined()
    }
}
