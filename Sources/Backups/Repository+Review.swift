import Ledger
import Postgres
import Storage

extension Repository {
    /// Reads what the repository contains under the name of a database.
    ///
    /// - Throws: `StorageError` if the store does not answer. A place without a mark is not an error.
    public func contents(of database: String) async throws -> RepositoryReview.Contents {
        var damaged: [String: BackupError] = [:]
        let mark = try await store.mark()
        let manifests = try await stored(of: database) { damaged[$0] = $1 }
        return RepositoryReview.Contents(
            place: store.place, mark: mark?.id, manifests: manifests, damaged: damaged)
    }

    /// Makes the place a repository. A place that already is one is left unchanged.
    ///
    /// - Returns: whether it was made one now.
    /// - Throws: `StorageError.occupied` if the place contains anything that no repository contains; the other errors
    ///   of the store.
    public func initialize() async throws -> Bool {
        try await store.make()
        if try await store.mark() != nil { return false }
        // A repository of an earlier version has backups and no mark.
        let other = try await store.list("").map(\.name).first { name in
            let parts = name.split(separator: "/")
            return parts.count < 2 || parts.count == 2 && parts[1] != RepositoryOwner.name
        }
        if let other { throw StorageError.occupied(place: store.place, object: other) }
        try await store.write(RepositoryMark(since: Timestamp.now.rfc3339).encoded(), to: RepositoryMark.name)
        return true
    }
}

extension RepositoryReview.Evidence {
    /// Reads what the ledger of a database knows about its backups.
    ///
    /// - Throws: `LedgerError`; `PostgresError`.
    public static func read(from server: ConnectionSettings) async throws -> Self {
        try await Connection.opened(server) { connection in
            try await connection.with { connection in
                var evidence = Self()
                evidence.estate = try RepositoryOwner.read(on: connection)?.estate
                evidence.records = evidence.estate == nil ? [] : try BackupLedger.records(on: connection)
                return evidence
            }
        }
    }
}
