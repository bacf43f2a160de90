import Catalog
import Foundation
import Ledger
import Postgres
import SQL

/// Runs a migration that cannot run in one transaction, step by step, and records each step in the journal.
///
/// A step that is a transaction is recorded in that transaction, so it is recorded if and only if it was done. A
/// statement that runs alone is recorded before and after it runs. If only its start was recorded, the catalog shows
/// whether it was completed.
struct StepRun {
    let run: ActionRun
    let lockTimeout: Duration

    private var action: MigrationAction { run.action }

    func perform(_ began: ContinuousClock.Instant, on connection: isolated Connection) throws {
        let version = action.migration.version ?? 0
        let direction: StepJournal.Direction = action.direction == .up ? .up : .down
        let journal = StepJournal(system: action.system.name, version: version, direction: direction)
        if action.direction == .up {
            try connection.execute(
                MigrationLedger.recordStatement(
                    run.record(.applying), source: action.script.text, milliseconds: 0, actor: run.settings.actor))
        }
        if action.direction == .down {
            try MigrationLedger.markReverting(system: action.system.name, version: version, on: connection)
        }
        let known = try journal.steps(on: connection)
        for (number, step) in action.steps.enumerated() {
            let tokenDigest = try action.script.tokenDigest(of: step.statements)
            let past = known[number]
            if let past, past.state == .done {
                guard past.tokenDigest == tokenDigest else {
                    throw MigrationError.stepsChanged(
                        system: action.system.name, title: action.migration.title, step: number)
                }
                continue
            }
            try perform(step, number, tokenDigest, wasStarted: past != nil, journal, on: connection)
        }
        try connection.transaction {
            try run.writeLedger(began, on: connection)
            try journal.clear(on: connection)
        }
    }

    private func perform(
        _ step: MigrationStep, _ number: Int, _ tokenDigest: [UInt8], wasStarted: Bool, _ journal: StepJournal,
        on connection: isolated Connection
    ) throws {
        guard let nonTransactional = step.nonTransactional, let statement = step.statements.first else {
            try run.inTransaction(on: connection) {
                for statement in step.statements { try run.run(statement, on: connection) }
                try connection.execute(ActionRun.closing.joined(separator: "; "))
                try journal.note(step: number, tokenDigest: tokenDigest, .done, on: connection)
            }
            return
        }
        try journal.note(step: number, tokenDigest: tokenDigest, .started, on: connection)
        let after = Postcondition(
            statement: nonTransactional, schema: action.system.schema, location: action.script.location(of: statement),
            wasStarted: wasStarted)
        if try after.prepare(on: connection) == .run {
            do {
                try alone(statement, nonTransactional, on: connection)
            } catch {
                after.cleanUp(on: connection)
                // The server has reported that the statement failed. The record of its start is removed, so that the
                // next run does not take an object with the same name for the result of this statement.
                if let error = error as? PostgresError, error.kind == .server, connection.isOpen {
                    try? journal.withdraw(step: number, on: connection)
                }
                throw error
            }
            try after.check(on: connection)
        }
        try journal.note(step: number, tokenDigest: tokenDigest, .done, on: connection)
    }
}

extension StepRun {
    /// Runs a statement outside a transaction, with the system's search path.
    private func alone(
        _ statement: SQLStatement, _ nonTransactional: NonTransactionalStatement, on connection: isolated Connection
    ) throws {
        try run.settings.refuseOpenSchema(of: action.system, on: connection)
        try connection.execute(
            SystemPath.statement(schema: action.system.schema, local: false, on: connection))
        let timeout = nonTransactional.waitsPatiently ? 0 : lockTimeout.milliseconds
        do {
            try connection.execute("SET lock_timeout = \(timeout)")
            try run.run(statement, on: connection)
        } catch {
            try? connection.resetSession()
            throw error
        }
        try connection.resetSession()
    }
}

/// Checks in the catalog whether a statement that runs alone was completed, and removes what an incomplete run left
/// behind.
struct Postcondition {
    let statement: NonTransactionalStatement
    /// The schema in which names without a schema are looked up first.
    let schema: String
    let location: String
    /// Whether an earlier run began the statement and did not record its end.
    let wasStarted: Bool

    enum Verdict { case run, alreadyDone }

