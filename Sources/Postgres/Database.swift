import Telemetry

/// One database, with its two ways in: direct connections, which may hold locks and listen, and pooled ones.
public struct Database: Sendable {
    /// Straight to the server.
    public let direct: ConnectionSettings
    /// For short units of work that need no session state.
    public let pool: Pool
    private let logger: Logger

    /// - Parameters:
    ///   - url: where units of work go; there may be a pooler.
    ///   - direct: the server itself; nil: `url` is.
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

    /// Lends a direct connection of its own to `body`, and closes it.
    ///
    /// - Throws: `PostgresError` of kind `configuration` when a pooler answers there.
    public func withDirectConnection<T: Sendable>(
        named application: String? = nil, _ body: @Sendable (Connection) async throws -> T
    ) async throws -> T {
        try await Connection.opened(application.map { direct.named($0) } ?? direct, logger: logger, body)
    }
}
