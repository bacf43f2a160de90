import Postgres

/// What trying a schema showed.
public struct LiveReport: Sendable {
    public struct Entry: Sendable, Equatable {
        public let object: ObjectIdentity
        /// What went wrong, or why it could not be tried.
        public let reason: String
    }

    /// Objects that were tried and work.
    public internal(set) var held: [ObjectIdentity] = []
    /// Objects that were tried and do not work.
    public internal(set) var failures: [Entry] = []
    /// What could not be tried.
    public internal(set) var untried: [Entry] = []

    public init() {}

    mutating func fail(_ object: ObjectIdentity, _ reason: String) {
        failures.append(Entry(object: object, reason: reason))
    }

    mutating func leave(_ object: ObjectIdentity, _ reason: String) {
        untried.append(Entry(object: object, reason: reason))
    }
}

/// Tries whether a schema does what it says: each unique, exclusion, check and foreign key constraint refuses a row
/// that breaks it alone, and each trigger fires.
///
/// All is done in one transaction that is rolled back, each table under a savepoint, with short limits for locks. A role
/// with far-reaching rights tries only what roles wrote that are trusted (`UntrustedTables`). As a superuser, besides, the
/// tables are locked against changes first (`TrialLocks`), functions run with their owners' rights meanwhile
/// (`Confinement`), and tables with expressions that cannot be held back so are left alone (`RiskyTables`). What rolling back
/// does not undo is left: sequences that defaults and triggers draw from, and what triggers do outside the database. Rows
/// come from the table, or are made up from the types, the foreign keys and the literals in the checks; what no row could
/// be found for is listed as untried.
public struct LiveTrial: Sendable {
    private let reader: CatalogReader
    private let trusted: [String]
    private let isWanted: @Sendable (ObjectIdentity) -> Bool

    /// - Parameters:
    ///   - reader: whose schemas are tried.
    ///   - trusted: roles, besides superusers, whose code may run with the rights of the role that works.
    ///   - isWanted: which objects of the schemas are tried.
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

    /// Tries everything.
    ///
    /// - Throws: `PostgresError` when the connection is lost, or what others are changing cannot be locked;
    ///   `CancellationError`. A refusal is no error but a finding.
    public func run(on connection: isolated Connection) throws -> LiveReport {
        let countsCalls = try canCountCalls(on: connection)
        // One transaction for all, so that functions are confined once; each table is undone by itself, with its locks.
        return try undone(on: connection, countsCalls) { finish in
            let isSuperuser = try Confinement.isSuperuser(on: connection)
            // What follows is judged once, so nothing of it may change any more.
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

    /// Counting calls of functions is a superuser's to switch on.
    private func canCountCalls(on connection: isolated Connection) throws -> Bool {
        try undone(on: connection, false) { finish in
            if case .success = try connection.trial({ try connection.execute("SET LOCAL track_functions = 'all'") }) {
                try finish(true)
            }
            try finish(false)
        }
    }

    /// Runs `body` in a transaction and rolls it back. What `body` finishes with is the result.
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

/// A trial in its transaction.
private struct OpenTrial {
    let catalog: SchemaCatalog
    /// What belongs to each table.
    let parts: [ObjectIdentity: [CatalogObject]]
    /// Tables that no rows are put into, with the reasons.
    let untouched: [ObjectIdentity: String]
    /// Those among them that are not read either.
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
        let isTable = table.identity.kind == .table
        let reason = isTable ? untouched[table.identity] : "rows of a \(table.identity.kind.name) are not made up"
        if let reason {
            for object in tried { report.leave(object.identity, reason) }
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

/// Ends a transaction or savepoint whose work was only to be looked at.
private struct Undo: Error {}

extension Connection {
    /// How long a statement of a trial may take.
    fileprivate static let trialLimit: Duration = .seconds(30)

    /// Limits the statements that follow in the transaction.
    func limitStatements() throws {
        try execute("SET LOCAL statement_timeout = \(Self.trialLimit.milliseconds)")
    }

    /// Runs `body` under a savepoint and undoes it, whatever it does; a refusal by the server is a result.
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

    /// Runs `body` under a savepoint and keeps what it does; a refusal by the server is a result.
    func kept<T>(_ body: () throws -> T) throws -> Result<T, PostgresError> {
        do {
            return .success(try savepoint(body))
        } catch let error as PostgresError where error.kind == .server {
            return .failure(error)
        }
    }
}
