import Catalog
import Postgres
import SQL

/// Runs the statements of a script, and ends the script's part of a transaction, so that Reeve's own statements can
/// follow in it.
struct ScriptRun: Sendable {
    let script: MigrationScript
    /// Returns the statements that run instead of one; nil if it runs as it is.
    var substitute: @Sendable (SQLStatement, isolated Connection) throws -> [String]? = { _, _ in nil }

    /// Runs a statement. The output of COPY TO STDOUT is discarded, like the rows of a query. An error contains the
    /// statement's location in the file.
    func run(_ statement: SQLStatement, on connection: isolated Connection) throws {
        do {
            if let others = try substitute(statement, connection) {
                for other in others { try connection.execute(other) }
            } else if let data = statement.copyData {
                try connection.copyIn(script.text(of: statement), script.source[data])
            } else {
                try connection.copyOut(script.text(of: statement)) { _ in }
            }
        } catch let error as PostgresError {
            throw error.located(in: statement, of: script.source, file: script.path)
        }
    }

    /// Runs the statements of a script that is one transaction in the open transaction. `closingWhole` must follow.
    /// Each statement is sent by itself, because functions such as statement_timestamp() and current_query() show what
    /// was sent.
    func runWhole(_ step: MigrationStep, on connection: isolated Connection) throws {
        for statement in step.statements { try run(statement, on: connection) }
    }

    // MARK: Scripts in steps

    /// Runs a step that is one transaction in the open transaction, with what the script has deferred. `closing` must
    /// follow, and `powerless` must be the last statement of the transaction.
    func run(_ step: MigrationStep, on connection: isolated Connection) throws {
        for statement in step.statements { try run(statement, on: connection) }
        do {
            try connection.execute(Self.deferred)
            for statement in try Self.closingNewCursors(on: connection) { try connection.execute(statement) }
        } catch let error as PostgresError {
            // An error of a deferred constraint belongs to the step's statement, if there is only one.
            guard step.statements.count == 1, let statement = step.statements.first else { throw error }
            throw error.located(in: statement, of: script.source, file: script.path)
        }
    }

    // MARK: The end of the script's part

    /// Deferred constraints and triggers of the script run with the script's settings.
    private static let deferred = "SET CONSTRAINTS ALL IMMEDIATE"

    /// Statements that run between a script and Reeve's own statements in the same transaction, so that Reeve's
    /// statements run as the connected role and with Reeve's own settings. The settings are local: those that the
    /// script made for the session apply again after the transaction.
    static let closing = [
        "SET LOCAL session_authorization TO DEFAULT", "SET LOCAL role TO DEFAULT",
        SystemPath.end
            + [
                ("standard_conforming_strings", "on"), ("client_encoding", "UTF8"), ("statement_timeout", "0"),
                ("lock_timeout", "0"),
            ].map { ", pg_catalog.set_config('\($0)', '\($1)', true)" }.joined() + SessionMeaning.ofReeve,
    ]

    /// As `closing`, for a script whose session ends with it. No cursor survives, because the query of a cursor WITH
    /// HOLD would run at COMMIT, with Reeve's role. Deferred triggers may open cursors, so they run before.
    static let closingWhole = [deferred, "CLOSE ALL"] + closing

    /// A statement that must be the last one of a transaction with a script's part. At COMMIT the server runs deferred
    /// triggers that others have deferred again, and the queries of cursors that these triggers have opened. A
    /// superuser's transaction therefore ends with the rights of a role that owns nothing.
    static let powerless = """
        SELECT pg_catalog.set_config('role', 'pg_stat_scan_tables', true) FROM pg_catalog.pg_roles r
        WHERE r.rolsuper AND r.rolname OPERATOR(pg_catalog.=) CURRENT_USER
        """

    /// Returns statements that close the cursors WITH HOLD that were opened in this transaction. Those of earlier
    /// transactions have their rows already.
    private static func closingNewCursors(on connection: isolated Connection) throws -> [String] {
        try connection.query(
            """
            SELECT c.name FROM pg_catalog.pg_cursors c
            WHERE c.is_holdable AND c.creation_time OPERATOR(pg_catalog.>=) pg_catalog.transaction_timestamp()
            """
        ).map { "CLOSE \(quoteIdentifier(try $0.get(0)))" }
    }
}
