import Postgres

/// A session that holds a lock that a migration waits for.
public struct Blocker: Sendable, Equatable, CustomStringConvertible {
    public let process: Int
    public let user: String
    public let state: String
    public let query: String
    /// How long its transaction has been open, in seconds; nil if the server does not tell.
    public let seconds: Int?

    public var description: String {
        let line = query.split(whereSeparator: \.isWhitespace).joined(separator: " ").prefix(200)
        let since = seconds.map { " for \($0) s" } ?? ""
        return "process \(process) of \(user), \(state)\(since): \(line)"
    }

    /// Returns the sessions that block a session.
    static func blocking(_ process: Int, on connection: isolated Connection) throws -> [Blocker] {
        try read("pid = ANY (pg_catalog.pg_blocking_pids($1::integer))", process, on: connection)
    }

    /// Returns a session, described like a blocker; nil if it has ended.
    static func session(_ process: Int, on connection: isolated Connection) throws -> Blocker? {
        try read("pid = $1::integer", process, on: connection).first
    }

    private static func read(
        _ condition: String, _ process: Int, on connection: isolated Connection
    ) throws -> [Blocker] {
        try connection.query(
            """
            SELECT pid, coalesce(usename::text, 'an unknown user') AS usename, coalesce(state, 'unknown') AS state,
                coalesce(query, '') AS query,
                extract(epoch FROM clock_timestamp() - xact_start)::integer AS seconds
            FROM pg_catalog.pg_stat_activity WHERE \(condition)
            """, [process]
        ).map {
            Blocker(
                process: try $0.get("pid"), user: try $0.get("usename"), state: try $0.get("state"),
                query: try $0.get("query"), seconds: try $0.get("seconds"))
        }
    }
}
