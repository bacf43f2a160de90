import Postgres

/// The server cannot read the rows of some tables. Another way of reading them may be possible (`mended`).
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
        } catch let error as PostgresError where error.kind == .server {
            // Code of an owner can raise any error.
            let hasOwner = relations.contains { if case .owner = $0.reading { true } else { false } }
            if !hasOwner, error.isOutage || others.contains(error.sqlState ?? "") { throw error }
            throw ReadFailure(relations: relations, cause: error)
        }
    }

    /// A lock that was not available, and a table or schema that is gone: no errors of the tables.
    private static let others: Set = ["55P03", "42P01", "3F000"]

    /// Returns how the tables can be read nevertheless; nil if that is not known.
    ///
    /// - A role that is not trusted may make an index at any time, and planning a query runs the index's code. The
    ///   table is then read by COPY of the whole table, which plans no query.
    /// - A query that prints rows in UTF-8 fails for bytes that are no characters of the database's encoding. pg_dump
    ///   does not convert the rows.
    var mended: [DatabaseContent.Relation]? {
        let isEncoding = ["22021", "22P05"].contains((cause as? PostgresError)?.sqlState)
        var mended: [DatabaseContent.Relation] = []
        for var relation in relations {
            if case .owner = relation.reading {
                relation.reading = .copy
                relation.isOfCopy = true
            } else if isEncoding, relation.isSliceable {
                relation.isSliceable = false
            } else {
                return nil
            }
            mended.append(relation)
        }
        return mended
    }

    /// The error for the caller of a backup.
    var error: BackupError {
        let reason = cause is SettingsChanged ? "code of its owner changes settings of the session" : "\(cause)"
        return .unreadableTable(relations.map(\.path), reason: reason)
    }
}
