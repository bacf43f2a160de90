import Catalog
import Foundation
import Postgres
import Reporting
import SQL

/// The calls of one function of a system.
struct UpkeepCall: Sendable {
    let system: String
    let schema: String
    let function: UpkeepFunction
    /// The roles whose code may run with the rights of the role that connects.
    let trusted: [String]

    var name: String { "\(system).\(function.name)" }

    struct Outcome: Sendable, Equatable {
        /// The integer that the function returned; nil if it returns nothing, or another type.
        let number: Int?
    }

    /// Finds out whether the function can be called. Calls nothing.
    ///
    /// - Returns: nil if the schema does not exist.
    /// - Throws: `UpkeepProblem`; `PostgresError`.
    @discardableResult
    func check(on connection: isolated Connection) throws -> UpkeepTarget? {
        guard let target = try UpkeepTarget.find(function, in: schema, on: connection) else { return nil }
        // The same rule as for migrations: what a superuser runs as itself may meet no code of others.
        if target.owner == nil, target.isSuperuser {
            let intruders = try SystemPath.intruders(in: schema, trusted: trusted, on: connection)
            if !intruders.isEmpty {
                let roles = intruders.map { visible($0) }.joined(separator: ", ")
                throw UpkeepProblem(
                    message: "it would run as a superuser in a schema in which other roles own or may create objects: "
                        + roles,
                    hint: "make one of these roles the owner of the function, revoke their rights on the schema, or "
                        + "name them in trusted_roles")
            }
            let makers = try SystemPath.triggerMakers(in: schema, trusted: trusted, on: connection)
            if !makers.isEmpty {
                throw UpkeepProblem(
                    message: "it would run as a superuser on tables on which other roles have triggers or may create "
                        + "them: " + makers.map { visible($0) }.joined(separator: ", "),
                    hint: "revoke TRIGGER on the tables from these roles and drop their triggers, or name the roles in "
                        + "trusted_roles")
            }
        }
        return target
    }

    /// Calls the function once, in a transaction and a session of its own, because the function may leave settings in
    /// the session.
    ///
    /// - Returns: nil if the schema does not exist.
    /// - Throws: `UpkeepProblem`; `PostgresError`; `CancellationError`.
    func perform(on database: Database) async throws -> Outcome? {
        var options = TransactionOptions()
        options.lockTimeout = function.lockTimeout
        options.statementTimeout = function.timeout
        // The server ends the statement at its timeout. The longer limit here is for a server that does not answer.
        let (transaction, limit) = (options, function.timeout + .seconds(30))
        return try await database.withDirectConnection(named: "reeve upkeep") { connection in
            try await connection.with(within: limit) { connection in
                try connection.transaction(transaction) {
                    guard let target = try check(on: connection) else { return nil }
                    let text = try value(target, on: connection)
                    guard target.isCounting else { return Outcome(number: nil) }
                    guard let number = text.flatMap({ Int($0) }), !function.repeats || number >= 0 else {
                        throw UpkeepProblem(
                            message: "it returned \(text ?? "NULL")",
                            hint: "return how many rows the batch had, and 0 when nothing is left")
                    }
                    return Outcome(number: number)
                }
            }
        }
    }

    private var call: String { "\(quoteIdentifier(schema)).\(quoteIdentifier(function.name))()::pg_catalog.text" }

    private func value(_ target: UpkeepTarget, on connection: isolated Connection) throws -> String? {
        guard let owner = target.owner else {
            let result: String? = try connection.underPath(of: schema) {
                try connection.query("SELECT \(call)").first?.get(0)
            }
            if target.isSuperuser { try refuseLateTriggers(of: nil, on: connection) }
            return result
        }
        return try value(as: owner, target, on: connection)
    }

    // MARK: With the rights of the owner

    private static let wrapper = "pg_temp.reeve_upkeep()"

