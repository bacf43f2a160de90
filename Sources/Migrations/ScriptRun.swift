import Catalog
import Postgres
import SQL

/// Runs the statements of a script, and ends the script's part of a transaction, so that Reeve's own statements can
/// follow in it.
struct ScriptRun: Sendable {
    let script: MigrationScript

    /// Runs a statement. The output of COPY TO STDOUT is discarded, like the rows of a query. An error contains the
    /// statement's location in the file.
    func run(_ statement: SQLStatement, on connection: isolated Connection) throws {
        do {
            if let data = statement.copyData {
                try connection.copyIn(script.text(of: statement), script.source[data])
            } else {
                try connection.copyOut(script.text(of: statement)) { _ in }
            }
        } catch let error as PostgresError {
            throw error.located(in: statement, of: script.source, file: script.path)
        }
    }

    // MARK: Scripts that are one transaction

    /// Runs the statements of a script in one transaction, and then `end`. If possible, they are sent together.
    ///
    /// - Parameter end: a statement of Reeve; nil: none.
    func runWhole(
        _ step: MigrationStep, then end: String?, _ options: TransactionOptions, on connection: isolated Connection
    ) throws {
        guard canBeSentTogether(step.statements) else {
            return try connection.transaction(options) {
                try runWhole(step, on: connection)
                if let end { try connection.execute(end) }
            }
        }
        do {
            try connection.transaction(
                options, batch: step.statements.map(script.text) + Self.closingWhole + [end].compactMap { $0 })
        } catch let error as PostgresError {
            guard let index = error.batchIndex, index < step.statements.count else { throw error }
            throw error.located(in: step.statements[index], of: script.source, file: script.path)
        }
    }

    /// Runs the statements of a script in the open transaction, and ends the script's part of the transaction.
    func runWhole(_ step: MigrationStep, on connection: isolated Connection) throws {
        for statement in step.statements { try run(statement, on: connection) }
        try connection.execute(Self.closingWhole.joined(separator: "; "))
    }

    /// Returns whether statements can be sent in one batch: there is no COPY, and none can change how the server parses
    /// those after it.
    private func canBeSentTogether(_ statements: [SQLStatement]) -> Bool {
        let copy = "copy".utf8
        return !script.mentionsStringSyntax
            && statements.allSatisfy { statement in
                !script.source[statement.range].prefix(copy.count).map { $0 | 0x20 }.elementsEqual(copy)
            }
    }

    // MARK: Scripts in steps

    /// Runs a step that is one transaction in the open transaction, and ends the script's part of the transaction.
    ///
    /// - Parameter look: called after the statements, with the settings that they have made.
    func run<T>(
        _ step: MigrationStep, on connection: isolated Connection, look: () throws -> T
    ) throws -> T {
        for statement in step.statements { try run(statement, on: connection) }
        let seen = try look()
        do {
            try connection.execute(Self.deferred)
            let held = try Self.newHeldCursors(on: connection)
            try connection.execute(Self.closing.joined(separator: "; "))
            try held?.refuseOtherRole(on: connection)
        } catch let error as PostgresError {
            // An error of a deferred constraint belongs to the step's statement, if there is only one.
            guard step.statements.count == 1, let statement = step.statements.first else { throw error }
            throw error.located(in: statement, of: script.source, file: script.path)
        }
        return seen
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

    /// As `closing`, for a script whose session ends with it. No cursor survives.
    private static let closingWhole = ["CLOSE ALL", deferred] + closing

    /// Cursors WITH HOLD of the open transaction. At COMMIT their queries run to the end, with the role of that moment.
    private struct HeldCursors {
        let names: [String]
        let role: String

        /// Refuses cursors whose queries would run as another role than that of the script.
        ///
        /// - Throws: `PostgresError`.
        func refuseOtherRole(on connection: isolated Connection) throws {
            let current: String? = try connection.query("SELECT current_user::text").first?.get(0)
            if current == role { return }
            throw PostgresError(
                .misuse,
                "the cursor \(names.joined(separator: ", ")) WITH HOLD is open at the end of a transaction of the role "
                    + role,
                hint:
                    "its query would run as another role: close the cursor, or write RESET ROLE before the end of the "
                    + "transaction")
        }
    }

    private static func newHeldCursors(on connection: isolated Connection) throws -> HeldCursors? {
        let rows = try connection.query(
            """
            SELECT c.name, CURRENT_USER::pg_catalog.text AS role FROM pg_catalog.pg_cursors c
            WHERE c.is_holdable AND c.creation_time OPERATOR(pg_catalog.>=) pg_catalog.transaction_timestamp()
            """)
        guard let role = try rows.first?.get("role", as: String.self) else { return nil }
        return HeldCursors(names: try rows.map { try $0.get("name") }, role: role)
    }
}
