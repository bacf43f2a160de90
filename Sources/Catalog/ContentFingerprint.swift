import Postgres
import Reporting
import SQL

/// The number of rows of a table, and a 128-bit hash of the rows. The hash does not depend on the order of the rows. If
/// two fingerprints are equal, the tables have the same rows, except with a probability of about 2^-128.
///
/// Each row is hashed twice, with two seeds, by PostgreSQL's hash functions for hash partitions, which return the same
/// values in all versions. The hashes are added modulo 2^64. Columns of types whose equal values have only one text
/// form (integers, text, timestamps …) are hashed as values. The other columns (numeric, json, floats …) are hashed as
/// text. A fingerprint detects corruption and mistakes, but not rows that were constructed to have the same
/// fingerprint.
public struct ContentFingerprint: Sendable, Hashable, CustomStringConvertible {
    public let rows: Int
    /// 32 hexadecimal digits.
    public let digest: String

    public var description: String { "\(counted(rows, "row")), \(digest)" }

    public init(rows: Int, digest: String) {
        self.rows = rows
        self.digest = digest
    }

    /// - Parameter halves: the two sums of hashes.
    public init(rows: Int, halves: (UInt64, UInt64)) {
        self.init(rows: rows, digest: Self.hex(halves.0) + Self.hex(halves.1))
    }

    /// The settings under which all rows are read, and the text form of a value is the same in all sessions.
    private static let settings = [
        ("datestyle", "ISO, MDY"), ("intervalstyle", "postgres"), ("timezone", "UTC"), ("extra_float_digits", "1"),
        ("bytea_output", "hex"), ("xmlbinary", "base64"), ("lc_monetary", "C"), ("quote_all_identifiers", "off"),
        ("row_security", "off"), ("search_path", ""),
    ]

    /// Applies the settings for the rest of the open transaction. Takes no snapshot, so that it can be called before the
    /// transaction locks tables.
    public static func pinSettings(on connection: isolated Connection) throws {
        // A table may have been replaced by a view since the tables were listed. Therefore a server that has the
        // setting is told to refuse queries of views and foreign tables.
        let views =
            connection.canRefuseViews ? [("restrict_nonsystem_relation_kind", "view, foreign-table")] : []
        // SELECT set_config(…) would take a snapshot.
        let statements = (settings + views).map { "SET LOCAL \($0) = \(quoteLiteral($1))" }
        try connection.execute(statements.joined(separator: "; "))
    }

    /// A column, and whether it is hashed as a value or as text.
    public struct Column: Sendable, Hashable {
        let name: String
        /// Whether the column is hashed by the hash function of its type; otherwise its text is hashed.
        let isHashedAsItIs: Bool
        private let isText: Bool

        /// - Parameter type: the name of the type from `format_type`, without modifiers.
        public init(_ name: String, type: String) {
            self.name = name
            isHashedAsItIs = Self.exact.contains(type)
            isText = ["text", "character varying"].contains(type)
        }

        /// Types whose equal values have one text form and, in the collation C, one hash.
        private static let exact: Set<String> = [
            "smallint", "integer", "bigint", "boolean", "uuid", "text", "character varying", "bytea", "date",
            "timestamp with time zone", "timestamp without time zone",
        ]

        var expression: String {
            let column = "t.\(quoteIdentifier(name))"
            return isText ? "\(column) COLLATE \"C\"" : column
        }
    }

    /// Returns an SQL expression for a record that represents a row. The fields of the record are the columns that are
    /// hashed as values and, at the end, a single text. The text contains all other columns, as the output functions of
    /// their types print them.
    private static func record(_ columns: [Column]) -> String {
        let exact = columns.filter(\.isHashedAsItIs).map(\.expression)
        let others = columns.filter { !$0.isHashedAsItIs }
        let all = others.isEmpty && !exact.isEmpty ? exact : exact + [text(others)]
        return "ROW(\(all.joined(separator: ", ")))"
    }

    private static func text(_ columns: [Column]) -> String {
        "ROW(\(columns.map { "t.\(quoteIdentifier($0.name))" }.joined(separator: ", ")))::text COLLATE \"C\""
    }

