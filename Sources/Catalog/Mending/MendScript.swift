import Postgres
import Reporting

/// SQL statements that change the found schema into the expected schema, in an order that can be run.
public struct MendScript: Sendable, Equatable {
    public struct Statement: Sendable, Equatable {
        public let sql: String
        /// A warning for the operator, in one line.
        public let note: String?
    }

    public var statements: [Statement] = []

    public init() {}

    public var isEmpty: Bool { statements.isEmpty }

    mutating func add(_ sql: String, note: String? = nil) { statements.append(Statement(sql: sql, note: note)) }

    mutating func add(_ all: [String], note: String? = nil) { for sql in all { add(sql, note: note) } }

    /// The settings that make the meaning of the script independent of the database's settings: names without a schema
    /// resolve to PostgreSQL's own objects, backslashes in strings are ordinary characters, and the text is UTF-8.
    public static let preamble = """
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        SET search_path = pg_catalog, pg_temp;
        SET check_function_bodies = off;

        """

    /// The script for psql: the preamble and the statements; empty if there are no statements.
    public var script: String { isEmpty ? "" : Self.preamble + text }

    /// The statements, each followed by a semicolon. The note of a statement precedes it as a comment. Notes contain
    /// object names, so control characters in a note are made visible and cannot end the comment.
    public var text: String {
        statements.map { ($0.note.map { "-- \(visible($0))\n" } ?? "") + $0.sql + ";\n" }.joined()
    }
}
