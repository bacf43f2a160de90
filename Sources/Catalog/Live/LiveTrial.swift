import Postgres

/// The result of a trial of a schema.
public struct LiveReport: Sendable {
    public struct Entry: Sendable, Equatable {
        public let object: ObjectIdentity
        /// The failure, or the reason why the object could not be tried.
        public let reason: String
    }

    /// Objects that were tried and work.
    public internal(set) var held: [ObjectIdentity] = []
    /// Objects that were tried and do not work.
    public internal(set) var failures: [Entry] = []
    /// Objects that could not be tried.
    public internal(set) var untried: [Entry] = []

    public init() {}

    mutating func fail(_ object: ObjectIdentity, _ reason: String) {
        failures.append(Entry(object: object, reason: reason))
    }

    mutating func leave(_ object: ObjectIdentity, _ reason: String) {
        untried.append(Entry(object: object, reason: reason))
    }
}

/// Tries whether a schema works as declared: each unique, exclusion, check and foreign key constraint rejects a row
/// that violates only that constraint, and each trigger fires.
///
/// All trials run in one transaction that is rolled back. Each table has its own savepoint, and lock timeouts are
/// short. If the current role has far-reaching privileges, only tables whose code was written by trusted roles are
/// tried (`UntrustedTables`). If the role is a superuser, three measures are added: the tables are first locked against
/// changes (`TrialLocks`), functions run with the privileges of their owners during the trial (`Confinement`), and
/// tables with expressions that cannot be confined are left out (`RiskyTables`). The rollback does not undo two
/// effects: sequences that defaults and triggers advance, and actions of triggers outside the database. Rows are copied
/// from the table, or made up from the types, the foreign keys and the literals in the checks. Objects for which no row
/// was found are listed as untried.
public struct LiveTrial: Sendable {
    private let reader: CatalogReader
    private let trusted: [String]
    private let isWanted: @Sendable (ObjectIdentity) -> Bool

    /// - Parameters:
    ///   - reader: reads the schemas that are tried.
    ///   - trusted: roles, in addition to superusers, whose code may run with the privileges of the current role.
    ///   - isWanted: returns whether an object of the schemas is tried.
    public init(
        _ reader: CatalogReader, trusting trusted: [String] = [],
        isWanted: @escaping @Sendable (ObjectIdentity) -> Bool = { _ in true }
    ) {
        var reader = reader
        reader.readsDependencies = true
        self.reader = reader
        self.trusted = trusted
        self.isWanted = isWanted
    }

    /// Tries all wanted objects. An object that does not work is a finding in the report, not an error.
    ///
    /// - Throws: `PostgresError` if the connection is lost, or if an object cannot be locked because another session is
    ///   changing it; `CancellationError`.
    public func run(on connection: isolated Connection) throws -> LiveReport {
        let countsCalls = try canCountCalls(on: connection)
        // All tables are tried in one transaction, so that functions are confined only once. Each table has its own
        // savepoint, whose rollback also releases its locks.
        return try undone(on: connection, countsCalls) { finish in
            let isSuperuser = try Confinement.isSuperuser(on: connection)
            // `UntrustedTables` and `RiskyTables` check the objects only once, so the objects must not change
            // afterwards.
            let locks = isSuperuser ? try TrialLocks(of: reader, isWanted, on: connection) : TrialLocks()
            let catalog = try reader.readOpen(on: connection).filtered(isWanted)
            let untrusted = try UntrustedTables(trusting: trusted, on: connection)
            try Confinement.during(on: connection) {
                let risky = isSuperuser ? try RiskyTables.read(whileOthersWork: true, on: connection) : [:]
                let reasons = risky.mapValues { "\($0) would run with the rights of a superuser" }
                    .merging(untrusted.reasons) { _, untrusted in untrusted }
                    .merging(locks.missing) { _, missing in missing }
                let tables = catalog.sorted.map(\.identity).filter { $0.kind == .table && reasons[$0] == nil }
                var trial = OpenTrial(
                    catalog, untouched: reasons, unread: untrusted.unread.union(locks.missing.keys),
                    countsCalls: countsCalls,
                    evaluation: isSuperuser
                        ? try OwnersEvaluation(of: tables, on: connection) : OwnersEvaluation())
                try trial.run(on: connection)
                try finish(trial.report)
            }
        }
    }

    /// Returns whether calls of functions can be counted. Only a superuser can switch the counting on.
    private func canCountCalls(on connection: isolated Connection) throws -> Bool {
        try undone(on: connection, false) { finish in
            if case .success = try connection.trial({ try connection.execute("SET LOCAL track_functions = 'all'") }) {
                try finish(true)
            }
            try finish(false)
        }
    }

