import Postgres

/// The server cannot read the rows of some tables. Another way of reading them may be possible
/// (`ReadingLimits`).
struct ReadFailure: Error {
    let relations: [DatabaseContent.Relation]
    let cause: any Error

    /// Runs a query on tables.
    ///
    /// - Throws: `ReadFailure` for an error that the tables, or code of their owners, have caused; otherwise the errors
    ///   of `body`.
    static func describing<Result>(
        _ relations: [DatabaseContent.Relation], _ body: () throws -> Result
    ) throws -> Result {
        do {
            return try body()
        } catch let error as SettingsChanged {
            throw ReadFailure(relations: relations, cause: error)
        } catch let error as PostgresError where error.kind == .timedOut {
            throw ReadFailure(relations: relations, cause: error)
        } catch let error as PostgresError where error.kind == .server {
            // Code of an owner can raise any error.
            let hasOwner = relations.contains { if case .owner = $0.reading { true } else { false } }
            if !hasOwner, error.isOutage || others.contains(error.sqlState ?? "") { throw error }
            throw ReadFailure(relations: relations, cause: error)
        }
    }

    /// A lock that was not available, and a table or schema that is gone: no errors of the tables.
    private static let others: Set = ["55P03", "42P01", "3F000"]

    /// The error for the caller of a backup.
    var error: BackupError {
        let reason =
            switch cause {
            case is SettingsChanged: "code of its owner changes settings of the session"
            case let error as PostgresError where error.kind == .timedOut:
                "the query did not end in time; code of the table's owner may delay it"
            default: "\(cause)"
            }
        return .unreadableTable(relations.map(\.path), reason: reason)
    }
}
