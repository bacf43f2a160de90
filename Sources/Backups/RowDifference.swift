import Postgres
import SQL

/// What changed in a table between two backups.
public struct RowDifference: Sendable, Equatable {
    /// Rows of one kind.
    public struct Rows: Sendable, Equatable {
        public let count: Int
        /// The values that identify the first of these rows, in the order of `RowDifference.key`. nil stands for NULL.
        public let first: [[String?]]
    }

    /// The columns by which rows are identified: those of the primary key, or all columns that both backups have.
    public let key: [String]
    /// Whether `key` is the primary key. If not, a changed row is a removed row and an added one.
    public let isKeyed: Bool
    public let added: Rows
    public let removed: Rows
    /// The rows with the same key and other values in columns that both backups have.
    public let changed: Rows
    /// The columns that only one of the backups has.
    public let newColumns: [String]
    public let goneColumns: [String]

    /// How many rows of each kind are listed.
    private static let listed = 5

    /// Compares two loads in a scratch server, whose columns are all texts.
    static func read(from before: RowLoad, to after: RowLoad, in scratch: ConnectionSettings) async throws
        -> RowDifference
    {
        try await Connection.opened(scratch) { connection in
            try await connection.with { try RowDifference(before, after, on: $0) }
        }
    }

    private init(_ before: RowLoad, _ after: RowLoad, on connection: isolated Connection) throws {
        let (old, new) = (before.columns.map(ExactText.init), after.columns.map(ExactText.init))
        let common = new.filter(Set(old).contains)
        let keys = after.table.key.map(ExactText.init)
        let isKeyed = !keys.isEmpty && before.table.key.map(ExactText.init) == keys && Set(common).isSuperset(of: keys)
        let identifying = isKeyed ? keys : common
        func list(_ columns: [ExactText], of table: String) -> String {
            columns.isEmpty ? "1" : columns.map { "\(table).\(quoteIdentifier($0.text))" }.joined(separator: ", ")
        }
        func rows(_ query: String) throws -> Rows { try Self.rows(query, identifying.map(\.text), on: connection) }
        let (one, other) = (before.path, after.path)
        let same = keys.map { "a.\(quoteIdentifier($0.text)) = b.\(quoteIdentifier($0.text))" }
            .joined(separator: " AND ")
        func only(_ table: String, without other: String) -> String {
            isKeyed
                ? "SELECT \(list(keys, of: "a")) FROM \(table) a WHERE NOT EXISTS (SELECT FROM \(other) b WHERE \(same))"
                : "SELECT \(list(common, of: "a")) FROM \(table) a EXCEPT ALL SELECT \(list(common, of: "b")) FROM \(other) b"
        }
        added = try rows(only(other, without: one))
        removed = try rows(only(one, without: other))
        changed =
            isKeyed
            ? try rows(
                """
                SELECT \(list(keys, of: "a")) FROM \(one) a JOIN \(other) b ON \(same)
                WHERE ROW(\(list(common, of: "a"))) IS DISTINCT FROM ROW(\(list(common, of: "b")))
                """) : Rows(count: 0, first: [])
        (key, self.isKeyed) = (identifying.map(\.text), isKeyed)
        newColumns = new.filter { !Set(old).contains($0) }.map(\.text)
        goneColumns = old.filter { !Set(new).contains($0) }.map(\.text)
    }

    private static func rows(_ query: String, _ names: [String], on connection: isolated Connection) throws -> Rows {
        let count: Int = try connection.query("SELECT count(*) FROM (\(query)) q").first?.get(0) ?? 0
        // All values are texts here. A shorter number is a smaller one.
        let sorting = names.map { name in
            let column = "q.\(quoteIdentifier(name))"
            return "length(\(column)), \(column) COLLATE \"C\""
        }
        let order = sorting.isEmpty ? "" : " ORDER BY \(sorting.joined(separator: ", "))"
        let first = try connection.query("SELECT * FROM (\(query)) q\(order) LIMIT \(listed)").map { row in
            try names.indices.map { try row.get($0, as: String?.self) }
        }
        return Rows(count: count, first: first)
    }
}
