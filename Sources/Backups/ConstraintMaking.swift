import Catalog
import Postgres
import SQL

/// Makes the foreign keys and CHECK constraints of restored tables in a database that is in use, each in its own
/// transaction. So a constraint that the target refuses does not prevent the restore of the tables, and the tables that
/// a foreign key refers to are locked no longer than necessary.
///
/// Each transaction also updates the record of the restore, so that the work can be interrupted at any time.
struct ConstraintMaking: Sendable {
    let target: ConnectionSettings
    let patience: LockPatience

    /// How long to wait for locks that sessions of the target hold.
    struct LockPatience: Sendable {
        /// The time limit of one attempt to lock the tables of a constraint. During the attempt, other sessions that
        /// need the tables queue behind it.
        var once: Duration = .seconds(10)
        /// The pause between two attempts, in which the queued sessions continue.
        var pause: Duration = .seconds(2)
        /// The time limit of the attempts for all constraints together. Each constraint is tried at least once, even
        /// after this time.
        var whole: Duration = .seconds(180)
    }

    /// Makes constraints that the record lists as missing, and then drops the record.
    ///
    /// - Parameter findings: the messages of earlier steps.
    /// - Returns: `findings`, and a message for each constraint that the target refused.
    /// - Throws: `BackupError.constraintsLeft` if constraints are missing for another reason, such as a lock or an
    ///   outage. The record is then kept, so that another attempt can make them. `CancellationError`.
    func make(
        _ constraints: [LateConstraints.Constraint], _ record: UnfinishedRestore, findings: [String] = []
    ) async throws -> [String] {
        var (record, findings) = (record, findings)
        let end = ContinuousClock.now + patience.whole
        var held: PostgresError?
        do {
            for one in constraints {
                do {
                    try await make(one, &record, until: end)
                } catch let error as PostgresError where error.sqlState == "55P03" {
                    held = error
                } catch let error as PostgresError where error.kind == .server && !error.isOutage {
                    findings.append("left out: \(one.words): \(error)")
                    record.refuse(one, "\(error)")
                    try await LateConstraints.make([record.update()], in: settings)
                }
            }
            if let held { throw held }
            try await drop(record)
        } catch let error as PostgresError {
            throw BackupError.constraintsLeft(missing: record.missingNames, findings: findings, cause: error)
        }
        return findings
    }

    private var settings: ConnectionSettings {
        var settings = target.restoring
        settings.lockTimeout = patience.once
        return settings
    }

    /// Makes one constraint in a transaction, and its comments in another. Each transaction updates the record first,
    /// so that the update is not affected by what the functions of the constraint leave in the session.
    private func make(
        _ one: LateConstraints.Constraint, _ record: inout UnfinishedRestore, until end: ContinuousClock.Instant
    ) async throws {
        if !record.isMade(one) {
            let after = record.having(one, hasComments: !one.comments.isEmpty)
            try await patiently(until: end) {
                try await LateConstraints.make([after.update(), one.statement], in: settings) {
                    try lock(one, after, on: $0)
                }
            }
            record = after
        }
        guard !one.comments.isEmpty else { return }
        let after = record.having(one, hasComments: false)
        try await patiently(until: end) {
            try await LateConstraints.make([after.update()] + one.comments, in: settings)
        }
        record = after
    }

    /// Locks the tables of a constraint, and checks that they are the restored ones. If the role is a superuser, the
    /// names of schemas are locked first, because LOCK TABLE finds a table by its name.
    ///
    /// - Throws: `BackupError.notThoseRestored`; `PostgresError`.
    private func lock(
        _ one: LateConstraints.Constraint, _ record: UnfinishedRestore, on connection: isolated Connection
    ) throws {
        let tables = [one.table] + [one.references].compactMap { $0 }
        if try Confinement.isSuperuser(on: connection) {
            try connection.execute(SchemaLock.names(of: tables.map(\.schema)))
        }
        let paths = Set(tables.map(\.path)).sorted()
        try connection.execute("LOCK TABLE \(paths.joined(separator: ", ")) IN SHARE ROW EXCLUSIVE MODE")
        try record.checkTables(on: connection)
    }

    private func patiently(until end: ContinuousClock.Instant, _ body: () async throws -> Void) async throws {
        while true {
            do {
                return try await body()
            } catch let error as PostgresError where error.sqlState == "55P03" && .now + patience.pause < end {
                try await Task.sleep(for: patience.pause)
            }
        }
    }

    /// Drops the record, and the records of earlier restores of the same selection. The tables of those restores no
    /// longer exist under their names.
    private func drop(_ record: UnfinishedRestore) async throws {
        let schemas = try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                try UnfinishedRestore.own(on: connection).filter { $0.isOf(record.selection) }.map(\.schema)
            }
        }
        if schemas.isEmpty { return }
        try await LateConstraints.make(schemas.map { "DROP SCHEMA \($0)" }, in: settings)
    }
}

extension UnfinishedRestore {
    private func index(of one: LateConstraints.Constraint) -> Int? {
        missing.firstIndex {
            FetchedTable(schema: $0.schema, name: $0.table) == one.table && ExactText($0.name) == ExactText(one.name)
        }
    }

    fileprivate func isMade(_ one: LateConstraints.Constraint) -> Bool {
        index(of: one).map { missing[$0].isMade == true } ?? false
    }

    /// Returns the record as it is after a constraint was made. `hasComments`: whether the constraint has comments that
    /// are not made yet, so that the constraint stays in the record.
    fileprivate func having(_ one: LateConstraints.Constraint, hasComments: Bool) -> UnfinishedRestore {
        var record = self
        guard let index = index(of: one) else { return record }
        if hasComments { record.missing[index].isMade = true } else { record.missing.remove(at: index) }
        return record
    }

    fileprivate mutating func refuse(_ one: LateConstraints.Constraint, _ reason: String) {
        if let index = index(of: one) { missing[index].reason = reason }
    }

    /// Returns those of the constraints that the record lists as missing.
    ///
    /// - Throws: `BackupError.part` if a missing constraint is not among `constraints`.
    func missing(of constraints: [LateConstraints.Constraint], object: String) throws -> [LateConstraints.Constraint] {
        let wanted = constraints.filter { index(of: $0) != nil }
        guard wanted.count >= missing.count else {
            throw BackupError.part(
                object: object,
                reason:
                    "it lacks constraints that the unfinished restore requires: \(missingNames.joined(separator: ", "))"
            )
        }
        return wanted
    }
}
