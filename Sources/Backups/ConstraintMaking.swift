import Postgres

/// Makes the late constraints of tables in a database that is in use, each in a transaction of its own: one that the target
/// cannot have is no reason to lack the tables, and the tables that a key refers to are locked no longer than it takes.
///
/// Each transaction also takes the constraint off the record of the restore, so that this can be stopped at any time.
struct ConstraintMaking: Sendable {
    let target: ConnectionSettings
    let patience: LockPatience

    /// How long is waited for locks that sessions of the target hold.
    struct LockPatience: Sendable {
        /// At a time: meanwhile others wait behind the constraint.
        var once: Duration = .seconds(10)
        /// Between two tries, in which they go on.
        var pause: Duration = .seconds(2)
        /// For all constraints together; each is tried at least once.
        var whole: Duration = .seconds(180)
    }

    /// Makes what the record says is missing, and drops it.
    ///
    /// - Parameter findings: what there is to say already.
    /// - Returns: these, and the constraints that the target refused, in words.
    /// - Throws: `BackupError.constraintsLeft` where some may be made by another try, which the record is kept for;
    ///   `CancellationError`.
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

    /// The record is written first: what a constraint's functions leave behind in the session changes nothing of it.
    private func make(
        _ one: LateConstraints.Constraint, _ record: inout UnfinishedRestore, until end: ContinuousClock.Instant
    ) async throws {
        if !record.isMade(one) {
            let after = record.having(one, hasComments: !one.comments.isEmpty)
            try await patiently(until: end) {
                try await LateConstraints.make([after.update(), one.statement], in: settings)
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

    private func patiently(until end: ContinuousClock.Instant, _ body: () async throws -> Void) async throws {
        while true {
            do {
                return try await body()
            } catch let error as PostgresError where error.sqlState == "55P03" && .now + patience.pause < end {
                try await Task.sleep(for: patience.pause)
            }
        }
    }

    /// Removes the record, and those of earlier restores of the same, whose tables were in the way no more.
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

    /// The record once a constraint is there, and perhaps the comments on it are not.
    fileprivate func having(_ one: LateConstraints.Constraint, hasComments: Bool) -> UnfinishedRestore {
        var record = self
        guard let index = index(of: one) else { return record }
        if hasComments { record.missing[index].isMade = true } else { record.missing.remove(at: index) }
        return record
    }

    fileprivate mutating func refuse(_ one: LateConstraints.Constraint, _ reason: String) {
        if let index = index(of: one) { missing[index].reason = reason }
    }

    /// Those of the constraints that are missing.
    ///
    /// - Throws: `BackupError.part` where one is not among them.
    func missing(of constraints: [LateConstraints.Constraint], object: String) throws -> [LateConstraints.Constraint] {
        let wanted = constraints.filter { index(of: $0) != nil }
        guard wanted.count >= missing.count else {
            throw BackupError.part(
                object: object,
                reason: "it lacks constraints that the restore has left: \(missingNames.joined(separator: ", "))")
        }
        return wanted
    }
}
