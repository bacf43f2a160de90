import Foundation
import Processes
import Telemetry

/// A pool of open connections. A connection is lent to one borrower at a time.
public actor Pool {
    public struct Limits: Sendable, Equatable {
        /// The number of connections that are kept open.
        public var size = 10
        /// The number of connections that may be opened in addition to `size` under load. They are closed when they are
        /// returned.
        public var overflow = 20
        /// How long a borrower waits for a connection.
        public var wait: Duration = .seconds(30)
        /// A connection that was idle for longer than this is checked with a query before it is lent.
        public var checkAfter: Duration = .seconds(30)

        public init(size: Int = 10, overflow: Int = 20, wait: Duration = .seconds(30)) {
            self.size = size
            self.overflow = overflow
            self.wait = wait
        }
    }

    /// The numbers of connections and of waiting borrowers at one moment.
    public struct Usage: Sendable, Equatable {
        public let idle: Int
        public let lent: Int
        public let waiting: Int
    }

    public nonisolated let settings: ConnectionSettings
    public nonisolated let limits: Limits
    private let logger: Logger
    private var idle: [(connection: Connection, since: ContinuousClock.Instant)] = []
    private var lent = 0
    private var waiters: [(id: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    private var nextWaiter = 0
    private var closed = false

    public init(_ settings: ConnectionSettings, limits: Limits = Limits(), logger: Logger = .silent) {
        self.settings = settings
        self.limits = limits
        self.logger = logger
    }

    public var usage: Usage { Usage(idle: idle.count, lent: lent, waiting: waiters.count) }

    /// Lends a connection to `body`.
    ///
    /// A connection that is returned closed, or with an open transaction, is not lent again.
    ///
    /// - Throws: the error of `body`; `PostgresError` of kind `poolExhausted` if no connection became free in time, of
    ///   kind `misuse` if the pool is closed, or of kind `cannotConnect`.
    @discardableResult
    public func withConnection<T: Sendable>(
        _ body: @Sendable (Connection) async throws -> T
    ) async throws -> T {
        try await waitForTurn()
        let connection: Connection
        do {
            connection = try await usableConnection()
        } catch {
            lent -= 1
            wakeNext()
            throw error
        }
        do {
            let value = try await body(connection)
            await takeBack(connection)
            return value
        } catch {
            await takeBack(connection)
            throw error
        }
    }

    /// Runs one unit of work on a connection of the pool.
    @discardableResult
    public func with<T: Sendable>(
        within limit: Duration? = nil, _ body: @Sendable (isolated Connection) throws -> T
    ) async throws -> T {
        try await withConnection { try await $0.with(within: limit, body) }
    }

    /// Closes the idle connections and refuses further borrowers. Lent connections are closed when they are returned.
    public func close() async {
        closed = true
        for waiter in waiters { waiter.continuation.resume(throwing: Self.closedError) }
        waiters = []
        let connections = idle
        idle = []
        for (connection, _) in connections { await connection.close() }
    }

    private static let closedError = PostgresError(.misuse, "the connection pool is closed")

    private func waitForTurn() async throws {
        if closed { throw Self.closedError }
        try Task.checkCancellation()
        if lent < limits.size + limits.overflow {
            lent += 1
            return
        }
        let id = nextWaiter
        nextWaiter += 1
        let timer = Task { [limits] in
            try await Task.sleep(for: limits.wait)
            let error = PostgresError(
                .poolExhausted,
                "all \(limits.size + limits.overflow) connections of the pool were in use for "
                    + "\(limits.wait.components.seconds) s",
                hint: "raise pool.size, or find the work that keeps connections in use")
            self.fail(id, with: error)
        }
        defer { timer.cancel() }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiters.append((id, $0)) }
        } onCancel: {
            Task { await self.fail(id, with: CancellationError()) }
        }
    }

    private func fail(_ id: Int, with error: any Error) {
        guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
        waiters.remove(at: index).continuation.resume(throwing: error)
    }

    /// Lets the next waiter borrow a connection, if fewer than the maximum are lent.
    private func wakeNext() {
        guard lent < limits.size + limits.overflow, !waiters.isEmpty else { return }
        lent += 1
        waiters.removeFirst().continuation.resume()
    }

    private func usableConnection() async throws -> Connection {
        while let (connection, since) = idle.popLast() {
            if await isHealthy(connection, idleSince: since) { return connection }
            logger.debug("a pooled connection was lost while idle")
            await connection.close()
        }
        return try await Connection.open(settings, logger: logger)
    }

    private func isHealthy(_ connection: Connection, idleSince since: ContinuousClock.Instant) async -> Bool {
        let state = await connection.idleState
        if state == .closed { return false }
        if state == .quiet, ContinuousClock.now - since <= limits.checkAfter { return true }
        return (try? await connection.with(within: .seconds(2)) { try $0.query("SELECT 1") }) != nil
    }

    private func takeBack(_ connection: Connection) async {
        let reusable = await connection.with { $0.isOpen && !$0.isInTransaction }
        lent -= 1
        if reusable, !closed, idle.count + lent < limits.size {
            idle.append((connection, .now))
        } else {
            await connection.close()
        }
        wakeNext()
    }
}

extension Connection {
    /// Runs a unit of work that cannot fail.
    nonisolated func with<T: Sendable>(_ body: @Sendable (isolated Connection) -> T) async -> T {
        await body(self)
    }
}
