import Postgres

/// Errors of reading the rows of tables.
enum ReadFailure {
    /// Runs a query on tables.
    ///
    /// - Throws: `BackupError.unreadableTable` for an error that the tables have caused; otherwise the errors of `body`.
    static func describing<Result>(
        _ relations: [DatabaseContent.Relation], _ body: () throws -> Result
    ) throws -> Result {
        do {
            return try body()
        } catch let error as PostgresError where error.kind == .server {
            if error.isOutage || others.contains(error.sqlState ?? "") { throw error }
            throw BackupError.unreadableTable(relations.map(\.path), reason: "\(error)")
        }
    }

    /// A lock that was not available, and a table or schema that is gone: no errors of the tables.
    private static let others: Set = ["55P03", "42P01", "3F000"]
}
