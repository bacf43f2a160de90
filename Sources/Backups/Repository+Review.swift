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
        var contents = RepositoryReview.Contents(
            place: store.place, mark: mark?.id, manifests: manifests, damaged: damaged)
        contents.owner = try await recordedOwner(of: database)
        return contents
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
        if let other = try await store.listAll().map(\.name).first(where: { !Self.isOurs($0) }) {
            throw StorageError.occupied(place: store.place, object: other)
        }
        try await store.write(RepositoryMark(since: Timestamp.now.rfc3339).encoded(), to: RepositoryMark.name)
        return true
    }

    /// Whether a name is one that objects of a repository have: `DATABASE/ID/PART`, `DATABASE/owner.json`, or an object
    /// beside the backups, such as an anchor of an audit chain. Everything else was put there by somebody else.
    static func isOurs(_ name: String) -> Bool {
        let words = name.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        if words.count > 1, words[0] == anchors { return ObjectName.isValid(name) }
        if words.count == 2 { return ObjectName.isValid(name) && words[1] == RepositoryOwner.name }
        return ObjectName.isValid(name) && words.count == 3 && Manifest.time(ofID: words[1]) != nil
    }

    /// The folder of the anchors of audit chains (`Auditing`).
    private static let anchors = "audit.anchors"
}

extension RepositoryReview.Evidence {
    /// Reads what the ledger of a database knows about its backups.
    ///
    /// - Parameter keys: the keys that manifests are signed with.
    /// - Throws: `LedgerError`; `PostgresError`.
    public static func read(keys: [SigningKey] = [], on connection: isolated Connection) throws -> Self {
        var evidence = Self()
        evidence.estate = try RepositoryOwner.read(on: connection)?.estate
        evidence.records = evidence.estate == nil ? [] : try BackupLedger.records(on: connection)
        evidence.keys = keys
        return evidence
    }

    /// Reads the same over a connection of its own.
    public static func read(from server: ConnectionSettings) async throws -> Self {
        try await Connection.opened(server) { connection in try await connection.with { try read(on: $0) } }
    }
}