    /// Removes objects that an interrupted statement left behind, and returns whether the statement must still be run.
    func prepare(on connection: isolated Connection) throws -> Verdict {
        switch statement {
        case .createIndex(let name, let table):
            guard let index = try index(name, on: table, connection) else { return .run }
            if index.isValid { return wasStarted ? .alreadyDone : .run }
            try connection.execute("DROP INDEX CONCURRENTLY IF EXISTS \(index.name)")
            return .run
        case .dropIndex(let name):
            let there = try relation(name, connection) != nil
            return wasStarted && !there ? .alreadyDone : .run
        case .reindex(let index):
            try dropLeftovers(
                "SELECT x.indrelid FROM pg_catalog.pg_index x WHERE x.indexrelid = $1::bigint::oid",
                relation(index, connection), connection)
            return .run
        case .reindexTable(let table):
            try dropLeftovers("$1::bigint::oid", relation(table, connection), connection)
            return .run
        case .detachPartition(let parent, let partition): return try detachment(parent, partition, connection)
        case .createDatabase(let name):
            return try database(name, connection) && wasStarted ? .alreadyDone : .run
        case .dropDatabase(let name):
            return try !database(name, connection) && wasStarted ? .alreadyDone : .run
        case .other: return .run
        }
    }

    /// - Throws: `MigrationError.invalidIndex`.
    func check(on connection: isolated Connection) throws {
        guard case .createIndex(let name, let table) = statement else { return }
        guard try index(name, on: table, connection)?.isValid == true else {
            throw MigrationError.invalidIndex(name: name, location: location)
        }
    }

    /// Drops the index after a failure if it is invalid. An invalid index is not used by queries and slows down every
    /// write.
    func cleanUp(on connection: isolated Connection) {
        guard case .createIndex(let name, let table) = statement else { return }
        if let index = try? index(name, on: table, connection), !index.isValid {
            _ = try? connection.execute("DROP INDEX CONCURRENTLY IF EXISTS \(index.name)")
        }
    }

    /// Returns the OID of the relation that a name refers to in the script. Only this query runs with the system's
    /// search path, because a name in that path may resolve to an object of any role.
    private func relation(_ name: String, _ connection: isolated Connection) throws -> Int? {
        try connection.transaction(TransactionOptions(readOnly: true)) {
            try connection.underPath(of: schema) {
                try connection.query("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid::pg_catalog.int8", [name])
                    .first?.get(0, as: Int?.self) ?? nil
            }
        }
    }

    private func index(
        _ name: String, on table: String, _ connection: isolated Connection
    ) throws -> (name: String, isValid: Bool)? {
        let row = try connection.query(
            """
            SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), x.indisvalid AND x.indisready
            FROM pg_catalog.pg_class t
            JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
            JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = (pg_catalog.parse_ident($1))[1]
            JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid AND x.indrelid = t.oid
            WHERE t.oid = $2::bigint::oid
            """, [name, try relation(table, connection)]
        ).first
        return try row.map { (try $0.get(0), try $0.get(1)) }
    }

    private func detachment(
        _ parent: String, _ partition: String, _ connection: isolated Connection
    ) throws -> Verdict {
        let row = try connection.query(
            """
            SELECT inhdetachpending, inhparent::regclass::text, inhrelid::regclass::text FROM pg_catalog.pg_inherits
            WHERE inhparent = $1::bigint::oid AND inhrelid = $2::bigint::oid
            """, [try relation(parent, connection), try relation(partition, connection)]
        ).first
        guard let row else { return wasStarted ? .alreadyDone : .run }
        guard try row.get(0, as: Bool.self) else { return .run }
        let names = (try row.get(1, as: String.self), try row.get(2, as: String.self))
        try connection.execute("ALTER TABLE \(names.0) DETACH PARTITION \(names.1) FINALIZE")
        return .alreadyDone
    }

    /// Drops the invalid indexes that an interrupted REINDEX CONCURRENTLY leaves behind (PostgreSQL manual, REINDEX,
    /// "Rebuilding Indexes Concurrently").
    private func dropLeftovers(_ table: String, _ name: Int?, _ connection: isolated Connection) throws {
        let rows = try connection.query(
            """
            SELECT x.indexrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
            WHERE NOT x.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AND x.indrelid = (\(table))
            """, [name])
        for row in rows {
            try connection.execute("DROP INDEX CONCURRENTLY IF EXISTS \(try row.get(0, as: String.self))")
        }
    }

    private func database(_ name: String, _ connection: isolated Connection) throws -> Bool {
        try exists(
            "SELECT 1 FROM pg_catalog.pg_database WHERE datname = (pg_catalog.parse_ident($1))[1]", [name], connection)
    }

    private func exists(
        _ sql: String, _ parameters: [String], _ connection: isolated Connection
    ) throws -> Bool {
        try !connection.query(sql, parameters).isEmpty
    }
}
