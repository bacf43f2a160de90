import Ledger
import Postgres
import SQL

/// The session in which the steps of a migration run, and what the journal has of it.
///
/// The settings, the role and the prepared statements that a step leaves hold for the next ones. They are recorded, so
/// that a later run can continue in another session.
///
/// While a transaction is open, its own settings (`SET LOCAL`) cannot be told from those of the session. So the state
/// is recorded twice: in the transaction, as provisional if a setting has changed, and behind COMMIT, in the same
/// message. The server runs the whole message, also if this program is killed meanwhile.
struct StepSession: Sendable {
    let connection: Connection
    private let run: ActionRun
    private let keeper: Connection
    private let journal: StepJournal
    private let marks: SessionMarks
    private let plan: [StepPlan.Step]
    private let initial: SessionState
    /// The states that the finished steps have left, by their numbers.
    private var states: [SessionState] = []

    /// Begins the session as that of each migration.
    ///
    /// - Parameter keeper: writes the journal.
    init(
        of run: ActionRun, _ plan: [StepPlan.Step], journal: StepJournal, keeper: Connection,
        on connection: Connection
    ) async throws {
        (self.run, self.plan, self.journal) = (run, plan, journal)
        (self.keeper, self.connection) = (keeper, connection)
        let marks = try SessionMarks(of: run.action.script)
        let path = try await keeper.with { try run.settings.survey(run.action.system, on: $0).statement(local: false) }
        let timeout = run.lockTimeout.milliseconds
        initial = try await connection.with {
            try $0.execute("\(path); \(SessionMeaning.ofDatabase(local: false)); SET lock_timeout = \(timeout)")
            return try SessionState.read(marks, on: $0)
        }
        self.marks = marks
    }

    // MARK: A later run

    /// Gives the session the state that the finished steps of an earlier run have left.
    ///
    /// - Throws: `MigrationError.temporaryLost`, `.settingsUnknown`; `PostgresError`.
    mutating func restore() async throws {
        let done = plan.filter(\.isDone)
        let left = plan.dropFirst(done.count).flatMap(\.step.statements)
        guard let last = done.last, let next = left.first else { return }
        states = []
        for one in done {
            let record = try one.session
            states.append(
                record.map { $0.state.rebased(from: $0.initial.settings, to: initial.settings) } ?? states.last
                    ?? initial)
        }
        var state = states.removeLast()
        let action = run.action
        guard marks.canRestore(state), canPrepareAgain(state.prepared, states + [state]) else {
            throw MigrationError.temporaryLost(
                location: action.script.location(of: next), system: action.system.name, title: action.migration.title)
        }
        let isProvisional = try last.session?.isProvisional ?? false
        if isProvisional { state = try settled(state, before: left) }
        states.append(state)
        let adoption = state.adoption(from: initial.settings, local: false)
        try await connection.with { [self] connection in
            try prepareAgain(current: initial.settings, on: connection)
            _ = try connection.execute(adoption.joined(separator: "; "))
        }
        if isProvisional { try await note(state, of: last) }
    }

    /// Returns the state of the session behind a transaction whose end was not recorded, if the statements that follow
    /// make it known.
    private func settled(_ state: SessionState, before left: [SQLStatement]) throws -> SessionState {
        let (action, before) = (run.action, states.last ?? initial)
        var changed = Set(state.settings.keys).union(before.settings.keys).filter {
            state.settings[$0] != before.settings[$0]
        }
        if state.role != before.role { changed.insert(ExplicitSettings.role) }
        if state.user != before.user { changed.insert(ExplicitSettings.user) }
        let explicit = ExplicitSettings(try left.map(action.script.words))
        let unknown = changed.filter { !explicit.cover($0) }
        if let next = left.first, !unknown.isEmpty {
            throw MigrationError.settingsUnknown(
                location: action.script.location(of: next), system: action.system.name,
                title: action.migration.title, names: unknown.sorted())
        }
        var settled = before
        (settled.prepared, settled.hasTemporaryObjects) = (state.prepared, state.hasTemporaryObjects)
        return settled
    }

    /// Returns the step, by its number, that has prepared a statement.
    private static func step(of text: String, _ states: [SessionState]) -> Int? {
        states.indices.last {
            states[$0].prepared.contains(text) && ($0 == 0 || !states[$0 - 1].prepared.contains(text))
        }
    }

    /// Returns whether the settings are known that each statement was prepared with. They are those of the session
    /// behind its transaction, unless others were made in the transaction: local ones before, or any after it.
    private func canPrepareAgain(_ prepared: [String], _ states: [SessionState]) -> Bool {
        let script = run.action.script
        return prepared.allSatisfy { text in
            guard let step = Self.step(of: text, states) else { return true }
            let statements = plan[step].step.statements
            guard statements.count > 1 else { return true }
            let place = statements.lastIndex { script.text(of: $0) == text } ?? 0
            let isLocal = statements[..<place].contains { statement in
                let source = script.source[statement.range]
                return source.mentions("local") || source.mentions("rollback")
                    || source.mentions("set_config") && source.mentions("true")
            }
            return !isLocal && !statements[(place + 1)...].contains { script.source[$0.range].mentions("set") }
        }
    }

