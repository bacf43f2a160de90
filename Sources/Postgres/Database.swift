import Telemetry

/// One database, with its two ways in: direct connections, which may hold locks and listen, and pooled ones.
public struct Database: Sendable {
    /// Straight to the server; nil when only a pooler is known.
    public let direct: ConnectionSettings?
    /// Short units of work without a session's state.
    public let pool: Pool
    private let logger: Logger

    /// - Parameters:
    ///   - url: where units of work go; behind a pooler if `direct` is given and differs.
    ///   - direct: the server itself; nil: `url` is.
    public init(
        _ url: ConnectionSettings, direct: ConnectionSettings? = nil, limits: Pool.Limits = Pool.Limits(),
        logger: Logger = .silent
    ) {
        var pooled = url
        if let direct, direct.parameters != url.parameters { pooled.pooled = true }
        self.direct = direct ?? (url.pooled ? nil : url)
        self.logger = logger
        pool = Pool(pooled, limits: limits, logger: logger)
    }

    /// Lends a direct connection of its own to `body`, and closes it.
    ///
    /// - Throws: `PostgresError` of kind `misuse` when no direct address is known.
    public func withDirectConnection<T: Sendable>(
        named application: String? = nil, _ body: @Sendable (Connection) async throws -> T
    ) async throws -> T {
        guard let direct else {
            throw PostgresError(
                .misuse, "this needs a direct connection, and only a pooler's address is configured",
                hint: "give the server's own address as direct_url")
        }
        let settings = application.map { direct.named($0) } ?? direct
        let connection = try await Connection.open(settings, logger: logger)
        do {
            let value = try await body(connection)
            await connection.close()
            return value
        } catch {
            await connection.close()
            throw error
        }
    }
}