    /// Calls the function within a temporary SECURITY DEFINER function of its owner.
    ///
    /// SET ROLE alone would not do, because the code can reset the role; PostgreSQL refuses that within a SECURITY
    /// DEFINER function. The arguments' defaults are evaluated there too. Deferred triggers run before the wrapper
    /// ends, because COMMIT would run them with the rights of the role that connects.
    private func value(
        as owner: String, _ target: UpkeepTarget, on connection: isolated Connection
    ) throws -> String? {
        let body = """
            DECLARE
                result pg_catalog.text;
            BEGIN
                SELECT \(call) INTO result;
                SET CONSTRAINTS ALL IMMEDIATE;
                RETURN result;
            END
            """
        let creation = """
            CREATE FUNCTION \(Self.wrapper) RETURNS pg_catalog.text LANGUAGE plpgsql SECURITY DEFINER
                AS \(quoteDollar(body))
            """
        // A superuser keeps event triggers from firing, because their functions may belong to other roles.
        let (quiet, loud) =
            target.isSuperuser
            ? ("SET LOCAL session_replication_role = replica", "SET LOCAL session_replication_role = origin") : ("", "")
        if target.isSuperuser {
            try refuseLoudEventTriggers(on: connection)
            try connection.execute(
                "\(quiet);\n\(creation);\nALTER FUNCTION \(Self.wrapper) OWNER TO \(quoteIdentifier(owner));\n\(loud)")
        } else {
            try connection.execute("SET LOCAL ROLE \(quoteIdentifier(owner));\n\(creation)")
        }
        let result: String? = try connection.underPath(of: schema) {
            try connection.query("SELECT \(Self.wrapper)").first?.get(0)
        }
        try refuseLateTriggers(of: owner, on: connection)
        // COMMIT would run the queries of cursors WITH HOLD.
        try connection.execute("CLOSE ALL;\n\(quiet);\nDROP FUNCTION \(Self.wrapper);\n\(loud)")
        return result
    }

    /// Refuses the call if event triggers fire although `session_replication_role` is `replica`, with functions of
    /// others.
    private func refuseLoudEventTriggers(on connection: isolated Connection) throws {
        let row = try connection.query(
            """
            SELECT e.evtname::pg_catalog.text, o.rolname::pg_catalog.text
            FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
            JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
            WHERE e.evtenabled IN ('A', 'R') AND NOT o.rolsuper AND o.rolname <> ALL ($1::pg_catalog.text[])
            ORDER BY 1 LIMIT 1
            """, [trusted]
        ).first
        guard let row else { return }
        let (trigger, role): (String, String) = (try row.get(0), try row.get(1))
        throw UpkeepProblem(
            message: "the event trigger \(visible(trigger)) fires always, and would run a function of \(visible(role)) "
                + "with the rights of a superuser",
            hint: "connect as the owner of the function that is to be called, or run ALTER EVENT TRIGGER "
                + "\(quoteIdentifier(trigger)) ENABLE, or name the role in trusted_roles")
    }

    /// Refuses to commit if code of others could run at COMMIT: a trigger can defer itself again after the wrapper has
    /// run it. Only tables that the transaction has changed count; it holds locks on them. That a function is SECURITY
    /// DEFINER does not help, because its owner can change that at any moment.
    private func refuseLateTriggers(of owner: String?, on connection: isolated Connection) throws {
        let row = try connection.query(
            """
            SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, t.tgname::pg_catalog.text
            FROM pg_catalog.pg_trigger t
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
            JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE t.tgdeferrable AND EXISTS (
                    SELECT FROM pg_catalog.pg_roles o WHERE o.oid IN (c.relowner, p.proowner)
                        AND NOT o.rolsuper AND o.rolname <> session_user
                        AND o.rolname <> ALL ($1::pg_catalog.text[]))
                -- PostgreSQL's own triggers call code of others only for expressions of exclusion constraints.
                AND (p.oid >= 16384 OR EXISTS (
                    SELECT FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid
                    WHERE k.oid = t.tgconstraint AND k.contype = 'x'
                        AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)))
                AND t.tgrelid IN (
                    SELECT l.relation FROM pg_catalog.pg_locks l
                    WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation'
                        AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
            ORDER BY 1, 2, 3 LIMIT 1
            """, [trusted]
        ).first
        guard let row else { return }
        let (schema, table, trigger): (String, String, String) = (try row.get(0), try row.get(1), try row.get(2))
        throw UpkeepProblem(
            message:
                "it changes \(visible(schema)).\(visible(table)), and the deferrable trigger \(visible(trigger)) there "
                + "could run at COMMIT with more rights than its owner has",
            hint: (owner.map { "connect as \(visible($0)), make" } ?? "make")
                + " the trigger not deferrable, or name the owners of the table and of "
                + "the trigger's function in trusted_roles")
    }
}