    /// The rows that a fingerprint is computed from.
    public struct Request: Sendable {
        let table: ObjectIdentity
        let columns: [Column]
        let condition: String?
        let isPartitioned: Bool

        /// - Parameters:
        ///   - table: the table. Rows of its child tables are not read. For a partitioned table, the rows of all
        ///     partitions are read if `isPartitioned` is set.
        ///   - columns: the columns, in the order in which they are hashed.
        ///   - condition: selects rows of the table, whose alias is `t`; nil: all rows.
        public init(
            _ table: ObjectIdentity, columns: [Column], where condition: String? = nil, isPartitioned: Bool = false
        ) {
            self.table = table
            self.columns = columns
            self.condition = condition
            self.isPartitioned = isPartitioned
        }
    }

    /// Computes several fingerprints with one query, in the snapshot of the open transaction. Call `pinSettings` first.
    ///
    /// - Throws: `PostgresError`, with SQLSTATE 42501 if row-level security would hide rows.
    public static func read(
        _ requests: [Request], on connection: isolated Connection
    ) throws -> [ContentFingerprint] {
        // Version 13 cannot hash records, so all columns are hashed as one text.
        let isOld = connection.serverVersion < 140_000
        let selects = requests.enumerated().map { select($1, number: $0, isOld: isOld) }
        var prints: [Int: ContentFingerprint] = [:]
        for row in try connection.query(selects.joined(separator: " UNION ALL ")) {
            let halves = (try half(row.get(2, as: String?.self)), try half(row.get(3, as: String?.self)))
            prints[try row.get(0)] = ContentFingerprint(rows: try row.get(1), halves: halves)
        }
        return try requests.indices.map { number in
            guard let print = prints[number] else { throw PostgresError(.badValue, "an aggregate returned no row") }
            return print
        }
    }

    /// Computes one fingerprint.
    ///
    /// - Throws: the same errors as the function for several fingerprints.
    public static func read(
        _ request: Request, on connection: isolated Connection
    ) throws -> ContentFingerprint {
        try read([request], on: connection)[0]
    }

    private static func select(_ request: Request, number: Int, isOld: Bool) -> String {
        // The hash of a record is a weighted sum of the hashes of its columns. That sum is hashed again, so that the
        // sum over all rows changes when two rows exchange values.
        func hash(_ seed: Int) -> String {
            isOld ? "hashtextextended(r, \(seed))" : "hashint8extended(hash_record_extended(r, \(seed)), \(seed))"
        }
        let rows = "\(request.isPartitioned ? "" : "ONLY ")\(request.table.path) t"
        // OFFSET 0 keeps the subquery separate, so that the record is computed once for both hashes.
        return """
            SELECT \(number), count(*), mod(sum(\(hash(0))), 18446744073709551616)::text,
                mod(sum(\(hash(1))), 18446744073709551616)::text
            FROM (SELECT \(isOld ? text(request.columns) : record(request.columns)) AS r
                FROM \(rows)\(request.condition.map { " WHERE \($0)" } ?? "") OFFSET 0) s
            """
    }

    /// Returns the fingerprint of the rows of both operands together.
    public static func + (one: ContentFingerprint, other: ContentFingerprint) -> ContentFingerprint {
        let (ours, theirs) = (one.halves, other.halves)
        return ContentFingerprint(
            rows: one.rows + other.rows, halves: (ours.0 &+ theirs.0, ours.1 &+ theirs.1))
    }

    private var halves: (UInt64, UInt64) {
        (UInt64(digest.prefix(16), radix: 16) ?? 0, UInt64(digest.suffix(16), radix: 16) ?? 0)
    }

    /// Parses a number between -2^64 and 2^64, and returns it modulo 2^64.
    private static func half(_ number: String?) throws -> UInt64 {
        guard let number else { return 0 }
        let isNegative = number.hasPrefix("-")
        guard let magnitude = UInt64(isNegative ? String(number.dropFirst()) : number) else {
            throw PostgresError(.badValue, "'\(number)' is not a sum of hashes")
        }
        return isNegative ? 0 &- magnitude : magnitude
    }

    private static func hex(_ half: UInt64) -> String {
        let digits = String(half, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
