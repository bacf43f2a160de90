import Telemetry

/// One database and the two ways to connect to it: by direct connections, which may hold locks and listen, and by the
/// connections of a pool.
public struct Database: Sendable {
    /// The settings of direct connections to the server.
    public private(set) var direct: ConnectionSettings
    /// The connections for short units of work that need no session state.
    public let pool: Pool
    private let logger: Logger

    /// - Parameters:
    ///   - url: the address for units of work. It may be the address of a pooler.
    ///   - direct: the address of the server itself. nil: `url` is that address.
    public init(
        _ url: ConnectionSettings, direct: ConnectionSettings? = nil, limits: Pool.Limits = Pool.Limits(),
        logger: Logger = .silent
    ) {
        var shared = url
        shared.pooling = direct.map { $0.parameters != url.parameters } == true ? .expected : .detected
        var own = direct ?? url
        own.pooling = .refused
        self.direct = own
        self.logger = logger
        pool = Pool(shared, limits: limits, logger: logger)
    }

    /// The same database without limits on the time of statements and transactions in direct connections. The owner of
    /// a database can set such limits for all its sessions.
    public var unlimited: Database {
        var database = self
        database.direct.statementTimeout = .zero
        database.direct.idleInTransactionTimeout = .zero
        return database
    }

    /// Opens a separate direct connection, passes it to `body`, and closes it.
    ///
    /// - Throws: `PostgresError` of kind `configuration` if a pooler answers; the errors of `Connection.opened`.
    ///
    /// - Parameter staysWhenIdle: see `ConnectionSettings.staysWhenIdle`.
    public func withDirectConnection<T: Sendable>(
        named application: String? = nil, staysWhenIdle: Bool = false,
        onNotice: (@Sendable (ServerNotice) -> Void)? = nil,
        _ body: @Sendable (Connection) async throws -> T
    ) async throws -> T {
        var settings = application.map { direct.named($0) } ?? direct
        settings.staysWhenIdle = staysWhenIdle
        return try await Connection.opened(settings, logger: logger, onNotice: onNotice, body)
    }
}
