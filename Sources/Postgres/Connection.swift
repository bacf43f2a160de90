import CLibpq
import Foundation
import Processes
import Telemetry

/// One connection to PostgreSQL: an actor that runs on its own thread.
///
/// A unit of work is one synchronous closure. No other work runs between its statements, and no statement needs a
/// switch between threads:
///
///     let names = try await connection.with { connection in
///         try connection.transaction {
///             try connection.query("SELECT name FROM t WHERE id = $1", [id])
///                 .map { try $0.get("name", as: String.self) }
///         }
///     }
///
/// When the waiting task is cancelled, or the deadline of the unit passes, the running statement is cancelled on the
/// server and its results are drained. The connection then serves the next unit.
public actor Connection {
    public nonisolated let settings: ConnectionSettings
    nonisolated let logger: Logger
    private nonisolated let onNotice: (@Sendable (ServerNotice) -> Void)?
    nonisolated let wake: WakeUp
    private nonisolated let thread: ConnectionThread
    var handle: LibpqHandle?
    /// The deadline of the running unit of work.
    var deadline: ContinuousClock.Instant?
    /// Whether cancelling the task interrupts the running statement. False during COMMIT, and while a transaction is
    /// rolled back or the session is reset.
    var interruptible = true
    /// Whether the running statement is a COMMIT, which is never cancelled on the server.
    var isCommitting = false
    var transactionDepth = 0
    /// Whether there is a pooler in transaction mode between this process and the server. Behind a pooler, settings are
    /// made for transactions instead of the session, and the session holds no locks.
    public private(set) var isPooled = false
    /// The settings of the database's owner that were reverted when the session began (`settingsStatement`).
    private(set) var reverted: [String] = []
    /// The names of the session's prepared statements, by their text (`query(keepingPlan:)`).
    var keptPlans: [String: String] = [:]
    var plansMade = 0

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private init(
        _ settings: ConnectionSettings, logger: Logger, onNotice: (@Sendable (ServerNotice) -> Void)?
    ) throws {
        self.settings = settings
        self.logger = logger
        self.onNotice = onNotice
        wake = try WakeUp()
        thread = ConnectionThread(name: "postgres")
    }

    /// Opens a connection.
    ///
    /// - Parameter onNotice: receives the server's notices and warnings, on the connection's thread. Without it, they
    ///   are logged.
    /// - Throws: `PostgresError` of kind `cannotConnect` with the reasons of all addresses that were tried, or with the
    ///   server's own message; of kind `configuration` if a pooler answers and `settings.pooling` is `refused`;
    ///   `CancellationError`.
    public static func open(
        _ settings: ConnectionSettings, logger: Logger = .silent, onNotice: (@Sendable (ServerNotice) -> Void)? = nil
    ) async throws -> Connection {
        let connection = try Connection(settings, logger: logger, onNotice: onNotice)
        try await connection.with { try $0.connect() }
        return connection
    }

    /// Opens a connection, passes it to `body`, and closes it.
    ///
    /// - Throws: as `open`, and the error of `body`.
    @discardableResult
    public static func opened<T: Sendable>(
        _ settings: ConnectionSettings, logger: Logger = .silent, onNotice: (@Sendable (ServerNotice) -> Void)? = nil,
        _ body: @Sendable (Connection) async throws -> T
    ) async throws -> T {
        let connection = try await open(settings, logger: logger, onNotice: onNotice)
        do {
            let value = try await body(connection)
            await connection.close()
            return value
        } catch {
            await connection.close()
            throw error
        }
    }

    /// Runs a unit of work on the connection's thread.
    ///
    /// - Parameter limit: how long the whole unit may take.
    /// - Throws: the error of `body`; `PostgresError` of kind `timedOut`; `CancellationError`.
    @discardableResult
    public nonisolated func with<T: Sendable>(
        within limit: Duration? = nil, _ body: @Sendable (isolated Connection) throws -> T
    ) async throws -> T {
        try await withTaskCancellationHandler {
            try await perform(within: limit, body)
        } onCancel: {
            // A late wake-up does no harm: the unit that it wakes checks whether its own task was cancelled.
            wake.raise()
        }
    }

    private func perform<T: Sendable>(
        within limit: Duration?, _ body: @Sendable (isolated Connection) throws -> T
    ) throws -> T {
        let outer = deadline
        deadline = limit.map { .now + $0 }
        defer { deadline = outer }
        return try body(self)
    }

    /// Closes the connection. Further work on it throws an error.
    public func close() {
        handle = nil
    }

    /// Whether statements can be sent. The answer is local: the server is not queried.
    public var isOpen: Bool { idleState != .closed }

    enum IdleState { case quiet, heard, closed }

    /// What has arrived on the idle connection: `quiet` means nothing, `heard` means messages (a notification, or the
    /// server's last message before it closes the connection), `closed` means the end of the stream.
    var idleState: IdleState {
        guard let handle, PQstatus(handle.raw) == CONNECTION_OK else { return .closed }
        var state = IdleState.quiet
        var polls = [pollfd(fd: PQsocket(handle.raw), events: Int16(POLLIN), revents: 0)]
        while poll(&polls, 1, 0) > 0 {
            if PQconsumeInput(handle.raw) == 0 { return .closed }
            state = .heard
        }
        return PQstatus(handle.raw) == CONNECTION_OK ? state : .closed
    }

    /// Whether a transaction is open on the server.
    public var isInTransaction: Bool {
        guard let handle else { return false }
        return PQtransactionStatus(handle.raw) != PQTRANS_IDLE
    }

    /// Whether a statement of the open transaction has failed. Such a transaction can only be rolled back.
    var isFailed: Bool { handle.map { PQtransactionStatus($0.raw) == PQTRANS_INERROR } ?? false }

    /// The server's version as in `server_version_num`, for instance 150018.
    public var serverVersion: Int {
        handle.map { Int(PQserverVersion($0.raw)) } ?? 0
    }

    /// Whether the server has the setting `restrict_nonsystem_relation_kind`, which makes it refuse queries of views
    /// and foreign tables. Minor releases of the versions 13 to 16 added this setting.
    public var canRefuseViews: Bool {
        let first = [130_000: 130_016, 140_000: 140_013, 150_000: 150_008, 160_000: 160_004]
        return serverVersion >= (first[serverVersion / 10000 * 10000] ?? 170_000)
    }

    /// The process ID of the server process. Behind a pooler, this is not the process that runs the statements.
    public var serverProcess: Int {
        handle.map { Int(PQbackendPID($0.raw)) } ?? 0
    }

    private func connect() throws {
        try Task.checkCancellation()
        let handle = try ConnectAttempt(settings: settings, logger: logger, onNotice: onNotice, wake: wake).connect()
        PQsetnonblocking(handle.raw, 1)
        self.handle = handle
        do {
            try prepareSession(handle)
        } catch let error as PostgresError where error.kind == .timedOut {
            throw PostgresError(.cannotConnect, "\(settings.summary) accepted the connection but does not answer")
        }
    }

    private func prepareSession(_ handle: LibpqHandle) throws {
        let outer = deadline
        deadline = .now + settings.connectTimeout
        defer { deadline = outer }
        isPooled = settings.pooling == .expected
        // The search path is not set yet, so every name in this statement is qualified.
        let sql =
            settings.pooling == .refused
            ? settings.settingsStatement(local: false) : "SELECT pg_catalog.pg_backend_pid()"
        // A pooler reports a process ID of its own during connecting, which differs from the ID of the server process.
        var answer = try queryAsIs(sql)
        if try answer.first?.get(0, as: Int32.self) != PQbackendPID(handle.raw) { isPooled = true }
        guard isPooled else {
            if settings.pooling == .detected { answer = try queryAsIs(settings.settingsStatement(local: false)) }
            reverted = try ConnectionSettings.reverted(answer)
            return
        }
        if settings.pooling == .refused {
            close()
            throw PostgresError(
                .configuration,
                "\(settings.summary) is a connection pooler, but a direct connection is required",
                hint: "set direct_url to the server's own address")
        }
    }
}
