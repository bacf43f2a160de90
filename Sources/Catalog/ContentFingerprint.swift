import Postgres

/// What a table holds, in 128 bits that do not depend on the order of the rows: two tables with equal fingerprints hold
/// the same rows, but for a chance of about 2^-128.
///
/// Each row is hashed twice, with two seeds, by PostgreSQL's own hash for hash partitions, whose values stay the same from
/// version to version; the hashes are added up modulo 2^64. Columns whose equal values are always spelled the same (integers,
/// text, instants …) are hashed as they are, others (numeric, json, floats …) as their text. It guards against corruption and
/// mistakes, not against somebody who makes up rows to fit.
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
        "SET LOCAL lc_monetary = 'C'", "SET LOCAL row_security = off", "SET LOCAL search_path = ''",
    ]

    /// Sets that for the rest of the open transaction.
    public static func pinSettings(on connection: isolated Connection) throws {
        // Somebody may have put a view in the place of a table since it was listed.
        let views =
            connection.canRefuseViews
            ? ["SET LOCAL restrict_nonsystem_relation_kind = 'view, foreign-table'"] : []
        try connection.execute((settings + views).joined(separator: "; "))
    }

    /// A column, with how it is hashed.
    public struct Column: Sendable, Hashable {
        let name: String
        /// By its type's own hash, or by its text.
        let isHashedAsItIs: Bool
        private let isText: Bool

        /// - Parameter type: as `format_type` spells it, without modifiers.
        public init(_ name: String, type: String) {
            self.name = name
            isHashedAsItIs = Self.exact.contains(type)
            isText = ["text", "character varying"].contains(type)
        }

        /// Types whose equal values have one spelling and, in the collation C, one hash.
        private static let exact: Set<String> = [
            "smallint", "integer", "bigint", "boolean", "uuid", "text", "character varying", "bytea", "date",
            "timestamp with time zone", "timestamp without time zone",
        ]

        var expression: String {
            let column = "t.\(quoteIdentifier(name))"
            return isText ? "\(column) COLLATE \"C\"" : column
        }
    }

    /// A record of the columns: those that are hashed as they are, and one text of all the others, which their types' own
    /// output functions spell.
    private static func record(_ columns: [Column]) -> String {
        let exact = columns.filter(\.isHashedAsItIs).map(\.expression)
        let others = columns.filter { !$0.isHashedAsItIs }
        let all = others.isEmpty && !exact.isEmpty ? exact : exact + [text(others)]
        return "ROW(\(all.joined(separator: ", ")))"
    }

    private static func text(_ columns: [Column]) -> String {
        "ROW(\(columns.map { "t.\(quoteIdentifier($0.name))" }.joined(separator: ", ")))::text COLLATE \"C\""
    }

    /// Rows that are read.
    public struct Request: Sendable {
        let table: ObjectIdentity
        let columns: [Column]
        let condition: String?
        let isPartitioned: Bool

        /// - Parameters:
        ///   - table: only its own rows, not those of children; for a partitioned table, the rows of all partitions.
        ///   - columns: in the order in which they are hashed.
        ///   - condition: selects rows of the table, which is called `t`; nil: all rows.
        public init(
            _ table: ObjectIdentity, columns: [Column], where condition: String? = nil, isPartitioned: Bool = false
        ) {
            self.table = table
            self.columns = columns
            self.condition = condition
            self.isPartitioned = isPartitioned
        }
    }

    /// Reads several fingerprints in one round trip, at the open transaction's snapshot; call `pinSettings` before.
    ///
    /// - Parameter role: with whose rights, as `Connection.withQuery` explains; nil: with those of the session.
    /// - Throws: `PostgresError`: 42501 where row-level security would hide rows.
    public static func read(
        _ requests: [Request], as role: String? = nil, on connection: isolated Connection
    ) throws -> [ContentFingerprint] {
        // Version 13 cannot hash records.
        let isOld = connection.serverVersion < 140_000
        let selects = requests.enumerated().map { select($1, number: $0, isOld: isOld) }
        var prints: [Int: ContentFingerprint] = [:]
        for row in try rows(of: selects.joined(separator: " UNION ALL "), as: role, on: connection) {
            let halves = try [2, 3].map { try half(row.get($0, as: String?.self)) }
            prints[try row.get(0)] = ContentFingerprint(rows: try row.get(1), digest: halves.map(hex).joined())
        }
        return try requests.indices.map { number in
            guard let print = prints[number] else { throw PostgresError(.badValue, "an aggregate returned no row") }
            return print
        }
    }

    /// Reads one.
    ///
    /// - Throws: as for several.
    public static func read(
        _ request: Request, as role: String? = nil, on connection: isolated Connection
    ) throws -> ContentFingerprint {
        try read([request], as: role, on: connection)[0]
    }

    private static func rows(
        of query: String, as role: String?, on connection: isolated Connection
    ) throws -> Rows {
        guard let role else { return try connection.query(query) }
        let type = "TABLE (number pg_catalog.int4, rows pg_catalog.int8, one pg_catalog.text, other pg_catalog.text)"
        return try connection.withQuery(query, returning: type, as: role) {
            try connection.query("SELECT * FROM \($0)")
        }
    }

    private static func select(_ request: Request, number: Int, isOld: Bool) -> String {
        // A record's hash is a weighted sum of its columns': hashed once more, so that rows that exchange values differ.
        func hash(_ seed: Int) -> String {
            isOld ? "hashtextextended(r, \(seed))" : "hashint8extended(hash_record_extended(r, \(seed)), \(seed))"
        }
        let rows = "\(request.isPartitioned ? "" : "ONLY ")\(request.table.path) t"
        // OFFSET 0: the record is made once for both hashes.
        return """
            SELECT \(number), count(*), mod(sum(\(hash(0))), 18446744073709551616)::text,
                mod(sum(\(hash(1))), 18446744073709551616)::text
            FROM (SELECT \(isOld ? text(request.columns) : record(request.columns)) AS r
                FROM \(rows)\(request.condition.map { " WHERE \($0)" } ?? "") OFFSET 0) s
            """
    }

    /// That of the rows of both.
    public static func + (one: ContentFingerprint, other: ContentFingerprint) -> ContentFingerprint {
        let sums = zip(one.halves, other.halves).map { $0 &+ $1 }
        return ContentFingerprint(rows: one.rows + other.rows, digest: sums.map(hex).joined())
    }

    private var halves: [UInt64] {
        [digest.prefix(16), digest.suffix(16)].map { UInt64($0, radix: 16) ?? 0 }
    }

    /// A number between -2^64 and 2^64, negative ones from the top.
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
