import Postgres
import Reporting

/// SQL statements that change the found schema into the expected schema, in an order that can be run.
public struct MendScript: Sendable, Equatable {
    public struct Statement: Sendable, Equatable {
        public let sql: String
        /// A warning for the operator, in one line.
        public let note: String?
        /// What is lost with the statement, in one line; nil if it loses neither rows nor values.
        public let loss: String?
        /// Whether the statement contains a hidden value, which the operator must insert.
        public var isIncomplete = false
        /// Whether the statement stands before the transaction of the script, because later statements of the same
        /// transaction could not use its result.
        var comesFirst = false

        var comment: String? {
            isIncomplete ? "contains a hidden value, which must be inserted" : loss.map { "loses data: \($0)" } ?? note
        }
    }

    public var statements: [Statement] = []
    /// Statements that are printed as comments: those that lose rows or values or contain a hidden value, and those
    /// that cannot be run without them.
    public var withheld: [Statement] = []
    /// Whether the statements must be run in one transaction, because a table would be incomplete after some of them.
    public var isAtomic = false

    public init() {}

    public var isEmpty: Bool { statements.isEmpty && withheld.isEmpty }

    mutating func add(_ sql: String, note: String? = nil, loss: String? = nil) {
        statements.append(Statement(sql: sql, note: note, loss: loss))
    }

    mutating func add(_ all: [String], note: String? = nil, loss: String? = nil) {
        for sql in all { add(sql, note: note, loss: loss) }
    }

    /// The settings that make the meaning of the script independent of the database's settings: names without a schema
    /// resolve to PostgreSQL's own objects, backslashes in strings are ordinary characters, and the text is UTF-8.
    /// Values that are converted to text keep their whole value, and rows that row level security hides from the role
    /// that runs the script are an error.
    public static let preamble = """
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        SET search_path = pg_catalog, pg_temp;
        SET check_function_bodies = off;
        SET row_security = off;
        SET extra_float_digits = 1;
        SET DateStyle = 'ISO, YMD';
        SET IntervalStyle = 'postgres';
        SET TimeZone = 'UTC';
        SET bytea_output = 'hex';

        """

    /// The script for psql: the preamble and the statements; empty if there are no statements.
    public var script: String { isEmpty ? "" : Self.preamble + text }

    /// The statements, each followed by a semicolon. The note of a statement precedes it as a comment. Notes contain
    /// object names, so control characters in a note are made visible and cannot end the comment.
    public var text: String {
        let first = statements.prefix(while: \.comesFirst)
        let rest = statements.dropFirst(first.count).map(Self.written).joined()
        return first.map(Self.written).joined() + (isAtomic && !rest.isEmpty ? "BEGIN;\n\(rest)COMMIT;\n" : rest)
            + withheldText
    }

    private static func written(_ statement: Statement) -> String {
        (statement.comment.map { "-- \(visible($0))\n" } ?? "") + statement.sql + ";\n"
    }

    private var withheldText: String {
        if withheld.isEmpty { return "" }
        let lines = withheld.flatMap { statement -> [String] in
            let sql = (statement.sql + ";").utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            return [statement.comment].compactMap { $0 } + sql.map { String(Substring($0)) }
        }
        let head =
            withheld.contains { $0.loss != nil && !$0.isIncomplete }
            ? "The following statements lose data, or require one that does. --lossy includes them."
            : "The following statements cannot be run, because values in them are hidden."
        return ([head] + lines)
            .map { "-- \(visible($0))\n" }.joined()
    }
}
