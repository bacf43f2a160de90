import Foundation
import Postgres
import Synchronization
import TestSupport
import Testing

/// The plans of a statement and of all statements that its functions run, as the server chose them (auto_explain,
/// PostgreSQL manual, F.4).
enum StatementPlans {
    /// A node of a plan that reads a table.
    struct Scan: Equatable, Sendable, CustomStringConvertible {
        /// As EXPLAIN names it, for instance `Seq Scan`.
        let node: String
        let table: String
        /// Of an index scan.
        let index: String?
        let statement: String

        var description: String { "\(node) on \(table) in: \(statement.prefix(200))" }
    }

    /// Runs a statement in a transaction that is rolled back.
    ///
    /// - Parameters:
    ///   - preparation: statements that are run before, and not explained: SET ROLE and the like.
    ///   - schema: the search path.
    /// - Returns: the scans of all plans, and of the triggers' statements.
    static func scans(of sql: String, after preparation: String = "", schema: String) async throws -> [Scan] {
        let plans = Plans()
        let listener: @Sendable (ServerNotice) -> Void = { plans.add($0) }
        let settings = try TestDatabase.current.settings
        try await Connection.opened(settings, onNotice: listener) { connection in
            try await connection.with { connection in
                try connection.execute(
                    """
                    LOAD 'auto_explain';
                    SET auto_explain.log_format = json;
                    SET auto_explain.log_nested_statements = on;
                    SET auto_explain.log_level = log;
                    SET auto_explain.log_min_duration = 0;
                    SET log_min_messages = panic;
                    SET search_path = \(schema);
                    BEGIN;
                    \(preparation);
                    """)
                try connection.execute("SET client_min_messages = log")
                try connection.execute(sql)
                try connection.execute("ROLLBACK")
            }
        }
        return try plans.texts.flatMap { text -> [Scan] in
            let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
            return scans(in: object["Plan"], of: object["Query Text"] as? String ?? "")
        }
    }

    private final class Plans: Sendable {
        private let state = Mutex<[String]>([])
        var texts: [String] { state.withLock { $0 } }

        func add(_ notice: ServerNotice) {
            guard notice.severity == "LOG", let start = notice.message.firstIndex(of: "{") else { return }
            state.withLock { $0.append(String(notice.message[start...])) }
        }
    }

    private static func scans(in plan: Any?, of statement: String) -> [Scan] {
        guard let plan = plan as? [String: Any] else { return [] }
        var found: [Scan] = []
        if let node = plan["Node Type"] as? String, let table = plan["Relation Name"] as? String {
            found.append(Scan(node: node, table: table, index: plan["Index Name"] as? String, statement: statement))
        }
        return found + ((plan["Plans"] as? [Any]) ?? []).flatMap { scans(in: $0, of: statement) }
    }

    /// Fails the test if a statement, or one that its functions run, scans one of the tables from end to end, or if
    /// none of them was read at all.
    static func expectNoSequentialScan(
        of tables: Set<String>, in sql: String, after preparation: String = "", schema: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let scans = try await scans(of: sql, after: preparation, schema: schema)
        let read = scans.filter { tables.contains($0.table) }
        #expect(!read.isEmpty, "no plan reads \(tables.sorted()): \(sql)", sourceLocation: sourceLocation)
        let sequential = read.filter { $0.node == "Seq Scan" }
        #expect(sequential.isEmpty, "\(sql)", sourceLocation: sourceLocation)
    }
}