    /// Runs `body` in a transaction, and always rolls the transaction back. `body` must pass its result to the function
    /// that it receives. That function ends `body` by throwing an error. `undone` then returns the result.
    private func undone<T>(
        on connection: isolated Connection, _ countsCalls: Bool, _ body: ((T) throws -> Void) throws -> Void
    ) throws -> T {
        var options = TransactionOptions()
        options.lockTimeout = .seconds(2)
        options.statementTimeout = Connection.trialLimit
        options.preamble =
            ["SET CONSTRAINTS ALL IMMEDIATE"] + (countsCalls ? ["SET LOCAL track_functions = 'all'"] : [])
        var result: T?
        do {
            try connection.transaction(options) {
                try body {
                    result = $0
                    throw Undo()
                }
                throw Undo()
            }
        } catch is Undo {}
        guard let result else { throw PostgresError(.misuse, "the trial returned no result") }
        return result
    }
}

/// Tries the objects of a catalog in the open transaction, and records the results in `report`.
private struct OpenTrial {
    let catalog: SchemaCatalog
    /// The parts of each table.
    let parts: [ObjectIdentity: [CatalogObject]]
    /// Tables into which no rows are inserted, with the reasons.
    let untouched: [ObjectIdentity: String]
    /// The tables of `untouched` that are not read either.
    let unread: Set<ObjectIdentity>
    let countsCalls: Bool
    let evaluation: OwnersEvaluation
    var report = LiveReport()

    init(
        _ catalog: SchemaCatalog, untouched: [ObjectIdentity: String], unread: Set<ObjectIdentity>, countsCalls: Bool,
        evaluation: OwnersEvaluation
    ) {
        self.catalog = catalog
        self.untouched = untouched
        self.unread = unread
        self.countsCalls = countsCalls
        self.evaluation = evaluation
        var parts: [ObjectIdentity: [CatalogObject]] = [:]
        for object in catalog.sorted {
            if let container = catalog.container(of: object) { parts[container, default: []].append(object) }
        }
        self.parts = parts
    }

    mutating func run(on connection: isolated Connection) throws {
        for table in catalog.sorted where table.identity.kind.isRelation { try run(table, on: connection) }
        let eventTriggers = catalog.sorted.filter { $0.identity.kind == .eventTrigger }
        if eventTriggers.isEmpty { return }
        report = try connection.trial {
            var trial = EventTriggerTrial(report: report)
            try trial.run(eventTriggers, countsCalls: countsCalls, on: connection)
            return trial.report
        }.get()
    }

    private mutating func run(_ table: CatalogObject, on connection: isolated Connection) throws {
        let tried = (parts[table.identity] ?? []).filter(Self.isTried)
        if tried.isEmpty { return }
        for object in tried where object["not enforced"] != nil {
            report.leave(object.identity, "it is NOT ENFORCED")
        }
        let isTable = table.identity.kind == .table
        let reason = isTable ? untouched[table.identity] : "no test rows are made for a \(table.identity.kind.name)"
        if let reason {
            for object in tried where object["not enforced"] == nil { report.leave(object.identity, reason) }
            return
        }
        report = try connection.trial {
            let maker = RowMaker(
                catalog: catalog, parts: parts, untouched: Set(untouched.keys), unread: unread, evaluation: evaluation)
            var trial = TableTrial(maker: maker, table: table, report: report)
            try trial.run(countsCalls: countsCalls, on: connection)
            return trial.report
        }.get()
    }

    private static func isTried(_ object: CatalogObject) -> Bool {
        object.identity.kind == .constraint || object.identity.kind == .trigger
            || object.identity.kind == .index && object["unique"] != nil
    }
}

/// Thrown to roll back a transaction or savepoint whose result is already known.
private struct Undo: Error {}

extension Connection {
    /// The statement timeout during a trial.
    fileprivate static let trialLimit: Duration = .seconds(30)

    /// Sets the statement timeout to `trialLimit` for the rest of the transaction.
    func limitStatements() throws {
        try execute("SET LOCAL statement_timeout = \(Self.trialLimit.milliseconds)")
    }

    /// Runs `body` under a savepoint, and always rolls back to the savepoint. If the server reports an error, returns
    /// the error as a failure.
    func trial<T>(_ body: () throws -> T) throws -> Result<T, PostgresError> {
        var value: T?
        do {
            try savepoint {
                value = try body()
                throw Undo()
            }
        } catch is Undo {
        } catch let error as PostgresError where error.kind == .server {
            return .failure(error)
        }
        guard let value else { throw PostgresError(.misuse, "the trial returned no result") }
        return .success(value)
    }

    /// Runs `body` under a savepoint. If the server reports an error, rolls back to the savepoint and returns the error
    /// as a failure. Otherwise the effects of `body` remain.
    func kept<T>(_ body: () throws -> T) throws -> Result<T, PostgresError> {
        do {
            return .success(try savepoint(body))
        } catch let error as PostgresError where error.kind == .server {
            return .failure(error)
        }
    }
}
