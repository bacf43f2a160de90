import Postgres
import SQL

/// The rows of one table in the backups of a database. Pure: no I/O.
public struct TableHistory: Sendable {
    /// What a backup records about the table.
    public struct Entry: Sendable, Equatable {
        public enum Change: String, Sendable {
            /// The backup is the oldest one, or the backup before it lacks the table.
            case new
            case same, changed
            /// The fingerprints of the two backups were computed in different ways, from the same number of rows.
            case unknown
            /// The backup lacks the table.
            case absent
        }

        /// The ID of the backup.
        public let backup: String
        /// The time of the backup's snapshot.
        public let takenAt: String
        /// nil if the backup lacks the table.
        public let rows: Int?
        /// Compared with the backup before.
        public let change: Change
        /// Equal for equal rows of an equally defined table; nil if the backup lacks the table.
        let content: [String]?
        /// The same without the fingerprints.
        fileprivate let shape: [String]
    }

    /// The schema and the name of the table, as `--table` takes them.
    public let table: String
    let found: FetchedTable
    /// The newest backup first.
    public let entries: [Entry]

    /// - Parameters:
    ///   - name: `schema.table`, or `table` if only one schema has such a table.
    ///   - manifests: the backups, oldest first.
    ///   - members: returns the partitions that contain the rows of a table in a backup; the table itself if it is not
    ///     partitioned; none if the backup lacks the table.
    /// - Throws: `BackupError.notInBackup` if no backup has the table, or if several tables have this name.
    init(
        of name: String, in manifests: [Manifest], names: [FetchedTable],
        members: (FetchedTable, Manifest) -> [FetchedTable]
    ) throws {
        let all = Set(names.filter { $0.spellings.contains(ExactText(name)) })
        // A table of the ledger is meant only if no other table has the name.
        let others = all.filter { $0.schema != UserSchemas.ledger }
        let meant = others.isEmpty ? all : others
        guard let table = meant.first else { throw BackupError.notInAnyBackup("table \(name)") }
        guard meant.count == 1 else {
            throw BackupError.notInAnyBackup(
                "single table \(name): several schemas contain a table of this name; write SCHEMA.TABLE")
        }
        found = table
        self.table = "\(table.schema).\(table.name)"
        var entries: [Entry] = []
        var wasHashing: [Bool] = []
        for manifest in manifests {
            let members = Set(members(table, manifest))
            let parts = manifest.tables.filter { members.contains(FetchedTable(schema: $0.schema, name: $0.name)) }
            let content = members.isEmpty ? nil : parts.flatMap { [$0.path, $0.digest, "\($0.rows)", $0.definition] }
            let rows = content == nil ? nil : parts.reduce(0) { $0 + $1.rows }
            let shape = parts.flatMap { [$0.path, "\($0.rows)", $0.definition] }
            let hashing = parts.map { $0.isOfCopy ?? false }
            let before = entries.last
            let change: Entry.Change =
                if content == nil {
                    .absent
                } else if before?.content == nil {
                    .new
                } else if before?.content == content {
                    .same
                } else {
                    before?.shape == shape && wasHashing != hashing ? .unknown : .changed
                }
            entries.append(
                Entry(
                    backup: manifest.id, takenAt: manifest.startedAt, rows: rows, change: change, content: content,
                    shape: shape))
            wasHashing = hashing
        }
        self.entries = entries.reversed()
    }

    /// The newest backup in which the table has rows.
    public var newestWithRows: Entry? { entries.first { $0.rows ?? 0 > 0 } }
}
