import Catalog
import Postgres

/// A query of a system about itself that gives no row when all is well.
public struct SystemCheck: Sendable {
    public let name: String
    /// In which names without a schema are looked for.
    public let schema: String
    public let sql: String

    public init(_ name: String, schema: String = "public", sql: String) {
        self.name = name
        self.schema = schema
        self.sql = sql
    }

    /// Runs it under the system's path in a transaction that changes nothing; functions run with their owners' rights
    /// (`FunctionConfinement`).
    ///
    /// - Returns: how many rows it gave.
    /// - Throws: `PostgresError`.
    func rows(on connection: isolated Connection) throws -> Int {
        var count = 0
        do {
            try connection.transaction {
                try FunctionConfinement.begin(on: connection)
                try connection.execute("SET LOCAL transaction_read_only = on")
                count = try connection.underPath(of: schema) { try connection.query(sql).count }
                throw Undo()
            }
        } catch is Undo {}
        return count
    }

    /// Ends a transaction whose work was only to be looked at.
    private struct Undo: Error {}
}
