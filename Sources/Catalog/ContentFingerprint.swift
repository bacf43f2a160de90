import Postgres

/// What a table holds, in 128 bits that do not depend on the order of the rows: two tables with equal fingerprints hold
/// the same rows, but for a chance of about 2^-128.
///
/// Each row's text is hashed twice, with two seeds, by PostgreSQL's own hash for hash partitions, whose values stay the
/// same from version to version; the hashes are added up modulo 2^64. It guards against corruption and mistakes, not
/// against somebody who makes up rows to fit.
public struct ContentFingerprint: Sendable, Hashable, CustomStringConvertible {
    public let rows: Int
    /// 32 hexadecimal digits.
    public let digest: String

    public var description: String { "\(rows) rows, \(digest)" }

    public init(rows: Int, digest: String) {
        self.rows = rows
        self.digest = digest
    }

    /// What must be set so that values are spelled the same everywhere.
    public static let settings = [
        "SET LOCAL datestyle = 'ISO, MDY'", "SET LOCAL intervalstyle = postgres", "SET LOCAL timezone = 'UTC'",
        "SET LOCAL extra_float_digits = 1", "SET LOCAL bytea_output = hex", "SET LOCAL xmlbinary = base64",
        "SET LOCAL lc_monetary = 'C'", "SET LOCAL row_security = off",
    ]

    /// Reads a table's fingerprint, in the open transaction, whose snapshot it is of; pins what it needs for the rest of
    /// that transaction.
    ///
    /// - Parameters:
    ///   - table: its own rows, without those of children; of a partitioned table those of all partitions.
    ///   - columns: their names, in the order that counts.
    /// - Throws: `PostgresError`: 42501 where row-level security would hide rows.
    public static func read(
        _ table: ObjectIdentity, columns: [String], isPartitioned: Bool = false, on connection: isolated Connection
    ) throws -> ContentFingerprint {
        for statement in settings { try connection.execute(statement) }
        let list = columns.map { "t.\(quoteIdentifier($0))" }.joined(separator: ", ")
        let text = "ROW(\(list))::text COLLATE \"C\""
        let row = try connection.query(
            """
            SELECT count(*), mod(sum(hashtextextended(\(text), 0)), 18446744073709551616)::text,
                mod(sum(hashtextextended(\(text), 1)), 18446744073709551616)::text
            FROM \(isPartitioned ? "" : "ONLY ")\(table.path) t
            """
        ).first
        guard let row else { throw PostgresError(.badValue, "an aggregate without a row") }
        let halves = try [1, 2].map { try hex(row.get($0, as: String?.self)) }
        return ContentFingerprint(rows: try row.get(0), digest: halves.joined())
    }

    /// A number between -2^64 and 2^64 as 16 digits, negative ones from the top.
    private static func hex(_ number: String?) throws -> String {
        guard let number else { return String(repeating: "0", count: 16) }
        let isNegative = number.hasPrefix("-")
        guard let magnitude = UInt64(isNegative ? String(number.dropFirst()) : number) else {
            throw PostgresError(.badValue, "'\(number)' is no sum of hashes")
        }
        let digits = String(isNegative ? 0 &- magnitude : magnitude, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