    /// Prepares the statements of the finished steps again, each with the settings that it was prepared with.
    ///
    /// - Parameter current: the settings of the session.
    private func prepareAgain(current: [String: String], on connection: isolated Connection) throws {
        for text in states.last?.prepared ?? [] {
            guard let step = Self.step(of: text, states) else { continue }
            let isAlone = plan[step].step.statements.count == 1
            let state = isAlone ? (step == 0 ? initial : states[step - 1]) : states[step]
            let adoption =
                ["SET LOCAL SESSION AUTHORIZATION DEFAULT", "SET LOCAL ROLE NONE"]
                + state.adoption(from: current, local: true)
            // A statement cannot be prepared again if a later step has dropped what it uses. It could not run either.
            do {
                try connection.transaction(TransactionOptions(isolation: .ofSession)) {
                    try connection.execute(adoption.joined(separator: "; "))
                    try connection.execute(text)
                }
            } catch let error as PostgresError where error.kind == .server {}
        }
    }

    // MARK: The end of a step

    /// Runs a step that is one transaction, which also writes the journal.
    mutating func perform(_ one: StepPlan.Step) async throws {
        // The lock timeout, the search path and the isolation level are those of the session.
        var options = TransactionOptions(isolation: .ofSession)
        let record = """
            (SELECT jsonb_build_object('state', s.state, 'initial', s.initial, 'isProvisional', s.state IS DISTINCT FROM
                coalesce(\(journal.session(ofStep: one.number - 1)) -> 'state', s.initial))
            FROM (SELECT \(Self.captured)::jsonb, \(StepJournal.literal(try JSONText(encoding: initial))))
                s (state, initial))
            """
        options.closing =
            [capture] + ScriptRun.closing + [
                journal.doneStatement(
                    step: one.number, tokenDigest: one.digest, session: record),
                ScriptRun.powerless,
            ]
        let final = "jsonb_build_object('state', \(Self.captured)::jsonb, 'isProvisional', false)"
        let following =
            ["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", capture] + ScriptRun.closing + [
                journal.sessionStatement(step: one.number, change: final), Self.answer, "COMMIT",
            ]
        let results: [Rows]?
        do {
            results = try await connection.with { [run, options] connection in
                try connection.transaction(options, following: following) {
                    try run.script.run(one.step, on: connection)
                }.following
            }
        } catch let error as PostgresError where error.kind == .server {
            try? await restorePrepared()
            throw error
        }
        if let text: String = try results?.dropLast().last?.first?.get(0, as: String?.self) {
            states.append(try JSONText(text).decode())
        } else {
            try await recordEnd(of: one)
        }
    }

    /// Records that a step is done, and the state that it has left in its session.
    mutating func recordEnd(of one: StepPlan.Step) async throws {
        let state = try await connection.with { [marks] in try SessionState.read(marks, on: $0) }
        try await note(state, of: one)
        states.append(state)
    }

    private func note(_ state: SessionState, of one: StepPlan.Step) async throws {
        let record = try JSONText(encoding: SessionRecord(state: state, initial: initial, isProvisional: false))
        try await keeper.with {
            try journal.note(step: one.number, tokenDigest: one.digest, .done, session: record, on: $0)
        }
    }

    /// After a failed transaction: ROLLBACK undoes neither PREPARE nor DEALLOCATE.
    private func restorePrepared() async throws {
        let last = states.last ?? initial
        try await connection.with { [self] connection in
            let state = try SessionState.read(marks, on: connection)
            if state.prepared == last.prepared { return }
            guard canPrepareAgain(last.prepared, states) else { return connection.close() }
            try connection.execute("DEALLOCATE ALL")
            try prepareAgain(current: state.settings, on: connection)
        }
    }

    // MARK: SQL

    /// The name of a setting of the transaction that has the state, because the state is read as the script's role.
    private static let name = "reeve.session_state"
    private static let captured = "pg_catalog.current_setting('\(name)')"

    /// The state is not an answer: the server ends a message if it cannot send what it has to answer.
    private var capture: String {
        "SELECT pg_catalog.set_config('\(Self.name)', \(SessionState.expression(marks)), true) IS NULL"
    }

    /// Answers with the state unless it is too long for the server's buffer of 8 kB.
    private static let answer = "SELECT CASE WHEN length(\(captured)) < 4000 THEN \(captured) END"
}
